"""The supervisor's decisions, as tables and as properties: no process is started, no clock is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.base import protocol
from launcher.agent.supervisor import machine as m
from launcher.agent.supervisor.machine import Machine

GRACE = 10.0
FAILED = m.Tell(over=protocol.PROCESS_FAILED, delay=0.0, grace=GRACE)
STOP_FAILED = m.Stop(GRACE, protocol.PROCESS_FAILED)


def spec(key: str, **more: Any) -> Any:
    return {"key": key, "argv": ["x"], "env": {}, "cwd": "/", **more}


def started(*specs: Any, stage: str = "run", elastic: str | None = None, **more: Any) -> Machine:
    """A run whose processes have just been started, at 0."""
    machine = Machine(GRACE, more.pop("orphan_timeout", None), 0.0)
    specs = specs or (spec("rank-0"), spec("rank-1"))
    machine.begin(stage, 0, specs, elastic)
    for pid, one in enumerate(specs, 100):
        machine.started(one["key"], pid - 100, pid, "")
    return machine


def exits(machine: Machine, key: str, code: int, now: float, **evidence: Any) -> list[Any]:
    return machine.exited(m.Exited(key, 0, code, 0.0, evidence), now)


def what(instructions: list[Any]) -> list[str]:
    """Their kinds; of a record its event."""
    return [i.event if isinstance(i, m.Record) else type(i).__name__ for i in instructions]


# -- waiting for GPUs


def test_a_run_that_waits_for_gpus_needs_no_client_until_it_begins() -> None:
    machine = Machine(GRACE, None, 0.0)
    machine.wait()
    assert machine.tick(m.UNUSED + 1.0, alone_since=0.0) == []
    assert machine.next_tick(0.0, alone_since=0.0) == float("inf")
    machine.stop(GRACE, protocol.WAIT_OVER, False, 1.0)
    assert what(machine.tick(1.0)) == ["Close"]
    begun = Machine(GRACE, None, 0.0)
    begun.wait()
    begun.begin("run", 0, [spec("rank-0")], None)
    assert not begun.waits


# -- endings


def test_a_run_whose_processes_have_exited_well_is_closed() -> None:
    machine = started()
    assert what(exits(machine, "rank-0", 0, 1.0)) == ["ProcessExited"]
    assert what(exits(machine, "rank-1", 0, 2.0)) == ["ProcessExited"]
    assert machine.tick(2.0) == [m.Look()]
    assert machine.found([], False, 2.0) == [m.Close()]
    assert machine.phase == m.OVER


def test_setup_is_followed_by_the_run() -> None:
    machine = started(spec("setup-0"), stage="setup")
    exits(machine, "setup-0", 0, 1.0)
    assert machine.tick(1.0) == [m.Look()]
    assert machine.found([], False, 1.0) == []
    assert machine.phase == m.IDLE
    assert machine.was_begun("setup", 0)
    assert not machine.was_begun("run", 0)


def test_a_stop_between_setup_and_run_ends_the_run() -> None:
    machine = started(spec("setup-0"), stage="setup")
    exits(machine, "setup-0", 0, 1.0)
    machine.found([], False, 1.0)
    stop = m.Stop(GRACE, "by-user", None, True)
    assert machine.stop(GRACE, "by-user", True, 2.0) == [
        stop,
        m.Tell(over="by-user", delay=0.0, grace=GRACE),
    ]
    assert machine.tick(2.0) == [m.Close()]


def test_a_stop_during_setup_ends_the_run() -> None:
    machine = started(spec("setup-0"), stage="setup")
    machine.stop(GRACE, "by-user", True, 1.0)
    exits(machine, "setup-0", -15, 1.5)
    assert machine.tick(1.5) == [m.Look()]
    assert machine.found([], False, 1.5) == [m.Close()]


def test_a_supervisor_that_nobody_uses_gives_up() -> None:
    machine = Machine(GRACE, None, 0.0)
    assert machine.tick(m.UNUSED, alone_since=0.0) == []
    assert machine.next_tick(1.0, 0.0) == m.UNUSED
    assert machine.tick(m.UNUSED + 1, alone_since=None) == []
    assert what(machine.tick(m.UNUSED + 1, alone_since=0.0)) == ["SupervisorGaveUp"]
    assert machine.phase == m.OVER


# -- failures


def test_one_failure_stops_the_others_once() -> None:
    machine = started(spec("rank-0"), spec("rank-1"), spec("rank-2"))
    first = exits(machine, "rank-0", 1, 1.0)
    assert first[1:] == [FAILED]
    assert what(exits(machine, "rank-1", 1, 1.0)) == ["ProcessExited"], "told twice"
    assert machine.next_tick(1.0, None) == 1.0
    assert machine.tick(1.0) == [STOP_FAILED]
    late = exits(machine, "rank-2", 1, 1.5)
    assert late == [m.Record("ProcessExited", key="rank-2", rank=0, code=1, at=0.0, stopped=True)]
    assert machine.tick(1.5) == [m.Look()]


def test_evidence_belongs_to_the_exit_but_not_to_one_that_was_wanted() -> None:
    evidence = {"oom": True, "limit": 5, "error": {"message": "x", "traceback": ""}}
    machine = started()
    (record, _) = exits(machine, "rank-0", -9, 1.0, **evidence)
    assert {name: record.fields.get(name) for name in evidence} == evidence
    machine.tick(1.0)
    (record,) = exits(machine, "rank-1", -9, 2.0, **evidence)
    assert "oom" not in record.fields
    assert record.fields["stopped"]
    assert record.fields["error"] == evidence["error"]


def test_what_cannot_be_started_is_a_failure() -> None:
    machine = Machine(GRACE, None, 0.0)
    machine.begin("run", 0, [spec("rank-0")], None)
    exited = m.Exited("rank-0", 0, 127, 0.0)
    assert what(machine.could_not_start(exited, 1.0)) == ["ProcessExited", "Tell"]
    assert machine.tick(1.0) == [STOP_FAILED, m.Look()]
    assert machine.found([], False, 1.0) == [m.Close()]


@pytest.mark.parametrize(
    ("elastic", "tolerated"), [(None, False), ("member", True), ("head", False)]
)
def test_a_node_of_an_elastic_group_may_fail(elastic: str | None, tolerated: bool) -> None:
    machine = started(spec("node-0"), elastic=elastic)
    record, *rest = exits(machine, "node-0", 1, 1.0)
    assert record.fields.get("tolerated", False) is tolerated
    assert rest == ([] if tolerated else [FAILED])


@pytest.mark.parametrize("elastic", [None, "member", "head"])
def test_a_framework_has_a_moment_to_react_to_a_rank(elastic: str | None) -> None:
    machine = started(spec("node-0"), elastic=elastic)
    _, *rest = machine.rank_exited(m.Exited("rank-0", 0, 1, 0.0), 1.0)
    delay = m.FRAMEWORK_REACTION
    told = [m.Tell(over=protocol.PROCESS_FAILED, delay=delay, grace=GRACE)]
    assert rest == ([] if elastic else told)
    if not elastic:
        assert machine.tick(1.0 + delay / 2) == []
        assert machine.tick(1.0 + delay) == [STOP_FAILED]


@pytest.mark.parametrize(
    ("code", "fails"), [(0, False), (3, False), (7, True), (1, True), (-15, True)]
)
def test_a_role_says_what_exit_codes_mean(code: int, fails: bool) -> None:
    worker = spec("worker-0", on_exit={"complete": [(3, 4)], "fail": [(7, 7)]})
    machine = started(worker, spec("rank-1"))
    assert (FAILED in exits(machine, "worker-0", code, 1.0)) is fails


# -- primary roles

PRIMARY = spec("chief-0", primary=2, primaries=2)
WORKER = spec("worker-0", primary=0, primaries=2)


def test_the_last_primary_ends_the_run_wherever_it_was() -> None:
    machine = started(PRIMARY, WORKER)
    assert exits(machine, "chief-0", 0, 1.0)[1:] == [m.Tell(primary="chief-0")]
    assert machine.heard({"primary": "chief-0", "host": "b"}, 1.5) == [], "heard twice counts once"
    stop = m.Stop(GRACE, protocol.PRIMARY_FINISHED)
    assert machine.heard({"primary": "chief-1", "host": "b"}, 2.0) == [stop]
    assert machine.heard({"primary": "chief-1", "host": "b"}, 3.0) == []


def test_a_worker_fails_a_moment_later_so_that_its_primary_may_exit_first() -> None:
    machine = started(PRIMARY, WORKER, spec("worker-1", primaries=2))
    machine.heard({"primary": "chief-1", "host": "b"}, 0.5)
    patience = protocol.PRIMARY_PATIENCE
    told = m.Tell(over=protocol.PROCESS_FAILED, delay=patience, grace=GRACE)
    assert exits(machine, "worker-0", 1, 1.0)[1:] == [told]
    assert machine.tick(1.0) == []
    done = exits(machine, "chief-0", 0, 1.5)
    assert done[1:] == [m.Tell(primary="chief-0"), m.Stop(GRACE, protocol.PRIMARY_FINISHED)]
    assert machine.tick(1.0 + patience) == [], "the failure is no news any more"


# -- other hosts


def test_the_failure_of_another_host_stops_this_one_when_it_says() -> None:
    machine = started()
    word = {"over": "process-failed", "host": "b", "delay": 0.5, "grace": 3.0}
    assert machine.heard(word, 1.0) == []
    assert machine.tick(1.4) == []
    assert machine.tick(1.5) == [m.Stop(3.0, "process-failed", "b")]
    assert machine.heard(word, 1.6) == []
    assert machine.tick(4.5) == [m.Kill()]


def test_a_kill_elsewhere_kills_here_whatever_is_under_way() -> None:
    machine = started()
    machine.stop(GRACE, "by-user", True, 1.0)
    word = {"over": "killed-by-user", "host": "b", "delay": 0.0, "grace": 0}
    assert machine.heard(word, 2.0) == [m.Stop(0.0, "killed-by-user", "b"), m.Kill()]


@pytest.mark.parametrize(
    "word",
    [
        {"host": "b", "moon": "full"},  # of a later version
        {"over": "process-failed", "host": "b", "delay": 0.0, "grace": 0},
    ],
)
def test_words_that_change_nothing_here(word: dict[str, Any]) -> None:
    machine = started(spec("rank-0"))
    if "over" in word:
        exits(machine, "rank-0", 0, 1.0)
    assert machine.heard(word, 2.0) == []


# -- stops, graces and kills


def test_stopped_by_a_launcher() -> None:
    machine = started()
    told = m.Tell(over="by-user", delay=0.0, grace=5.0)
    assert machine.stop(5.0, "by-user", True, 1.0) == [m.Stop(5.0, "by-user", None, True), told]
    assert machine.is_ending
    assert machine.tick(5.9) == []
    assert machine.tick(6.0) == [m.Kill()]
    assert machine.tick(6.0 + m.KILL_AGAIN / 2) == []
    assert machine.tick(6.0 + m.KILL_AGAIN) == [m.Kill()]


def test_a_second_stop_kills_at_once() -> None:
    machine = started()
    machine.stop(5.0, "by-user", True, 1.0)
    assert machine.stop(0.0, "killed-by-user", True, 2.0)[:2] == [
        m.Stop(0.0, "killed-by-user", None, True),
        m.Kill(),
    ]


@given(st.lists(st.tuples(st.floats(0.1, 60.0), st.floats(0.0, 5.0)), min_size=1, max_size=6))
def test_deadlines_come_nearer_and_never_go_away(stops: list[tuple[float, float]]) -> None:
    machine, now, deadline = started(), 0.0, float("inf")
    for grace, later in stops:
        now += later
        if now >= deadline:
            break
        machine.stop(grace, "by-user", True, now)
        deadline = min(deadline, now + grace)
        assert machine.tick(now) == []
    assert m.Kill() in machine.tick(deadline)


def test_a_run_whose_time_is_over_is_stopped_everywhere_once() -> None:
    machine = started(spec("rank-0"))
    machine.begin("run", 1, [spec("rank-0")], None, until=100.0)
    machine.started("rank-0", 0, 7, "")
    assert machine.next_tick(1.0, None) <= 100.0
    assert machine.tick(99.9) == []
    told = machine.tick(100.0)
    assert next(one for one in told if isinstance(one, m.Stop)).why == "time-limit"
    assert next(one for one in told if isinstance(one, m.Tell)).word["over"] == "time-limit"
    assert "Stop" not in what(machine.tick(100.1))


def test_terminated_with_its_children() -> None:
    """Who kills a whole session kills them in any order: their exits are no failures."""
    machine = started()
    machine.terminated()
    (record,) = exits(machine, "rank-0", -15, 1.0)
    assert record.fields["stopped"]
    assert machine.tick(1.0) == []
    out = machine.stop(GRACE, "supervisor-terminated", False, 2.0)
    assert what(out) == ["Stop", "Tell"]


def test_orphaned_runs_stop_once_and_tell_nobody() -> None:
    machine = started(orphan_timeout=30.0)
    machine.heard_launcher(20.0)
    assert machine.next_tick(20.0, None) == 50.0
    assert machine.tick(49.9) == []
    out = machine.tick(50.0)
    assert out == [
        m.Record("OrphanTimeoutExpired", silent=30.0),
        m.Stop(GRACE, protocol.ORPHAN_TIMEOUT),
    ]
    assert machine.tick(50.1) == []


# -- what outlives all that was started


def test_orphans_have_a_moment_then_they_are_stopped_then_killed() -> None:
    machine = started(spec("rank-0"))
    exits(machine, "rank-0", 0, 1.0)
    assert machine.found([7, 8], False, 1.0) == []
    assert machine.found([7, 8], False, 1.9) == []
    assert machine.found([7], False, 1.0 + m.LINGER) == [m.StopOrphans([7])]
    assert machine.found([7], False, 11.9) == []
    assert machine.found([7], False, 12.0) == [m.Kill()]
    assert machine.found([], False, 12.1) == [m.Record("OrphansEnded", processes=2), m.Close()]


def test_orphans_of_a_stopped_run_have_no_moment() -> None:
    machine = started(spec("rank-0"))
    machine.stop(GRACE, "by-user", True, 1.0)
    exits(machine, "rank-0", -15, 2.0)
    assert machine.found([7], False, 2.0) == []
    assert machine.found([7], False, 2.1) == [m.StopOrphans([7])]
    assert machine.found([7], False, 11.0) == [m.Kill()], "the deadline of the stop"


def test_those_who_clean_up_are_left_alone() -> None:
    machine = started(spec("rank-0"))
    exits(machine, "rank-0", 0, 1.0)
    assert machine.found([7], True, 50.0) == []
    assert machine.found([], False, 51.0) == [m.Close()]


def test_what_setup_leaves_behind_does_not_end_the_run() -> None:
    """Asked to stop, deaf, and with a deadline: it may not count for what is started next."""
    machine = started(spec("setup-0"), stage="setup")
    exits(machine, "setup-0", 0, 1.0)
    machine.found([7], False, 1.0)
    assert machine.found([7], False, 2.0) == [m.StopOrphans([7])]
    machine.begin("run", 0, [spec("rank-0")], None)
    machine.started("rank-0", 0, 100, "")
    assert machine.phase == m.RUNNING
    assert machine.tick(60.0) == []
    assert machine.next_tick(60.0, None) > 60.0, "it would spin"
    assert exits(machine, "rank-0", 1, 61.0)[1:] == [FAILED]


# -- any order of events

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.integers(0, 3), st.sampled_from([0, 1, -9, -15, 3])),
        st.tuples(st.just("rank"), st.integers(0, 3), st.sampled_from([0, 1, -9])),
        st.tuples(st.just("stop"), st.sampled_from([0.0, 1.0, 20.0])),
        st.tuples(st.just("over"), st.sampled_from([0.0, 5.0])),
        st.tuples(st.just("primary"), st.integers(0, 2)),
        st.tuples(st.just("terminated")),
        st.tuples(st.just("launcher")),
        st.tuples(st.just("wait"), st.floats(0.0, 40.0)),
    ),
    max_size=25,
)


class World:
    """What a supervisor does, with numbers in place of processes: those that are ``deaf`` stop only
    when they are killed, and each leaves an orphan behind if it has one."""

    def __init__(self, machine: Machine, keys: list[str], deaf: set[str], orphans: set[str]):
        self.machine, self.now = machine, 0.0
        self.alive, self.deaf = list(keys), deaf
        self.orphans, self.left = orphans, 0
        self.log: list[Any] = []

    def follow(self, instructions: list[Any]) -> None:
        self.log += instructions
        for each in instructions:
            if isinstance(each, m.Stop):
                self._end([key for key in self.alive if key not in self.deaf], -15)
            elif isinstance(each, m.Kill):
                self.left = 0
                self._end(list(self.alive), -9)
                self.left = 0
            elif isinstance(each, m.StopOrphans):
                assert not self.alive
            elif isinstance(each, m.Look):
                left = [1] * self.left
                self.follow(self.machine.found(left, False, self.now))

    def _end(self, keys: list[str], code: int) -> None:
        for key in keys:
            self.exit(key, code)

    def exit(self, key: str, code: int) -> None:
        self.alive.remove(key)
        self.left += key in self.orphans
        self.follow(self.machine.exited(m.Exited(key, 0, code, 0.0), self.now))

    def wait(self, until: float) -> None:
        """Ticks as the supervisor does: when the machine wants to."""
        while self.machine.phase != m.OVER and self.now < until:
            self.follow(self.machine.tick(self.now))
            wanted = self.machine.next_tick(self.now, None)
            self.now = min(max(wanted, self.now + 0.01), self.now + 5.0)


@given(EVENTS, st.sets(st.integers(0, 3)), st.sets(st.integers(0, 3)), st.booleans())
def test_whatever_happens_a_stopped_run_ends(
    events: list[tuple[Any, ...]], deaf: set[int], orphans: set[int], has_primary: bool
) -> None:
    keys = [f"rank-{number}" for number in range(4)]
    roles = {"primary": 2, "primaries": 2} if has_primary else {}
    machine = started(*[spec(key, **(roles if key == "rank-0" else {})) for key in keys])
    world = World(machine, keys, {keys[n] for n in deaf}, {keys[n] for n in orphans})
    acts: dict[str, Callable[..., Any]] = {
        "exit": lambda n, code: keys[n] in world.alive and world.exit(keys[n], code),
        "rank": lambda n, code: world.follow(
            machine.rank_exited(m.Exited(f"rank-{n}", n, code, 0.0), world.now)
        ),
        "stop": lambda grace: world.follow(machine.stop(grace, "by-user", True, world.now)),
        "over": lambda grace: world.follow(
            machine.heard({"over": "x", "host": "b", "delay": 0.5, "grace": grace}, world.now)
        ),
        "primary": lambda n: world.follow(
            machine.heard({"primary": f"chief-{n}", "host": "b"}, world.now)
        ),
        "terminated": machine.terminated,
        "launcher": lambda: machine.heard_launcher(world.now),
        "wait": lambda seconds: world.wait(world.now + seconds),
    }
    for name, *arguments in events:
        if machine.phase != m.OVER:
            acts[name](*arguments)
    if machine.phase != m.OVER:
        world.follow(machine.stop(GRACE, "by-user", True, world.now))
        world.wait(world.now + 2 * GRACE + m.LINGER + 1.0)
    assert machine.phase == m.OVER
    assert not world.alive
    assert not world.left
    assert world.log.count(m.Close()) == 1
    assert world.log[-1] == m.Close()
    failures = [
        i
        for i in world.log
        if isinstance(i, m.Tell) and i.word.get("over") == protocol.PROCESS_FAILED
    ]
    assert len(failures) <= 1, "others are told of the first failure alone"
    exited = [i for i in world.log if isinstance(i, m.Record) and i.event == "ProcessExited"]
    first = next((n for n, i in enumerate(world.log) if isinstance(i, m.Stop)), len(world.log))
    for record in exited:
        if world.log.index(record) > first:
            assert record.fields.get("stopped"), "an exit after a stop is no failure"
