"""Progress bars of several ranks: one live line at a terminal, and nothing of the kind in files."""

from __future__ import annotations

import sys

from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal

#: Draws a bar over itself, as tqdm does, until it is told to end.
BARS = """
import os, pathlib, sys, time
rank = int(os.environ["RANK"])
print("columns", os.environ.get("COLUMNS"), os.environ.get("TQDM_NCOLS"), flush=True)
while not pathlib.Path("/tmp/begin").exists():
    time.sleep(0.05)
for percent in (10, 40 + 20 * rank):
    sys.stderr.write(f"\\r {percent}%|###   | {percent}/100 [00:01<00:02, loss=0.5]")
    sys.stderr.flush()
while not pathlib.Path("/tmp/end").exists():
    time.sleep(0.05)
sys.stderr.write("\\n")
"""


def test_bars_of_all_ranks_are_one_line(launcher: Launcher, clean: labs.Lab) -> None:
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/begin", "/tmp/end")
    script = launcher.script(BARS)
    words = ("--hosts", "lab1", "--nproc-per-node", "2", "--framework", "torch")
    env = {**launcher.environment(), "TERM": "xterm"}
    argv = [sys.executable, "-m", "launcher", "run", "-i", str(launcher.inventory), *words, script]
    with Terminal(argv, launcher.work, env, columns=80) as terminal:
        terminal.expect("columns 69 68")  # less "lab1 [0] │ "
        terminal.expect("  last output ")
        assert b"\x1b[2Krunning " in terminal.seen.replace(b"\x1b[2m", b"")
        host.write("/tmp/begin", b"")
        terminal.expect("[0-1] ┆ 40-60% 40-60/100 [00:01<00:02, loss=0.5]")
        terminal.expect("slowest lab1 [0]")
        host.write("/tmp/end", b"")
        terminal.expect("[0-1] ┆ \x1b[0m40-60% 40-60/100")
        assert terminal.end() == 0, terminal.seen.decode()

    ran = launcher.run(*words, script)
    assert "columns None None" in ran.out, "without a terminal nothing is set"
    assert "40%|###   | 40/100" in ran.out
    assert "60%|###   | 60/100" in ran.out
    assert "40-60" not in ran.out
