"""A program that waits for a run shows how it stands where a person sees it, and nothing elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.api import progress
from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.records.state import ProcessState, RunState
from launcher.spec.model import Host, Layout, Node
from support import console_runs
from support.receipts import failed_receipt
from support.terminal import Terminal

WAIT = """
import sys, launcher
with launcher.Client() as client:
    run = client.attach(sys.argv[1], **({"on_event": print} if "heard" in sys.argv else {}))
    status = run.wait(**({"progress": False} if "quiet" in sys.argv else {})).status
    print("it", status)
"""
#: What IPython has in a kernel, as far as this looks. A fake.
KERNEL = """
import sys, types
shell = types.SimpleNamespace(kernel=object())
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that this process follows."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    return console_runs.begin("calm")


def end(run: RunFolder) -> None:
    run.record(ev.RunEnded(time.time(), "failed", "exit-1", None))
    run.write("receipt.json", {**failed_receipt().to_json(), "run": run.name})
    run.close()


@pytest.mark.thorough
def test_a_line_at_a_terminal(run: RunFolder, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WAIT, run.name]
    with Terminal(argv, tmp_path, {**os.environ, "TERM": "xterm"}, columns=80) as screen:
        screen.expect(run.name)
        screen.expect("4 ranks")
        console_runs.printed(run, 0, b"step 7 \x1b[2Jloss=0.5\n")
        screen.expect("step 7 [2Jloss=0.5")
        end(run)
        screen.expect("it failed")
        assert screen.end() == 0
    last = screen.seen.decode().split("\r\n")[-3].rpartition("\r")[2]
    assert re.match(rf"{run.name}  failed  \d+:\d\d:\d\d  4 ranks *$", last)
    assert b"\x1b" not in screen.seen


@pytest.mark.parametrize("word", ["quiet", "heard"])
def test_none_at_a_terminal_where_it_is_not_wanted(
    run: RunFolder, tmp_path: Path, word: str
) -> None:
    end(run)
    argv = [sys.executable, "-c", WAIT, run.name, word]
    with Terminal(argv, tmp_path, dict(os.environ)) as screen:
        screen.expect("it failed")
        assert screen.end() == 0
    assert b"4 ranks" not in screen.seen


@pytest.mark.thorough
@pytest.mark.parametrize("kernel", ["", KERNEL])
def test_in_a_notebook_and_not_in_a_pipe(run: RunFolder, kernel: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-c", kernel + WAIT, run.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        shown = b""
        while kernel and b"4 ranks" not in shown:
            shown += process.stdout.read(1)
        end(run)
        rest, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
    assert rest.endswith(b"it failed\n")
    assert kernel or rest == b"it failed\n"


def test_the_line_fits_and_says_what_counts() -> None:
    layout = Layout("calm-owl-1", (Node(Host("a"), 0, 2, 0),))
    ranks = {
        ("a", f"rank-{n}"): ProcessState("a", f"rank-{n}", n, code=0 if n else None)
        for n in range(2)
    }
    state = RunState(status="running", processes=ranks)
    assert (
        progress.text_of("calm-owl-1", state, layout, 3723.0, "loss 1", 80)
        == "calm-owl-1  running  1:02:03  2 ranks (1 ended)  | loss 1"
    )
    assert len(progress.text_of("calm-owl-1", state, layout, 1.0, "loss " * 99, 60)) == 60
    early = progress.text_of("calm-owl-1", RunState(stage="sync"), Layout("x", ()), 0.0, "", 80)
    assert early == "calm-owl-1  sync"


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({"node-0.out": b"from node 0\n", "node-1.out": b"from node 1\n"}, "from node 0"),
        ({"head-0.out": b"", "setup-0.out": b"pip\n", "stray.out": b"x\n"}, ""),
        ({"node-0.out": b"torchrun\n", "rank-10.out": b"10\n", "rank-2.out": b"2\n"}, "2"),
    ],
)
def test_its_last_words_are_of_the_first_process(
    tmp_path: Path, logs: dict[str, bytes], said: str
) -> None:
    folder = tmp_path / "logs" / "attempt-0"
    folder.mkdir(parents=True)
    for name, text in logs.items():
        (folder / name).write_bytes(text)
    assert progress._last_words(tmp_path, 0) == said
