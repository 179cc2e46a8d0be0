"""An ordinary run of a small all-reduce over all hosts: does training traffic get through, how fast?"""

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
#: Seconds of all-reduces.
SECONDS = 10.0
_SCRIPTS = Path(__file__).parent / "allreduce"
_AFTER_SETUP = (
    "the job's setup: may install it, and does not run here: try launcher run, or install it there"
)
_WITH_TORCH = "launcher check --smoke without --job tries these hosts with torch"


def smoke(
    job: Job | None,
    inventory: Inventory,
    hosts: Sequence[str],
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda doing: None,
) -> Finding:
    """Run an all-reduce for ``seconds`` and return a finding. Its record stays, as ``smoke-...``."""
    base = job or Job(run=("x",), resources=Resources(nproc_per_node=1))
    smoke_job = job_of(base, hosts, seconds)
    if smoke_job is None:
        why = f"framework {base.framework} has no all-reduce of its own to try"
        return found("SMOKE-UNTRIED", hosts, why, _WITH_TORCH)
    progress(f"an all-reduce over {len(hosts)} hosts")
    logs: dict[str, bytes] = {}

    def on_log(host: str, name: str, data: bytes) -> None:
        logs[host + name] = logs.get(host + name, b"") + data

    try:
        receipt = execute(make_request(smoke_job, inventory), on_log=on_log)
    except LauncherError as error:
        return found("SMOKE-FAILED", hosts, str(error), error.hint)
    reports = [_report(log) for log in logs.values() if MARK in log]
    for report in reports:
        if "missing" in report:
            what = " ".join(report["missing"].split())
            return found("SMOKE-UNTRIED", hosts, f"a host lacks {what}", _WITH_TORCH)
    if reports and receipt.status == "succeeded":
        return _measured(hosts, reports[0])
    if base.setup and _lacks_something(receipt):
        return replace(_failed(hosts, receipt, "SMOKE-UNTRIED"), fix=_AFTER_SETUP)
    return _failed(hosts, receipt)


def job_of(base: Job, hosts: Sequence[str], seconds: float) -> Job | None:
    """Return a job like ``base`` that runs an all-reduce once; None if its framework has none.

    Framework, environment and number of processes stay. Roles are left out, unless the framework
    needs some.
    """
    framework = frameworks.get(base.framework)
    library = framework.allreduce
    if library is None:
        return None
    command = (f"with_{library}.py", str(seconds))
    return replace(
        base,
        run=(f"python {' '.join(command)}",) if framework.shell else command,
        shell=framework.shell,
        name="smoke",
        workdir=str(_SCRIPTS),
        hosts=",".join(hosts),
        num_nodes=None if base.roles else base.num_nodes,  # None: all hosts
        roles=_roles(framework.cast, len(hosts)),
        setup=None,
        outputs=(),
        secrets={},
        max_restarts=0,
        min_nodes=None,
        elastic=None,
    )


def _roles(cast: Cast | None, hosts: int) -> tuple[Role, ...]:
    """Return the roles that a framework needs: one of each per host, as far as it allows."""
    if cast is None:
        return ()
    return tuple(Role(name, cast.most[name] or hosts, spread=True) for name in cast.needs)


def _report(log: bytes) -> dict[str, Any]:
    """Return what allreduce/measure.py reported in a log."""
    line = log.partition(MARK)[2].splitlines()[0]
    return dict(json.loads(line))


def _measured(hosts: Sequence[str], report: dict[str, Any]) -> Finding:
    if not report["right"]:
        return found("SMOKE-FAILED", hosts, "the sum was wrong", "test the memory of these hosts")
    what = f"{report['count']} {report['what']} of {report['bytes'] / 1e6:.0f} MB"
    if report["ranks"] == 1:
        return found("SMOKE", hosts, f"{what} by {report['backend']}; only one rank took part")
    speed = f"{rate_text(report['bandwidth'])} on the bus, {report['each'] * 1000:.1f} ms each"
    over = f"over {report['ranks']} ranks by {report['backend']}, {report['seconds']:.0f} s"
    return found("SMOKE", hosts, f"{speed}: {what} {over}")


def _lacks_something(receipt: Receipt) -> bool:
    output = "".join(receipt.failure.last_lines) if receipt.failure else ""
    return receipt.reason == FrameworkMissing.code or "No module named" in output


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
