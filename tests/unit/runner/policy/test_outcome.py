"""How a run ended, as a table: what was heard, to status, reason, host and exit code."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.records import events as ev
from launcher.records.reasons import EndReason, Reason, StopReason
from launcher.records.state import fold
from launcher.runner.policy import outcome
from launcher.spec import errors
from launcher.spec.errors import HostError, InputError, MeetingError, SetupFailed, Stalled
from launcher.spec.model import Host, Layout, Node

LAYOUT = Layout("r", (Node(Host("gpu1"), 0, 1, 0), Node(Host("gpu2"), 1, 1, 1)))
RANKS = {"gpu1": 0, "gpu2": 1}

# -- what can be heard


def started(host: str, **more: int) -> ev.Event:
    rank = RANKS[host]
    return ev.ProcessStarted(1.0, host, 0, f"rank-{rank}", rank, 7, **more)


def exited(host: str, code: int, at: float = 5.0, **more: Any) -> ev.Event:
    rank = RANKS[host]
    key = more.pop("key", f"rank-{rank}")
    return ev.ProcessExited(at, host, 0, key, rank, code, **more)


def stop(why: StopReason, host: str | None = None, at: float = 6.0, **more: Any) -> ev.Event:
    return ev.StopRequested(at, why, host, **more)


def dropped(at: float, host: str = "gpu2") -> list[ev.Event]:
    """It falls silent then, and is given up a minute later."""
    lost = ev.NodeLost(at + 60, host, EndReason.HOST_UNREACHABLE)
    return [ev.ConnectionDropped(at, host, "no answer"), lost]


def orphaned(at: float, host: str = "gpu2") -> ev.Event:
    """It stops on its own."""
    return ev.OrphanTimeoutExpired(at, host, 1800.0)


BOTH = [started("gpu1"), started("gpu2")]
WELL = [*BOTH, exited("gpu1", 0), exited("gpu2", 0)]
# They save what they have, and exit with 0.
SAVED = [exited("gpu1", 0, stopped=True), exited("gpu2", 0, stopped=True)]
AGAIN = ev.WaitsAgain(5.0, "gpu1", 1, ("gpu1", "gpu2"))
BEGUN = ev.BegunThere(7.0, "gpu1", 1, 1.0, (0,), (20_000,), ("gpu1", "gpu2"))
USER, TRIAL = StopReason.BY_USER, StopReason.TRIAL_OVER
UNREACHABLE = ("lost", "host-unreachable", "gpu2", 125)
ORPHANED = ("stopped", "orphan-timeout", "gpu2", 125)
FIRST = started("gpu1", primary=1, primaries=1)
OTHER = started("gpu2", primaries=1)


def case(name: str, events: list[ev.Event], ended: tuple[Any, ...], **known: Any) -> Any:
    return pytest.param(events, known, ended, id=name)


@pytest.mark.parametrize(
    ("events", "known", "ended"),
    [
        # well
        case("all well", WELL, ("succeeded", "all-ranks-exited-0", None, 0)),
        case("well, then Ctrl-C", WELL, ("succeeded", "all-ranks-exited-0", None, 0), asked=USER),
        case("the primary role", [FIRST, OTHER, exited("gpu1", 0), exited("gpu2", -15, stopped=True)],
             ("succeeded", "primary-exited-0", None, 0)),
        case("the primary role, and all others", [FIRST, OTHER, exited("gpu1", 0), exited("gpu2", 0)],
             ("succeeded", "all-ranks-exited-0", None, 0)),
        # failures
        case("exit", [exited("gpu1", 7)], ("failed", "exit-7", "gpu1", 7)),
        case("signal", [exited("gpu2", -11)], ("failed", "signal-SIGSEGV", "gpu2", 139)),
        case("memory of the host", [exited("gpu1", -9, oom=True)], ("failed", "out-of-memory", "gpu1", 137)),
        case("memory of a GPU", [exited("gpu1", 1)], ("failed", "out-of-memory", "gpu1", 1),
             last_words=b"CUDA out of memory. Tried"),
        case("torch's memory", [exited("gpu1", 1)], ("failed", "out-of-memory", "gpu1", 1),
             last_words=b"torch.OutOfMemoryError: x"),
        case("Python's memory", [exited("gpu1", 1)], ("failed", "out-of-memory", "gpu1", 1),
             last_words=b"MemoryError\n"),
        case("a shell's memory", [exited("gpu1", 1)], ("failed", "out-of-memory", "gpu1", 1),
             last_words=b"fork: Cannot allocate memory"),
        case("setup", [exited("gpu1", 3, key="setup-0")], ("failed", "setup-exit-3", "gpu1", 3)),
        case("setup, as an error", [exited("gpu1", 3, key="setup-0")],
             ("failed", "setup-exit-3", "gpu1", 3), error=SetupFailed("gpu1", "x", status=3)),
        case("setup killed", [exited("gpu1", -9, key="setup-0")],
             ("failed", "setup-signal-SIGKILL", "gpu1", 137)),
        case("setup out of memory", [exited("gpu1", -9, key="setup-0", oom=True)],
             ("failed", "setup-out-of-memory", "gpu1", 137)),
        case("the earlier of two", [exited("gpu1", 7, 5.0), exited("gpu2", 8, 4.0)],
             ("failed", "exit-8", "gpu2", 8)),
        case("failed, then Ctrl-C", [exited("gpu1", 7)], ("failed", "exit-7", "gpu1", 7), asked=USER),
        case("failed, then a bug", [exited("gpu1", 7)], ("failed", "exit-7", "gpu1", 7), error=KeyError("x")),
        # stopped
        case("Ctrl-C", BOTH, ("stopped", "by-user", None, 130), asked=USER),
        case("Ctrl-C, then a bug", BOTH, ("stopped", "by-user", None, 130), asked=USER, error=KeyError("x")),
        case("Ctrl-C while it waits again, and a host is off", [*BOTH, AGAIN, *dropped(6.0)],
             ("stopped", "by-user", None, 130), asked=USER),
        case("Ctrl-C once it has begun again, and a host is off", [*BOTH, AGAIN, BEGUN, *dropped(9.0)],
             UNREACHABLE, asked=USER),
        case("a trial", BOTH, ("stopped", "trial-over", None, 130), asked=TRIAL),
        case("Ctrl-C at a launcher that died", [*BOTH, stop(USER)], ("stopped", "by-user", None, 130)),
        case("the same, as hosts tell it", [*BOTH, stop(USER, "gpu1", asked=True),
             stop(USER, "gpu2", origin="gpu1")], ("stopped", "by-user", None, 130)),
        case("the same, with a clock that is behind",
             [*BOTH, stop(StopReason.PROCESS_FAILED, "gpu2", 2.0), stop(USER, "gpu1", asked=True)],
             ("stopped", "by-user", None, 130)),
        case("a failure that nobody saw", [*BOTH, stop(StopReason.PROCESS_FAILED, "gpu2", origin="gpu1")],
             ("stopped", "process-failed", "gpu1", 125)),
        case("a supervisor was terminated", [*BOTH, stop(StopReason.SUPERVISOR_TERMINATED, "gpu2")],
             ("stopped", "supervisor-terminated", "gpu2", 125)),
        case("a login session ended", [*BOTH, stop(StopReason.LOGIN_SESSION_ENDED, "gpu2")],
             ("stopped", "login-session-ended", "gpu2", 125)),
        case("a launcher died while starting again",
             [*BOTH, stop(StopReason.RESTARTING, detail="exit-7")], ("stopped", "restarting", None, 125)),
        case("terminated after all was well", [*WELL, stop(StopReason.SUPERVISOR_TERMINATED, "gpu2")],
             ("succeeded", "all-ranks-exited-0", None, 0)),
        case("Ctrl-C, and they save", [*BOTH, stop(USER), *SAVED], ("stopped", "by-user", None, 130), asked=USER),
        case("one was done before", [*BOTH, exited("gpu1", 0), stop(USER), SAVED[1]],
             ("stopped", "by-user", None, 130), asked=USER),
        case("the time was over, and they save", [*BOTH, stop(StopReason.TIME_LIMIT, "gpu1"), *SAVED],
             ("stopped", "time-limit", "gpu1", 125)),
        case("a host reboots, and they save",
             [*BOTH, stop(StopReason.SUPERVISOR_TERMINATED, "gpu2"), *SAVED],
             ("stopped", "supervisor-terminated", "gpu2", 125)),
        case("the primary role saves", [FIRST, OTHER, stop(USER), *SAVED],
             ("stopped", "by-user", None, 130), asked=USER),
        case("the group had finished", [*BOTH, exited("gpu1", 0), stop(StopReason.GROUP_FINISHED), SAVED[1]],
             ("succeeded", "all-ranks-exited-0", None, 0)),
        # lost
        case("lost", dropped(4.0), UNREACHABLE),
        case("lost, and then another fails", [exited("gpu1", 1), *dropped(4.0)], UNREACHABLE),
        case("another fails before we notice", [exited("gpu1", 1), *dropped(15.0)], UNREACHABLE),
        case("another failed long before", [exited("gpu1", 1), *dropped(65.0)],
             ("failed", "exit-1", "gpu1", 1)),
        case("it had failed itself", [exited("gpu2", 7), *dropped(4.0)], ("failed", "exit-7", "gpu2", 7)),
        case("lost, then Ctrl-C", dropped(4.0), UNREACHABLE, asked=USER),
        case("Ctrl-C while it is replaced", dropped(4.0), ("stopped", "by-user", None, 130),
             asked=USER, mending=True),
        case("the same, with a peer that failed", [exited("gpu1", 1), *dropped(4.0)],
             ("stopped", "by-user", None, 130), asked=USER, mending=True),
        case("replaced in vain", dropped(4.0), UNREACHABLE, mending=True),
        case("replaced in vain, then Ctrl-C", dropped(4.0), UNREACHABLE,
             asked=USER, mending=True, error=HostError("gpu1", "x")),
        # nobody reached it
        case("orphaned", [orphaned(9.0)], ORPHANED),
        case("orphaned, and an error", [orphaned(9.0)], ORPHANED, error=HostError("gpu1", "x")),
        case("orphaned, then Ctrl-C", [orphaned(9.0)], ORPHANED, asked=USER),
        case("orphaned, then lost", [*dropped(4.0), orphaned(9.0)], ORPHANED),
        case("orphaned after a failure", [exited("gpu1", 7), orphaned(9.0)], ("failed", "exit-7", "gpu1", 7)),
        case("at the same moment", [exited("gpu1", 7), orphaned(5.1)], ORPHANED),
        case("a failure because of it", [exited("gpu1", 7), orphaned(4.0)], ORPHANED),
        # errors
        case("an error", [], ("failed", "host-error", "gpu1", 125), error=HostError("gpu1", "x")),
        case("of no host", [], ("failed", "no-meeting-point", None, 125), error=MeetingError("x")),
        case("of the user", [], ("failed", "bad-input", None, 2), error=InputError("x")),
        case("a stall", BOTH, ("failed", "stalled", None, 125), error=Stalled(60.0, "gpu1 is behind")),
        case("a bug", [], ("failed", "internal-error", None, 125), error=KeyError("x")),
        # elastic
        case("finished with fewer", [exited("gpu1", 0, key="node-0"), *dropped(4.0)],
             ("succeeded", "finished-on-1-of-2-hosts", None, 0), elastic_from=1),
        case("fewer are too few", dropped(4.0), UNREACHABLE, elastic_from=2),
    ],
)  # fmt: skip
def test_how_a_run_ended(
    events: list[ev.Event], known: dict[str, Any], ended: tuple[str, str, str | None, int]
) -> None:
    found = outcome.decide(fold(events), LAYOUT, **known)
    assert (found.status, str(found.reason), found.host, found.exit_code) == ended


@pytest.mark.parametrize(
    ("events", "known", "why"),
    [
        (BOTH, {"asked": USER}, USER),
        ([exited("gpu1", 7)], {"asked": TRIAL}, TRIAL),
        ([exited("gpu1", 7), orphaned(9.0)], {}, StopReason.PROCESS_FAILED),
        ([orphaned(9.0)], {}, StopReason.ORPHAN_TIMEOUT),
        ([FIRST, OTHER, exited("gpu1", 0)], {}, StopReason.PRIMARY_FINISHED),
        ([exited("gpu1", 0, key="node-0")], {"elastic_from": 1}, StopReason.GROUP_FINISHED),
        (dropped(4.0), {}, StopReason.TOO_FEW_HOSTS),
        (dropped(4.0), {"elastic_from": 2}, StopReason.TOO_FEW_HOSTS),
        (dropped(4.0), {"elastic_from": 1}, StopReason.LAUNCHER_FAILED),
        (BOTH, {"error": Stalled(60.0, "x")}, StopReason.STALLED),
        (BOTH, {"error": KeyError("x")}, StopReason.LAUNCHER_FAILED),
    ],
)
def test_why_what_still_runs_is_stopped(
    events: list[ev.Event], known: dict[str, Any], why: StopReason
) -> None:
    assert outcome.stop_reason(fold(events), LAYOUT, **known) is why


def test_a_run_that_was_stopped_before_it_began_did_not_succeed() -> None:
    """Its setup has exited well, and its host has ended it with nobody in touch."""
    setup = ev.ProcessExited(1.0, "gpu1", 0, "setup-0", None, 0)
    state = fold([setup, stop(StopReason.SUPERVISOR_TERMINATED, "gpu1")])
    assert outcome.decide(state, LAYOUT).status == "stopped"


# -- codes


def _all(kind: type[errors.LauncherError]) -> set[str]:
    return {kind.code}.union(*map(_all, kind.__subclasses__()))


def test_every_error_is_a_reason() -> None:
    """But for those that end no run: removing it was refused, and a function in it failed."""
    unknown = {code for code in _all(errors.LauncherError) if Reason.parse(code).code != code}
    assert unknown == {errors.RunKept.code, errors.FunctionFailed.code}


@pytest.mark.parametrize("elastic_from", [None, 1])
def test_a_run_that_has_no_hosts_yet_failed_in_its_launcher(elastic_from: int | None) -> None:
    why = outcome.stop_reason(fold([]), Layout("r", ()), elastic_from=elastic_from)
    assert why is StopReason.LAUNCHER_FAILED
