"""What the receipt says of each host, of the first failure and of the others."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest

from launcher.cli.render import run_view
from launcher.cli.render.event_lines import lines_of_many
from launcher.cli.render.receipt import receipt_text, stored_lines
from launcher.records import events as ev
from launcher.records import formats, postmortem, receipt
from launcher.records.state import RunState, fold
from launcher.records.stored import Alone
from launcher.spec.model import Host, Layout, Node
from support.receipts import failed_receipt

LAYOUT = Layout("r", (Node(Host("gpu1"), 0, 2, 0, (0, 1)), Node(Host("gpu2"), 1, 1, 2, (3,))))


def failed(code: int, oom: bool = False, key: str = "rank-0", host: str = "gpu1") -> RunState:
    return RunState(failure=ev.Failure(host, key, 0, code, oom, 5.0))


# -- hosts


def sweep(host: str = "gpu1", left: int = 0, killed: int = 0, unreadable: int = 0) -> ev.HostSwept:
    return ev.HostSwept(9.0, host, ({"pid": 1},) * left, killed, 50, unreadable)


def test_a_host_that_was_looked_at() -> None:
    state = RunState(gpus_used={"gpu1": (0,)})
    events = [ev.OrphansEnded(8.0, "gpu1", 2), ev.OrphansEnded(8.0, "gpu2", 5)]
    found = receipt.host_receipt(
        "gpu1", LAYOUT, state, [*events, sweep(killed=1, unreadable=4)], (10, 10)
    )
    assert (found.node_rank, found.ranks, found.gpus, found.gpus_used) == (0, (0, 1), (0, 1), (0,))
    assert (found.left, found.orphans, found.logs_complete) == (0, 3, True)
    assert "50 processes" in found.verified
    assert "4 of other users" in found.verified


def test_the_last_look_counts() -> None:
    events = [sweep(left=2), sweep("gpu2", left=7), sweep(left=1)]
    assert receipt.host_receipt("gpu1", LAYOUT, RunState(), events, (1, 1)).left == 1


@pytest.mark.parametrize(("there", "complete"), [(10, True), (11, False), (9, False)])
def test_logs_are_complete_when_equal(there: int, complete: bool) -> None:
    found = receipt.host_receipt("gpu1", LAYOUT, RunState(), [sweep()], (10, there))
    assert found.logs_complete is complete


def test_a_host_that_cannot_be_reached_is_not_said_to_be_clean() -> None:
    found = receipt.host_receipt("gpu1", LAYOUT, RunState(), [], (10, 12), "host-unreachable")
    assert found.left is None
    assert "not verified" in found.verified
    assert found.problem == "host-unreachable"


def test_no_host_has_ranks_of_a_run_that_waited_for_one_of_them() -> None:
    waits = replace(LAYOUT, wanted=1)
    found = receipt.host_receipt("gpu2", waits, RunState(), [sweep("gpu2")], (0, 0))
    assert (found.node_rank, found.ranks, found.gpus, found.left) == (1, (), (), 0)


def test_a_host_on_which_nothing_was_started() -> None:
    found = receipt.host_receipt("gpu9", LAYOUT, RunState(), [], None)
    assert (found.left, found.node_rank, found.logs_complete) == (0, -1, True)
    assert found.verified == "nothing was started there"


# -- the rest of the statement


def test_stages_are_added_up() -> None:
    events: list[ev.Event] = [
        ev.StageStarted(0.0, "connect"),
        ev.StageStarted(1.0, "start"),
        ev.StageStarted(3.0, "run"),
        ev.StageStarted(7.0, "start"),
        ev.RunEnded(7.5, "failed", "x"),
    ]
    assert receipt.stage_seconds(events) == {"connect": 1.0, "start": 2.5, "run": 4.0}
    assert list(receipt.stage_seconds(events)) == ["connect", "start", "run"]


def test_no_stages() -> None:
    assert receipt.stage_seconds([]) == {}


def test_a_run_ends_with_its_last_process_though_nobody_was_there() -> None:
    """After a reboot: not when somebody asked its hosts again, hours later."""
    exits = [ev.ProcessExited(15.0, "gpu1", 0, "rank-0", 0, 0)]
    events = [ev.StageStarted(0.0, "connect"), ev.StageStarted(2.0, "run")]
    later = [ev.ConnectionResumed(9000.0, "gpu1", 8990.0), ev.StageStarted(9001.0, "collect")]
    assert receipt.ended_at([*events, *exits, *later], 9002.0) == 15.0
    assert receipt.stage_seconds([*events, *later, *exits])["run"] == 13.0
    dropped = [ev.ConnectionResumed(9.0, "gpu1", 3.0), *exits, ev.StageStarted(16.0, "collect")]
    assert receipt.ended_at([*events, *dropped], 17.0) == 17.0
    assert receipt.ended_at(events, 17.0) == 17.0


def test_first_failure_has_its_last_words() -> None:
    assert receipt.first_failure(RunState(), b"x") is None
    words = b"".join(b"line %d\n\n" % number for number in range(20)) + b"\xff"
    found = receipt.first_failure(failed(-9), words)
    assert found is not None
    assert (found.exit_code, found.meaning) == (137, "killed by SIGKILL")
    assert found.last_lines == (*(f"line {number}" for number in range(9, 20)), "\ufffd")


def test_last_lines_begin_with_the_traceback() -> None:
    """The last one, when several are too long; what a library warned about before is not it."""
    one = "Traceback (most recent call last):\n" + "  frame\n" * 3
    found = receipt.first_failure(failed(1), f"[W1] warning\n{one}ValueError: x\n".encode())
    assert found is not None
    assert found.last_lines[0].startswith("Traceback")
    two = f"{one}KeyError\nDuring handling, another:\n{one}ValueError: y\n".encode()
    found = receipt.first_failure(failed(1), two)
    assert found is not None
    assert len(found.last_lines) == 11
    long = "Traceback (most recent call last):\n" + "  frame\n" * 9
    found = receipt.first_failure(failed(1), f"{long}KeyError\n{long}ValueError: z".encode())
    assert found is not None
    assert found.last_lines[0].startswith("Traceback")
    assert found.last_lines[-1] == "ValueError: z"


def test_a_receipt_comes_back_from_its_file() -> None:
    host = receipt.host_receipt("gpu1", LAYOUT, RunState(), [sweep(left=2)], (1, 2))
    state = failed(1)
    whole = receipt.Receipt(
        run="r",
        status="failed",
        reason="exit-1",
        exit_code=1,
        started=0.0,
        seconds=1.0,
        stages={"run": 1.0},
        world_size=3,
        framework="torch",
        hosts=(host,),
        failure=receipt.first_failure(state, b"x"),
        outputs=({"path": "a", "size": 1},),
        others=postmortem.other_ends(state),
        others_said=(postmortem.LastLine((1, 2), ("gpu1 ps-0",), "x"),),
    )
    assert receipt.read(json.loads(json.dumps(whole.to_json()))) == whole


def test_receipt_as_json() -> None:
    host = receipt.host_receipt("gpu1", LAYOUT, RunState(), [sweep(left=2)], (1, 2))
    whole = failed_receipt(
        hosts=(host,),
        failure=receipt.first_failure(failed(1), b"x"),
    )
    assert (whole.left, whole.logs_complete) == (2, False)
    stored = json.loads(json.dumps(whole.to_json()))
    assert stored["version"] == formats.VERSION
    assert stored["hosts"][0]["logs_there"] == 2
    assert stored["failure"]["last_lines"] == ["x"]


# -- the post-mortem


def exited(host: str, rank: int | None, code: int, stopped: bool = False) -> ev.ProcessExited:
    key = "node-0" if rank is None else f"rank-{rank}"
    return ev.ProcessExited(5.0 + (rank or 0), host, 0, key, rank, code, stopped)


def screen(state: RunState, words: bytes, width: int = 100, **said: bytes) -> str:
    whole = failed_receipt(
        failure=receipt.first_failure(state, words),
        others=postmortem.other_ends(state),
        others_said=postmortem.last_lines(
            (p, said.get(p.key.replace("-", "_"), b"")) for p in postmortem.others(state)
        ),
    )
    return click.unstyle(receipt_text(whole, width))


def test_a_known_cause_stands_below_the_last_lines() -> None:
    lines = screen(failed(1), b"ModuleNotFoundError: No module named 'einops'").splitlines()
    at = lines.index("  │ ModuleNotFoundError: No module named 'einops'")
    assert lines[at + 1] == "  likely: the host's Python has no module einops"
    assert lines[at + 2].startswith("  hint: Install it in the job's setup:")


def test_what_is_wrong_is_never_cut() -> None:
    """The last line and the hint go on in the next one; what stands before is cut to the width."""
    frame = '  File "/root/.launcher/host/runs/amber-perch-540d/code/train.py", line 8, in <module>'
    last = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    lines = screen(failed(1), f"Traceback (most recent call last):\n{frame}\n{last}".encode(), 50)
    at = lines.splitlines().index("  │ Traceback (most recent call last):")
    shown = lines.splitlines()[at : at + 8]
    assert shown[1] == f"  │ {frame[:45]}…"
    assert "".join(line.removeprefix("  │ ") for line in shown[2:4]) == last
    assert all(len(line) <= 50 for line in shown)
    assert shown[5].startswith("  hint: ")
    assert shown[6].startswith("        ")


def test_an_unknown_cause_is_not_guessed() -> None:
    found = receipt.first_failure(failed(1), b"RuntimeError: loss is NaN")
    assert found is not None
    assert (found.cause, found.hint) == ("", "")
    assert "likely" not in screen(failed(1), b"RuntimeError: loss is NaN")


def test_a_rank_that_left_while_another_needed_it() -> None:
    """Then no other log holds an earlier failure. A rank that was stopped has not left."""
    words = b"RuntimeError: [/gloo/pair.cc:553] Connection closed by peer [10.0.0.2]:12485"
    begun = [
        ev.ProcessStarted(1.0, host, 0, f"rank-{rank}", rank, 7) for rank, host in enumerate("ab")
    ]
    for stopped, hint in ((False, "barrier"), (True, "Look for the first failure")):
        state = fold([*begun, exited("b", 1, 0, stopped), exited("a", 0, 1)])
        found = receipt.first_failure(state, words)
        assert found is not None
        assert hint in found.hint


def test_what_became_of_the_others() -> None:
    """A framework's own launcher, what ended well and the first failure itself are left out."""
    ends = [
        exited("a", 0, 7),
        exited("a", None, 1),
        exited("b", 1, -15, True),
        exited("b", 2, -15, True),
    ]
    ends += [exited("b", 3, 1), exited("b", 4, 0)]
    state = fold([*ends, ev.ProcessStarted(1.0, "c", 0, "rank-5", 5, 9)])
    assert (
        "also: b [1-2] SIGTERM (stopped by us), b [3] exited with 1, c [5] end unknown"
        in screen(state, b"").splitlines()
    )
    assert postmortem.other_ends(fold([exited("a", 0, 7)])) == ()
    assert postmortem.other_ends(fold([exited("a", 0, 0)])) == ()


def test_the_last_lines_of_the_others_are_folded() -> None:
    """Who ended by itself comes first; numbers and addresses make no difference; empty logs none."""
    ends = [exited("a", 0, 7), exited("b", 1, -15, True), exited("b", 2, -15, True)]
    ends += [exited("b", 3, 1), exited("b", 4, -15, True), exited("c", 5, -15, True)]
    said = {f"rank_{n}": f"x\nstep {n} loss 0.{n}\n\n".encode() for n in (1, 2, 5)}
    lines = screen(
        fold(ends),
        b"",
        40,
        **said,
        rank_3=b"[rank3]: RuntimeError: [/a/b/pair.cc:553] closed by peer [127.0.0.1]:3\x1b[2J at 0x7f\n[W1121 13:41:07.8 socket.cpp:207] [c10d] The",
    ).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  [3] "))
    assert lines[at] == "  [3] RuntimeError: closed by peer [127…"
    assert lines[at + 1] == "  [1-2,5] step 1 loss 0.1"
    many = {f"rank_{n}": b"abcdefgh"[n : n + 1] for n in range(1, 6)}
    lines = screen(fold(ends), b"", **many).splitlines()
    assert "  [3] d" in lines
    assert lines[lines.index("  [3] d") + 2] == "  and more"


def test_many_others_are_folded_into_three_lines_at_most() -> None:
    ends = [exited("n00", 0, 7)] + [exited(f"n{n:02}", n, -15, True) for n in range(1, 33)]
    assert "also: n[01-32] [1-32] SIGTERM (stopped by us)" in screen(fold(ends), b"").splitlines()
    ends = [exited("n00", 0, 7)] + [exited(f"n{n:02}", n, n) for n in range(1, 33)]
    lines = screen(fold(ends), b"", 60).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("also: "))
    assert lines[at + 2] == "      and more"
    assert all(len(line) <= 60 for line in lines[at : at + 3])


# -- why it ended


@pytest.mark.parametrize(
    ("status", "reason", "host", "detail", "says"),
    [
        ("stopped", "by-user", None, "", ""),
        ("stopped", "process-failed", "gpu2", "", "a process on gpu2 failed; how is not recorded here"),
        ("lost", "host-unreachable", "gpu2", "", "gpu2 became unreachable"),
        ("stopped", "restarting", None, "exit-7",
         "its launcher died while restarting it after exit-7"),
        ("stopped", "other", "gpu2", "the moon is \x1b[2Jfull", "the moon is ␛[2Jfull"),
        ("failed", "quota-exceeded", None, "", ""),
    ],
)  # fmt: skip
def test_a_code_that_says_little_has_a_sentence(
    status: str, reason: str, host: str | None, detail: str, says: str
) -> None:
    whole = receipt.Receipt(
        "r", status, reason, 125, 0.0, 1.0, {}, 3, "torch", reason_host=host, reason_detail=detail
    )
    lines = click.unstyle(receipt_text(whole, 100)).splitlines()
    assert lines[1].startswith(f"{status} ({reason})")
    assert lines[2] == (says or "time")


def test_a_plain_success_needs_no_code() -> None:
    whole = receipt.Receipt("r", "succeeded", "all-ranks-exited-0", 0, 0.0, 1.0, {}, 3, "torch")
    assert click.unstyle(receipt_text(whole, 100)).splitlines()[1].split()[:2] == ["succeeded", "r"]


def test_receipts_of_the_previous_release_are_read() -> None:
    whole = receipt.Receipt("r", "stopped", "x", 125, 0.0, 1.0, {}, 3, "torch").to_json()
    assert not {"reason_host", "reason_detail"} & set(whole), "and it can read this one"
    found = receipt.read({**whole, "reason": "a-rank-failed-on-gpu2"})
    assert (found.reason, found.reason_host) == ("process-failed", "gpu2")


def test_the_screen_has_a_word_for_every_stage_that_takes_its_time() -> None:
    """While a run runs, its own logs are what is to be seen."""
    assert {*run_view._DOING, "run"} == set(receipt.STAGES)


def test_many_hosts_that_stored_with_nobody_in_touch_share_a_line() -> None:
    """On the screen and in the receipt. A host cannot draw there."""
    told = {f"gpu{number}": Alone(5.0, 3, 1000) for number in range(1, 65)}
    told |= {"gpu3": Alone(5.0, 0, 0, problem="\x1b[2Jno"), "gpu9": Alone(5.0, 2, 500, missing=1)}
    whole = receipt.StoredOutputs("s3://lab/r", 192, 64000, True, alone=told)
    lines = [click.unstyle(line) for line in stored_lines("r", whole)]
    assert lines == [
        "stored   192 files, 64.0 kB in s3://lab/r",
        "         gpu3 could store nothing with nobody in touch: ␛[2Jno",
        "         gpu[1-2,4-64] stored 188 files, 62.5 kB with nobody in touch, and 1 not",
    ]
    events = [
        ev.StoredAlone(5.0, host, one.files, one.bytes, one.missing, one.problem)
        for host, one in told.items()
    ]
    assert [line.text for line in lines_of_many(events)] == [line.strip() for line in lines[1:]]
