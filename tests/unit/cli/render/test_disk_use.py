"""Tables of disk space."""

from __future__ import annotations

from launcher.api.housekeeping import Here, HostPlan, PrunePlan, RunHere
from launcher.cli.render.disk_use import plan_text, usage_text
from launcher.transport.answers.disk import Usage, UsedByEnvironment, UsedByRun

HERE = Here(5_000, 9_000, (RunHere("a-1", 4_000, 3_000, 1.0, ("gpu1",), False),))


def test_64_hosts_fit_on_a_screen_the_largest_first() -> None:
    there = {
        f"node{n:02d}": Usage(n, (), (UsedByRun("a-1", n * 1000, 1.0, False),), ())
        for n in range(64)
    }
    lines = usage_text(HERE, there).splitlines()
    assert len(lines) == 1 + 1 + 16 + 2
    assert lines[2].startswith("node63")
    assert lines[-1].startswith("and 48 more, 1.1 MB together: ")
    assert max(map(len, lines)) <= 80


def test_data_sets_count() -> None:
    lines = usage_text(HERE, {"gpu1": Usage(9, (), (), (), data=5_000_000)}).splitlines()
    assert lines[0].split() == ["place", "total", "free", "runs", "code", "agents", "data"]
    assert lines[2].split()[:3] == ["gpu1", "5.0", "MB"]
    assert lines[2].endswith("5.0 MB")


def test_equal_hosts_are_one_line_and_what_stays_is_said() -> None:
    one = HostPlan(("a-1",), (("aa", "01"),), (), False, 1_000)
    hosts = {f"node{n:02d}": one for n in range(64)}
    text = plan_text(PrunePlan(("a-1",), 500, hosts, ("b-2",), (), 3))
    assert text.splitlines() == [
        "here: 1 run, 500 B: a-1",
        "node[00-63]: 1 run, 1 version of code, 1.0 kB",
        "64.5 kB in all",
        "stays: b-2: hosts have files that were never brought back (launcher pull, or launcher rm -y)",
        "stays: 3 run folders on hosts that this machine has no record of (--unknown)",
    ]
    assert plan_text(PrunePlan()) == "nothing to delete"


def test_environments_are_a_column_where_there_are_some() -> None:
    envs = (UsedByEnvironment("a" * 20, 2_000_000, 1.0, False),)
    lines = usage_text(HERE, {"gpu1": Usage(9, (), (), (), envs=envs)}).splitlines()
    assert lines[0].endswith("data  environments")
    assert lines[2].endswith("1: 2.0 MB")
    text = plan_text(PrunePlan(hosts={"gpu1": HostPlan(envs=("a" * 20,), bytes=2_000_000)}))
    assert text.splitlines()[0] == "gpu1: 1 environment, 2.0 MB"
