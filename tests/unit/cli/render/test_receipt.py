"""How a failure that torch wrote down is shown."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cli.render.columns import width_of
from launcher.cli.render.receipt import receipt_text
from launcher.records import events as ev
from launcher.records import postmortem, receipt
from launcher.records.state import ProcessState, RunState
from support.receipts import failed_receipt


def shown(error: Any, words: bytes = b"bare last line") -> str:
    state = RunState(failure=ev.Failure("gpu1", "rank-0", 0, 1, False, 5.0, error))
    whole = failed_receipt(
        world_size=1,
        failure=receipt.first_failure(state, words),
    )
    assert receipt.read(json.loads(json.dumps(whole.to_json()))) == whole
    return click.unstyle(receipt_text(whole, 80))


FRAMES = "".join(f'  File "a.py", line {number}, in f\n    f()\n' for number in range(20))


def test_a_message_that_the_traceback_pushed_out_is_told_first() -> None:
    """Its many lines leave no room for the first of them."""
    message = "ValueError: bad rows:\n" + "\n".join(f"row {number}" for number in range(30))
    text = shown({"message": message, "traceback": f"{receipt.TRACEBACK}:\n{FRAMES}{message}\n"})
    lines = [line for line in text.splitlines() if "│" in line]
    assert (lines[0], lines[-1]) == ("  │ ValueError: bad rows:", "  │ row 29")
    assert len(lines) == receipt.LAST_LINES + 1


def test_without_a_traceback_the_message_is_told() -> None:
    text = shown({"message": "RuntimeError: NCCL is gone", "traceback": ""})
    assert text.count("NCCL is gone") == 1
    assert "bare last line" not in text


def test_the_cause_may_stand_in_the_last_words_alone() -> None:
    text = shown({"message": "RuntimeError: x", "traceback": ""}, b"CUDA out of memory")
    assert "likely: the GPU has not enough free memory" in text


@settings(max_examples=40)
@given(st.none() | st.dictionaries(st.sampled_from(["message", "traceback", "x"]), st.text()))
def test_no_text_of_a_host_breaks_the_screen(error: dict[str, str] | None) -> None:
    assert "\x1b" not in shown({**error, "message": "\ud800\x1b[2J"} if error else error)


def test_a_traceback_of_a_rank_that_exited_with_0_is_told() -> None:
    processes = {
        rank: ProcessState("gpu1", f"rank-{rank}", rank, code=0, well=True) for rank in (0, 1)
    }
    words = b"Traceback (most recent call last):\n  File 'a.py', line 1\nValueError: x\n"
    found = postmortem.tracebacks([(processes[0], words), (processes[1], words)])
    whole = failed_receipt(status="succeeded", reason="all-ranks-exited-0", tracebacks=found)
    text = click.unstyle(receipt_text(whole, 80))
    assert "exited with 0, but the last lines are a traceback:" in text
    assert "[0-1]" in text
    assert "ValueError: x" in text
    failed = replace(processes[0], code=1, well=False)
    said = b"launcher: srun: task 1 on gpu2 exited with 1\nEND TIME\n"
    tasks = postmortem.tasks_failed(
        [(processes[0], said), (failed, said.replace(b"1 on", b"3 on"))]
    )
    whole = failed_receipt(status="succeeded", reason="all-ranks-exited-0", tasks_failed=tasks)
    text = click.unstyle(receipt_text(whole, 80))
    assert "the script exited with 0, but srun said: task 1 on gpu2 exited with 1\n" in text
    assert postmortem.tracebacks([(failed, words), (processes[1], b"done\n")]) == ()


def test_what_outlives_the_run_is_told_with_how_to_end_it() -> None:
    hosts = [f"gpu{number}" for number in (*range(1, 40), 41, 43, 45)]
    events = [ev.KeptWarm(100.0, host, 600.0) for host in hosts]
    events += [ev.KeptWarm(99.0, "gpu2", 60.0), ev.KeptWarm(101.0, "gpu2", 600.0, kept=False)]
    warm = receipt.stays_warm(events, ["torch"])
    assert warm and warm.until == 700.0 and "gpu2" not in warm.hosts
    whole = failed_receipt(world_size=1, warm=warm)
    assert receipt.read(json.loads(json.dumps(whole.to_json()))) == whole
    lines = click.unstyle(receipt_text(whole, 60)).splitlines()
    (first,) = (line for line in lines if line.startswith("warm "))
    at = lines.index(first)
    text = " ".join(line[9:] for line in lines[at : at + 3])
    assert text.startswith("torch stays on gpu[1,3-39,41,43,45] until ")
    assert "launcher warm --end ends it" in text and max(map(len, lines[at : at + 3])) <= 60
    assert receipt.stays_warm(events[-1:], ["torch"]) is None
    assert "warm" not in failed_receipt(world_size=1).to_json()


def test_a_file_and_a_pipe_get_whole_lines() -> None:
    """People search them, and an editor wraps."""
    frame = f'  File "/home/alice/{"deep/" * 30}train.py", line 5, in <module>'
    state = RunState(failure=ev.Failure("gpu1", "rank-0", 0, 1, False, 5.0, None))
    words = f"Traceback (most recent call last):\n{frame}\n    f()\nValueError: bad".encode()
    whole = failed_receipt(world_size=1, failure=receipt.first_failure(state, words))
    with open(os.devnull, "w") as no_terminal:
        text = click.unstyle(receipt_text(whole, width_of(no_terminal)))
    assert f"{frame}\n" in text
    assert frame not in click.unstyle(receipt_text(whole, 80))
