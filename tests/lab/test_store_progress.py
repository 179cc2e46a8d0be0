"""What a person sees while outputs go to a slow store, and come back from it."""

from __future__ import annotations

import sys

from support import lab as labs
from support.command import Launcher
from support.object_store import Store
from support.store_line import line_to
from support.terminal import Terminal

SCRIPT = 'head -c 8000000 /dev/urandom >"$LAUNCHER_OUTPUT_DIR/model.pt"'


def test_outputs_to_a_slow_store_and_back(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """A line says how much is there and how much is not, in both directions; it fits its terminal."""
    store.put("slow", {})
    (launcher.work / "job.yaml").write_text(
        f"framework: env\noutputs: {{to: s3://slow/runs, pull: false}}\nrun: {SCRIPT}\n"
    )
    with line_to(store, clean.address) as line:
        launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
        going = line.hold(b"PUT ", b"/model.pt")
        with watched(launcher, "run", "-i", str(launcher.inventory), "--hosts", "lab1") as screen:
            screen.expect("storing outputs ")
            screen.expect(" of 8.0 MB")
            screen.expect("lab1 ")
            going.set()
            assert screen.end() == 0, screen.seen.decode()
        (folder,) = (launcher.home / "runs").iterdir()
        coming = line.hold(b"GET ", b"/model.pt")
        words = "pull", folder.name, str(launcher.work / "back"), "--from", "store"
        with watched(launcher, *words) as screen:
            screen.expect("bringing outputs back ")
            screen.expect(" of 8.0 MB")
            coming.set()
            assert screen.end() == 0, screen.seen.decode()
        drawn = [one for one in screen.seen.decode().split("\r\x1b[2K") if " of 8.0 MB" in one]
        assert all(len(one) < 80 + len("\x1b[2m\x1b[0m") for one in drawn)
        assert (launcher.work / "back" / "model.pt").stat().st_size == 8_000_000
        piped = launcher.call("pull", folder.name, str(launcher.work / "again"), "--from", "store")
        assert (piped.returncode, piped.stderr.count("\n")) == (0, 1), piped.stderr


def watched(launcher: Launcher, *words: str) -> Terminal:
    """Run a command at a terminal of 80 columns."""
    job = ["job.yaml"] if words[0] == "run" else []
    argv = [sys.executable, "-m", "launcher", *words, *job]
    return Terminal(argv, launcher.work, launcher.environment(), columns=80)
