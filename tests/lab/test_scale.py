"""`launcher scale` on real hosts: short trials that leave nothing, and what is said of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from xml.etree import ElementTree

from support import lab as labs
from support.command import Launcher

#: Prints a rate that is 1.8 times as large on two nodes; the beginning is slow.
PRINTS = """
import os, time
world, rank, slow = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]), 3
while True:
    if rank == 0:
        rate = 10 if slow > 0 else {1: 100, 2: 180}[world]
        print(f"step {slow} samples/s: {rate}", flush=True)
    slow -= 1
    time.sleep(0.1)
"""


def scaled(launcher: Launcher, *words: str) -> subprocess.CompletedProcess[str]:
    return launcher.call("scale", "-i", str(launcher.inventory), "--framework", "torch", *words)


def test_two_nodes_beside_one(launcher: Launcher, clean: labs.Lab) -> None:
    """Speed-up, efficiency, cost, a drawing, a sentence; every trial is a run that ended well."""
    launcher.script(PRINTS)
    (launcher.work / "job.yaml").write_text("run: train.py\ngrace: 2s\nmax_restarts: 2\n")
    # From the start of all processes: a busy machine takes a while for an interpreter.
    words = ["--nodes", "1,2", "job.yaml", "--for", "8s", "--warmup", "0.6s"]
    done = scaled(launcher, *words, "-o", "speed.svg")
    assert done.returncode == 0, done.stderr
    one, two = (line.split() for line in done.stdout.splitlines()[1:3])
    assert one == ["1", "1", "100", "0", "%", "1.00", "1.00", "2.78"]
    assert two == ["2", "2", "180", "0", "%", "1.80", "0.90", "3.09"]
    assert "process-h per 1M samples" in done.stdout
    assert "Recommendation: 2 nodes (1.8x, 90 % efficiency)" in done.stdout
    assert "2 nodes  ###" in done.stdout
    ElementTree.parse(launcher.work / "speed.svg")
    receipts = [json.loads(f.read_text()) for f in launcher.home.glob("runs/*/receipt.json")]
    assert sorted(len(receipt["hosts"]) for receipt in receipts) == [1, 2]
    for receipt in receipts:
        assert (receipt["status"], receipt["reason"]) == ("stopped", "trial-over")
        assert all(host["left"] == 0 and host["logs_complete"] for host in receipt["hosts"])


def test_what_cannot_be_compared_says_why(launcher: Launcher, clean: labs.Lab) -> None:
    """One trial fails, one prints nothing after its warm-up: the others' numbers stand, exit 1."""
    launcher.script(
        "import os, time\n"
        "if os.environ['WORLD_SIZE'] == '2': raise SystemExit(3)\n"
        "print('7 it/s', flush=True)\n"
        "time.sleep(0.2)\n"
    )
    words = ["--nodes", "1-3", "--for", "60s", "--warmup", "0", "--json", "train.py"]
    done = scaled(launcher, *words)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert [trial["nodes"] for trial in told["trials"]] == [1, 2, 3]
    assert "exited with 3" in told["trials"][1]["problem"]
    assert told["trials"][1]["rate"] is None
    assert told["trials"][2]["speedup"] == 1.0
    assert told["take"] == 1
    assert "--per-rank" in told["caution"]
    done = scaled(launcher, "--nodes", "1", "--for", "60s", "--pattern", "^(7 it)", "train.py")
    assert done.returncode == 1
    assert "the pattern found '7 it', which is not a number" in done.stdout
    assert "hint: allow more time with --for" in done.stdout


def test_ctrl_c_shows_what_is_there(launcher: Launcher, clean: labs.Lab) -> None:
    """In the second trial: it is ended, the third is not begun, and the first one's number is shown."""
    launcher.script(
        "import os, time\n"
        "if os.environ['WORLD_SIZE'] == '1':\n"
        "    print('samples/s: 100\\n' * 5)\n"
        "else:\n"
        "    print('begun', flush=True)\n    time.sleep(600)\n"
    )
    argv = [sys.executable, "-m", "launcher", "scale", "-i", str(launcher.inventory)]
    words = [
        "--framework",
        "torch",
        "--nodes",
        "1,2,3",
        "--for",
        "120s",
        "--warmup",
        "0",
        "train.py",
    ]
    process = subprocess.Popen(
        [*argv, *words],
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = "runs/*/logs/attempt-0/rank-0.out"
    try:
        labs.wait_until(
            lambda: process.poll() is not None or len(list(launcher.home.glob(logs))) == 2,
            "a line of the second trial",
            60,
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert out.splitlines()[1].split()[:3] == ["1", "1", "100"]
    assert "stopped before it had a rate" in out
    assert len(list(launcher.home.glob("runs/*/receipt.json"))) == 2
    assert "trial 3" not in err


def test_steps_of_scalars_where_nothing_is_printed(launcher: Launcher, clean: labs.Lab) -> None:
    """TensorBoard's files come back as outputs; their wall times tell 20 steps a second."""
    launcher.script(
        "import os, time\n"
        "from tensorboard.summary import Writer\n"
        "writer = Writer(os.environ['LAUNCHER_OUTPUT_DIR'] + '/board')\n"
        "begin = time.time()\n"
        "for step in range(30):\n"
        "    writer.add_scalar('loss', 1.0, step, wall_time=begin + step / 20)\n"
        "writer.close()\n"
    )
    done = scaled(launcher, "--nodes", "1", "--for", "60s", "--warmup", "0", "--json", "train.py")
    assert done.returncode == 0, done.stderr
    (trial,) = json.loads(done.stdout)["trials"]
    assert trial["status"] == "succeeded"
    assert trial["rate"]["unit"] == "steps"
    assert abs(trial["rate"]["value"] - 20) < 0.01
