"""Which events and logs are a host's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.runner.session.belongings import Belongings
from launcher.spec.model import Host, Job, Layout, Node, Role, Task

JOB = Job(run=("x",), roles=(Role("worker", 2), Role("chief", primary=True)))


def layout(*names: str) -> Layout:
    """Two ranks on each host."""
    return Layout("run", tuple(Node(Host(n), i, 2, 2 * i) for i, n in enumerate(names)))


def second(is_elastic: bool = False) -> Belongings:
    """Those of the second of two hosts, in attempt 1."""
    own = Belongings("b", replace(JOB, elastic=1 if is_elastic else None))
    own.place(0, layout("a", "c"), {})
    own.place(1, layout("a", "b"), {"attempt-0/rank-2": "c"})
    return own


@pytest.mark.parametrize(
    "name",
    ["attempt-1/rank-2.out", "attempt-1/rank-3.err", "attempt-1/node-1.out", "attempt-1/setup-1.err",
     "attempt-0/setup-1.out", "metrics.jsonl", "live/board/events.out.tfevents.1.gpu1.7.0",
     "live/wandb/offline-run-1/run-x.wandb"],
)  # fmt: skip
def test_a_host_may_send_its_own_logs(name: str) -> None:
    assert second().wrong_log(name) == ""


@pytest.mark.parametrize(
    "name",
    ["attempt-1/rank-0.out", "attempt-1/rank-4.out", "attempt-0/rank-2.out", "attempt-2/rank-2.out",
     "attempt-1/rank-2", "attempt-1/../rank-2.out", "../x", "", "attempt-1/rank-2.out/x",
     "attempt-1/rank-2.out\n", "attempt-99999999/rank-2.out", "live/../a.tfevents.1", "live//etc/a.tfevents.1",
     "live/a/../../b.tfevents.1", "live/model.pt", "live/", "live/a.tfevents.1/", "live/a\nb.tfevents.1",
     "live/./a.tfevents.1", "a.tfevents.1", "live/" + 500 * "0123456789" + ".tfevents.1"],
)  # fmt: skip
def test_a_host_may_send_no_other_log(name: str) -> None:
    assert second().wrong_log(name)


def test_elastic_ranks_move_between_hosts() -> None:
    assert second(is_elastic=True).wrong_log("attempt-1/rank-0.out") == ""
    assert second(is_elastic=True).wrong_log("attempt-1/rank-4.out")


def test_a_host_speaks_of_its_own_processes_in_attempts_that_have_begun() -> None:
    own = second()
    assert own.wrong_event(ev.ProcessExited(1.0, "b", 1, "rank-3", 3, 0)) == ""
    assert own.wrong_event(ev.HostEnded(1.0, "b", 0, 1, 0)) == ""
    assert own.wrong_event(ev.ProcessExited(1.0, "b", 1, "rank-3", 2, 0)), "rank of another"
    assert own.wrong_event(ev.ProcessExited(1.0, "b", 1, "rank-1", 1, 0)), "of another host"
    assert own.wrong_event(ev.StallEnded(1.0, "b", 3.0, 2)), "not begun"
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 1, "rank", 0, 3)), "no process"


def test_tasks_of_roles_have_their_own_rank() -> None:
    node = Node(Host("b"), 0, 2, 0, tasks=(Task("worker", 1, 3),))
    own = Belongings("b", JOB)
    own.place(0, Layout("run", (node,)), {})
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 0, "worker-1", 3, 9)) == ""
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 0, "worker-1", 0, 9))
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 0, "worker-0", 3, 9))


def test_a_host_tells_of_few_processes_of_attempts_that_are_not_known_here() -> None:
    """Its logs would be files without end."""
    own = Belongings("b", JOB)
    own.rejoin(layout("a", "b"), 2, 2, {"attempt-0/rank-0": "a"})
    assert own.wrong_log("attempt-0/rank-0.out")
    assert own.wrong_log("attempt-3/rank-2.out"), "has not begun"
    fine = [n for n in range(10_000) if not own.wrong_log(f"attempt-1/rank-{n}.out")]
    assert 4 <= len(fine) < 200


def test_a_spare_that_was_being_set_up_is_ahead() -> None:
    own = Belongings("c", JOB)
    own.rejoin(layout("a", "b"), 0, 3, {})
    assert own.wrong_log("attempt-1/setup-1.out") == ""
    assert own.wrong_log("attempt-4/setup-1.out")


def test_only_processes_of_a_primary_role_end_a_run() -> None:
    nodes = (Node(Host("b"), 0, 2, 0, tasks=(Task("chief", 0, 0), Task("worker", 1, 1))),)
    own = Belongings("b", JOB)
    own.place(0, Layout("run", nodes), {})
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 0, "chief-0", 0, 9, primary=1)) == ""
    assert own.wrong_event(ev.ProcessStarted(1.0, "b", 0, "worker-1", 1, 9, primary=1))


def test_a_stop_arises_on_a_host_of_the_run() -> None:
    stop = ev.StopRequested(1.0, StopReason.PROCESS_FAILED, "b", attempt=1)
    assert second().wrong_event(replace(stop, origin="c")) == ""
    assert second().wrong_event(replace(stop, origin="elsewhere"))


def test_only_the_one_host_of_a_run_starts_it_by_itself() -> None:
    alone = Belongings("a", JOB)
    alone.place(0, layout("a"), {})
    for event in (ev.WaitsOnHost(1.0, "a"), ev.BegunThere(1.0, "a", 0, 1.0, (0,), (20_000,))):
        assert alone.wrong_event(event) == ""
        assert second().wrong_event(event)


def waiting(host: str) -> Belongings:
    """Those of a host of a run that begins on two of three."""
    own = Belongings(host, JOB)
    own.place(0, replace(layout("a", "b", "c"), wanted=2), {})
    return own


def test_hosts_that_may_be_chosen_may_have_any_of_the_ranks() -> None:
    own = waiting("c")
    for name in ("rank-0", "rank-3", "node-1", "setup-2"):
        assert own.wrong_log(f"attempt-0/{name}.out") == ""
    for name in ("rank-4", "node-2", "setup-0"):
        assert own.wrong_log(f"attempt-0/{name}.out")


def test_a_host_begins_for_itself_or_as_one_that_has_chosen_others() -> None:
    def begun(host: str, *hosts: str) -> ev.BegunThere:
        return ev.BegunThere(1.0, host, 0, 1.0, (0,), (20_000,), hosts)

    assert waiting("c").wrong_event(begun("c", "b", "c")) == ""
    assert waiting("a").wrong_event(begun("a", "b", "c")) == ""
    assert waiting("c").wrong_event(begun("c", "a", "b")) == "", (
        "it may lead once the first is gone"
    )
    for hosts in (("c",), ("a", "b", "c"), ("c", "d"), ("c", "c")):
        assert waiting("c").wrong_event(begun("c", *hosts)), hosts
    for hosts in (("a", "b", "c"), ("a", "c")):
        assert waiting("a").wrong_event(ev.WaitsOnHosts(1.0, "a", hosts, wanted=2)) == ""
    assert waiting("b").wrong_event(ev.WaitsOnHosts(1.0, "b", ("a", "b", "c"), wanted=2))


def test_an_elastic_run_begins_on_any_number_that_it_may() -> None:
    own = Belongings("c", replace(JOB, elastic=1))
    own.place(0, replace(layout("a", "b", "c", "d"), wanted=1, most=3), {})
    for hosts in (("c",), ("b", "c"), ("a", "b", "c")):
        assert own.wrong_event(ev.BegunThere(1.0, "c", 0, 1.0, (0,), (20_000,), hosts)) == ""
    every = ("a", "b", "c", "d")
    assert own.wrong_event(ev.BegunThere(1.0, "c", 0, 1.0, (0,), (20_000,), every))
    for name, is_wrong in (
        ("rank-5", False),
        ("node-2", False),
        ("rank-6", True),
        ("node-3", True),
    ):
        assert bool(own.wrong_log(f"attempt-0/{name}.out")) is is_wrong, name


def test_a_setup_stays_that_of_its_host_where_its_place_is_another_now() -> None:
    own = Belongings("c", JOB)
    own.place(0, layout("c"), {"attempt-0/setup-2": "c", "attempt-0/setup-0": "a"})
    assert own.wrong_log("attempt-0/setup-2.out") == ""
    assert own.wrong_log("attempt-0/setup-0.out")


def test_only_a_run_that_may_give_gpus_back_returns_to_the_queue_on_its_own_hosts() -> None:
    def there(may_return: bool = True) -> Belongings:
        made = Belongings("b", Job(run=("x",)), may_return)
        made.place(0, layout("a", "b"), {})
        return made

    again = ev.WaitsAgain(1.0, "b", 1, ("a", "b"))
    assert "return" in there(may_return=False).wrong_event(again)
    for wrong in (
        replace(again, hosts=("a", "c")),
        replace(again, hosts=("a",)),
        replace(again, attempt=2),
    ):
        assert "return" in there().wrong_event(wrong), wrong
    known = there()
    started = ev.ProcessStarted(2.0, "b", 1, "rank-2", 2, 7)
    assert "has not begun" in known.wrong_event(started)
    assert known.wrong_event(again) == known.wrong_event(again) == ""
    assert known.wrong_event(started) == ""
