"""An ordinary run of a small script that adds up a tensor over all hosts: does training's own traffic
get through, and how fast.

Not responsible for how a run goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .. import api, frameworks
from ..errors import LauncherError
from ..findings import Finding, found
from ..findings.pair import rate_text
from ..model import Inventory, Job, Resources
from ..receipt import Receipt

MARK = b"launcher-smoke "
#: Seconds of adding up.
SECONDS = 10.0


def smoke(
    job: Job | None,
    inventory: Inventory,
    hosts: Sequence[str],
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda doing: None,
) -> Finding:
    """The finding that the run is; its record stays among the others, as ``smoke-...``."""
    progress(f"an all-reduce over {len(hosts)} hosts")
    heard: dict[str, bytes] = {}

    def on_log(host: str, name: str, data: bytes) -> None:
        heard[host + name] = heard.get(host + name, b"") + data

    try:
        receipt = api.run_job(_job(job, hosts, seconds), inventory, on_log=on_log)
    except LauncherError as error:
        return found("SMOKE-FAILED", hosts, str(error), error.hint)
    for text in heard.values():
        if receipt.status == "succeeded" and MARK in text:
            line = text.partition(MARK)[2].splitlines()[0]
            return _told(hosts, json.loads(line))
    return _failed(hosts, receipt)


def _job(job: Job | None, hosts: Sequence[str], seconds: float) -> Job:
    """The same framework, environment and processes, another script."""
    base = job or Job(run=("x",), resources=Resources(nproc_per_node=1))
    words = ("allreduce.py", str(seconds))
    shell = frameworks.get(base.framework).shell
    return replace(
        base,
        run=(f"python {' '.join(words)}",) if shell else words,
        shell=shell,
        name="smoke",
        workdir=str(Path(__file__).parent.parent / "shipped"),
        hosts=",".join(hosts),
        num_nodes=len(hosts),
        setup=None,
        outputs=(),
        secrets={},
    )


def _told(hosts: Sequence[str], told: dict[str, float]) -> Finding:
    if not told["right"]:
        return found("SMOKE-FAILED", hosts, "the sum was wrong", "test the memory of these hosts")
    speed = f"{rate_text(told['bandwidth'])} on the bus, {told['each'] * 1000:.1f} ms each"
    what = f"{told['count']} all-reduces of {told['bytes'] / 1e6:.0f} MB over {told['ranks']} ranks"
    return found("SMOKE", hosts, f"{speed}: {what} by {told['backend']}, {told['seconds']:.0f} s")


def _failed(hosts: Sequence[str], receipt: Receipt) -> Finding:
    first = receipt.failure
    where = f"{first.host} {first.key} {first.meaning}" if first else receipt.error
    why = (first.cause or (first.last_lines[-1:] and first.last_lines[-1])) if first else ""
    return found(
        "SMOKE-FAILED",
        hosts,
        "; ".join(part for part in (f"{receipt.status} ({receipt.reason})", where, why) if part),
        (first.hint if first else receipt.hint) or f"launcher show {receipt.run}",
    )
