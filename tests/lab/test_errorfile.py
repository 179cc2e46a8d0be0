"""What torch's ``@record`` wrote about a failure: read on the host, shown in the post-mortem."""

from __future__ import annotations

import json

import pytest

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
    assert "the host's Python has no module einops" in ran.err
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
