"""An ordinary run of a small script that adds up a tensor over all hosts: does training's own traffic
get through, and how fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import frameworks
from ..fleet.findings import Finding, found
from ..fleet.findings.pair import rate_text
from ..frameworks import Cast
from ..records.receipt import Receipt
from ..spec.errors import FrameworkMissing, LauncherError
from ..spec.model import Inventory, Job, Resources, Role
from .execute import execute
from .requests import make_request

MARK = b"launcher-smoke "
#: Seconds of adding up.
SECONDS = 10.0
_SCRIPTS = Path(__file__).parent / "allreduce"
_AFTER_SETUP = (
    "the job's setup: may bring it, and is no part of this: launcher run tells, or install it there"
)
_WITH_TORCH = "launcher check --smoke without --job tries these hosts with torch"


def smoke(
    job: Job | None,
    inventory: Inventory,
    hosts: Sequence[str],
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda doing: None,
) -> Finding:
    """The finding that the run is; its record stays among the others, as ``smoke-...``."""
    base = job or Job(run=("x",), resources=Resources(nproc_per_node=1))
    smoke_job = job_of(base, hosts, seconds)
    if smoke_job is None:
        why = f"framework {base.framework} has no all-reduce of its own that could be tried"
        return found("SMOKE-UNTRIED", hosts, why, _WITH_TORCH)
    progress(f"an all-reduce over {len(hosts)} hosts")
    heard: dict[str, bytes] = {}

    def on_log(host: str, name: str, data: bytes) -> None:
        heard[host + name] = heard.get(host + name, b"") + data

    try:
        receipt = execute(make_request(smoke_job, inventory), on_log=on_log)
    except LauncherError as error:
        return found("SMOKE-FAILED", hosts, str(error), error.hint)
    told = [json.loads(text.partition(MARK)[2].splitlines()[0])
            for text in heard.values() if MARK in text]  # fmt: skip
    for one in told:
        if "lacking" in one:
            what = " ".join(one["lacking"].split())
            return found("SMOKE-UNTRIED", hosts, f"a host lacks {what}", _WITH_TORCH)
    if told and receipt.status == "succeeded":
        return _told(hosts, told[0])
    if base.setup and _lacks_something(receipt):
        return replace(_failed(hosts, receipt, "SMOKE-UNTRIED"), fix=_AFTER_SETUP)
    return _failed(hosts, receipt)


def job_of(base: Job, hosts: Sequence[str], seconds: float) -> Job | None:
    """The same framework, environment and processes, another script, once. None where the framework has
    nothing to add up with. Roles are left out, with what they would run, unless it has to have some."""
    framework = frameworks.get(base.framework)
    library = framework.allreduce
    if library is None:
        return None
    words = (f"with_{library}.py", str(seconds))
    return replace(
        base,
        run=(f"python {' '.join(words)}",) if framework.shell else words,
        shell=framework.shell,
        name="smoke",
        workdir=str(_SCRIPTS),
        hosts=",".join(hosts),
        num_nodes=None if base.roles else base.num_nodes,  # else: all that are named
        roles=_roles(framework.cast, len(hosts)),
        setup=None,
        outputs=(),
        secrets={},
        max_restarts=0,
        min_nodes=None,
        elastic=None,
    )


def _roles(cast: Cast | None, hosts: int) -> tuple[Role, ...]:
    """Those that a framework cannot do without: one of each a host, where there may be as many."""
    if cast is None:
        return ()
    return tuple(Role(name, cast.most[name] or hosts, spread=True) for name in cast.needs)


def _told(hosts: Sequence[str], told: dict[str, Any]) -> Finding:
    if not told["right"]:
        return found("SMOKE-FAILED", hosts, "the sum was wrong", "test the memory of these hosts")
    what = f"{told['count']} {told['what']} of {told['bytes'] / 1e6:.0f} MB"
    if told["ranks"] == 1:
        return found("SMOKE", hosts, f"{what} by {told['backend']}; one rank has nobody to meet")
    speed = f"{rate_text(told['bandwidth'])} on the bus, {told['each'] * 1000:.1f} ms each"
    over = f"over {told['ranks']} ranks by {told['backend']}, {told['seconds']:.0f} s"
    return found("SMOKE", hosts, f"{speed}: {what} {over}")


def _lacks_something(receipt: Receipt) -> bool:
    words = "".join(receipt.failure.last_lines) if receipt.failure else ""
    return receipt.reason == FrameworkMissing.code or "No module named" in words


def _failed(hosts: Sequence[str], receipt: Receipt, code: str = "SMOKE-FAILED") -> Finding:
    first = receipt.failure
    where = f"{first.host} {first.key} {first.meaning}" if first else receipt.error
    why = (first.cause or (first.last_lines[-1:] and first.last_lines[-1])) if first else ""
    return found(
        code,
        hosts,
        "; ".join(part for part in (f"{receipt.status} ({receipt.reason})", where, why) if part),
        (first.hint if first else receipt.hint) or f"launcher show {receipt.run}",
    )
