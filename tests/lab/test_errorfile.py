"""What torch's ``@record`` wrote about a failure: read on the host, shown in the post-mortem."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.supervisor import errorfile
from launcher.cli.render.receipt import receipt_text
from launcher.records import events as ev
from launcher.records import receipt
from launcher.records.state import RunState
from support import lab as labs
from support.command import Launcher

# Every rank but one waits for ever; the failing one says a lot after its traceback.
SCRIPT = """
import atexit, os, sys, time
from torch.distributed.elastic.multiprocessing.errors import record
def shout():
    for number in range(40):
        print("closing file", number, file=sys.stderr)
@record
def main():
    if os.environ["RANK"] == "1":
        raise ModuleNotFoundError("No module named 'einops'")
    time.sleep(600)
atexit.register(shout)
main()
"""


@pytest.mark.parametrize("framework", ["torch", "torchrun"])
def test_the_traceback_is_told_whatever_was_written_after_it(
    launcher: Launcher, clean: labs.Lab, framework: str
) -> None:
    """Bare last lines would be forty times the same; the cause is found in the traceback, too."""
    name = launcher.script(SCRIPT)
    ran = launcher.run("--nodes", "2", "--framework", framework, "--grace", "1s", name)
    assert ran.code == 1, ran.err
    failure = ran.receipt["failure"]
    assert (failure["host"], failure["rank"]) == ("lab2", 1)
    assert failure["error"] == "ModuleNotFoundError: No module named 'einops'"
    assert failure["last_lines"][0].startswith("Traceback")
    assert failure["last_lines"][-1] == failure["error"]
    assert any("train.py" in line for line in failure["last_lines"])
    assert not any("elastic/multiprocessing" in line for line in failure["last_lines"])
    assert "the Python of the host has no module einops" in ran.err
    assert f"  │ {failure['error']}" in ran.err
    assert "│ closing file" not in ran.err
    assert ran.log("rank-1.err").count(b"closing file") == 40
    (told,) = [
        event
        for event in map(json.loads, (ran.folder / "events.jsonl").read_text().splitlines())
        if event["event"] == "ProcessExited" and event.get("error")
    ]
    assert told["key"] == "rank-1"


def test_an_error_file_of_the_attempt_before_is_not_told(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The second attempt fails without a word into a file."""
    name = launcher.script(
        "import json, os, sys\n"
        "if os.environ['LAUNCHER_ATTEMPT'] == '0':\n"
        "    with open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w') as file:\n"
        "        json.dump({'message': 'the first one'}, file)\n"
        "sys.exit('the second one' if os.environ['LAUNCHER_ATTEMPT'] == '1' else 3)\n"
    )
    ran = launcher.run("--framework", "torch", "--max-restarts", "1", name)
    assert ran.code == 1, ran.err
    assert ran.receipt["failure"]["error"] == ""
    assert ran.receipt["failure"]["last_lines"] == ["the second one"]


# -- on the host


def written(tmp_path: Path, content: bytes) -> dict[str, str] | None:
    file = tmp_path / "error.json"
    file.write_bytes(content)
    return errorfile.read(str(file))


def test_both_formats_of_torch_are_read(tmp_path: Path) -> None:
    extra = {"py_callstack": "Traceback ...", "timestamp": "17"}
    new = {"message": {"message": "ValueError: x", "extraInfo": extra, "errorCode": 1}}
    found = written(tmp_path, json.dumps(new).encode())
    assert found == {"message": "ValueError: x", "traceback": "Traceback ..."}
    found = written(tmp_path, b'{"message": "killed", "timestamp": 17}')
    assert found == {"message": "killed", "traceback": ""}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b'{"message": 7}', b'{"message": {}}',
     b'{"message": {"message": [], "extraInfo": {"py_callstack": {}}}}', b"[" * 100_000,
     b'{"message": {"message": null, "extraInfo": "no"}}',
     b'{"message": "' + b"x" * errorfile.LARGEST + b'"}'],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_error_file_is_passed_over(tmp_path: Path, content: bytes) -> None:
    assert written(tmp_path, content) is None


def test_a_long_one_is_cut(tmp_path: Path) -> None:
    long = {"message": "m" * 9000, "extraInfo": {"py_callstack": "t" * 90_000 + "end"}}
    found = written(tmp_path, json.dumps({"message": long}).encode())
    assert found is not None
    assert len(found["message"]) + len(found["traceback"]) == 18_000
    assert found["traceback"].endswith("tend")


def test_a_pipe_or_a_folder_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "nothing", None):
        assert errorfile.read(place and str(place)) is None


# -- in the post-mortem


def shown(error: Any, words: bytes = b"bare last line") -> str:
    state = RunState(failure=ev.Failure("gpu1", "rank-0", 0, 1, False, 5.0, error))
    whole = receipt.Receipt(
        "r", "failed", "exit-1", 1, 0.0, 1.0, {}, 1, "torch",
        failure=receipt.first_failure(state, words),
    )  # fmt: skip
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
