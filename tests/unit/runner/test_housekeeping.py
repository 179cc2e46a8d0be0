"""What is old enough to delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launcher.runner import housekeeping
from launcher.runner.housekeeping import CacheHere, Here, HostPlan, PrunePlan, RunHere, There
from launcher.runner.kept_notes import Note
from launcher.spec.errors import HostError
from launcher.transport.answers.disk import (
    Usage,
    UsedByAgent,
    UsedByCode,
    UsedByEnvironment,
    UsedByRun,
)

NOW, OLD = 1_000_000.0, 500_000.0
OURS = "agent-ff"


def run(name: str, ended: float | None = 1.0, *, left: bool = False, outputs: int = 0) -> RunHere:
    return RunHere(name, 100, outputs, ended, ("gpu1",), left)


def plan(
    runs: Sequence[RunHere],
    hosts: There,
    before: float,
    caches: Sequence[CacheHere] = (),
    notes: Sequence[Note] = (),
    **more: Any,
) -> PrunePlan:
    return housekeeping.plan(
        Here(0, 0, tuple(runs), tuple(caches), tuple(notes)), hosts, before, **more
    )


def there(*runs: str, alive: bool = False) -> Usage:
    return Usage(
        free=0,
        code=(UsedByCode("aa", "01", 1000, 1.0), UsedByCode("aa", "02", 2000, NOW)),
        runs=tuple(UsedByRun(name, 10, 1.0, alive) for name in runs),
        agents=(
            UsedByAgent(OURS, 5, in_use=False),
            UsedByAgent("agent-01", 5, in_use=True),
            UsedByAgent("agent-02", 7, in_use=False),
        ),
    )


def test_old_runs_go_here_and_there_with_old_code_and_agents() -> None:
    here = [run("old"), run("new", NOW), run("active", None)]
    found = plan(here, {"gpu1": there("old", "new", "active")}, OLD, agent=OURS)
    assert found.here == ("old",)
    expected = HostPlan(("old",), (("aa", "01"),), ("agent-02",), False, 10 + 1000 + 7)
    assert found.hosts == {"gpu1": expected}
    assert found.total == 100 + 1017


def test_runs_with_files_on_hosts_alone_stay() -> None:
    found = plan([run("kept", left=True)], {"gpu1": there("kept")}, OLD, agent=OURS)
    assert (found.here, found.kept, found.hosts["gpu1"].runs) == ((), ("kept",), ())


def test_runs_stay_whose_hosts_were_not_asked() -> None:
    silent = HostError("gpu1", "no answer")
    found = plan([run("old")], {"gpu1": silent}, OLD, agent=OURS)
    assert (found.here, found.unreached, found.hosts) == ((), ("old",), {})


def test_outputs_here_can_be_kept() -> None:
    found = plan(
        [run("old", outputs=9)], {"gpu1": there("old")}, OLD, keep_outputs=True, agent=OURS
    )
    assert (found.here, found.hosts["gpu1"].runs) == ((), ("old",))


def test_runs_that_nobody_here_knows_go_on_request_only() -> None:
    hosts = {"gpu1": there("stranger")}
    assert plan([], hosts, OLD, agent=OURS).unknown == 1
    asked = plan([], hosts, OLD, unknown=True, agent=OURS)
    assert (asked.unknown, asked.hosts["gpu1"].runs) == (0, ("stranger",))
    alive = {"gpu1": there("stranger", alive=True)}
    assert plan([], alive, OLD, unknown=True, agent=OURS).hosts["gpu1"].runs == ()


def test_old_environments_go_unless_a_run_uses_them() -> None:
    old, used, new = ("a" * 20, "b" * 20, "c" * 20)
    envs = (
        UsedByEnvironment(old, 50, 1.0, False),
        UsedByEnvironment(used, 60, 1.0, True),
        UsedByEnvironment(new, 70, NOW, False),
    )
    found = plan([], {"gpu1": Usage(0, (), (), (), envs=envs)}, OLD, agent=OURS)
    assert found.hosts == {"gpu1": HostPlan(envs=(old,), bytes=50)}
