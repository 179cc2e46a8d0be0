"""``--max-rate``: what travels to and from several hosts at once keeps to it. A slow machine only makes
it slower."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from support import lab as labs
from support.command import Launcher

#: Bytes that a link and both ends take at once, before anything is counted.
AHEAD = 1 << 20
RATE = "2MB/s"
TWO_HOSTS = ["--hosts", "lab1,lab2"]


def rate_of(size: int, do: Callable[[], Any]) -> tuple[Any, float]:
    """Return what is returned, and the bytes a second that a transfer took at most."""
    began = time.monotonic()
    found = do()
    return found, (size - AHEAD) / (time.monotonic() - began)


def test_push_run_and_pull(launcher: Launcher, clean: labs.Lab) -> None:
    folder = launcher.work / "some data"
    folder.mkdir()
    (folder / "x").write_bytes(os.urandom(2_500_000))
    where = ["-i", str(launcher.inventory), *TWO_HOSTS]
    words = ["push", str(folder), "--to", "/tmp/pushed", "--max-rate", RATE]
    pushed, rate = rate_of(5_000_000, lambda: launcher.call(*words, *where))
    assert pushed.returncode == 0, pushed.stderr
    assert rate < 2e6
    bad = launcher.call("push", str(folder), *where, "--max-rate", "2Mb")
    assert bad.returncode == 2
    assert "--max-rate: not a rate: '2Mb' (50MB/s, 400Mbit/s)" in bad.stderr

    large = launcher.work / "large"
    large.mkdir()
    (large / "y").write_bytes(os.urandom(17 << 20))  # hosts pass it on to each other
    (launcher.work / "job.yaml").write_text(
        "run: head -c 1500000 /dev/urandom >$LAUNCHER_OUTPUT_DIR/of-$RANK\n"
        "framework: env\nnum_nodes: 2\ndata: {large: large}\nmax_rate: 96Mbit/s\n"
    )
    size = (17 << 20) + 3_000_000
    ran, rate = rate_of(size, lambda: launcher.run(*TWO_HOSTS, "job.yaml"))
    assert ran.code == 0, ran.err
    assert rate < 12e6
    assert "max_rate 12.0 MB/s" in launcher.call("show", ran.folder.name).stdout

    dest = launcher.work / "dest"
    pull = ["pull", ran.folder.name, str(dest), "--max-rate", "1MB/s"]
    for host in ("lab1", "lab2"):
        (ran.folder / ".hosts" / host / "outputs").rename(ran.folder / ".hosts" / host / "gone")
    pulled, rate = rate_of(3_000_000, lambda: launcher.call(*pull))
    assert pulled.returncode == 0, pulled.stderr
    assert rate < 1e6
    assert {path.stat().st_size for path in (dest / "outputs").iterdir()} == {1_500_000}
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-rf", "/tmp/pushed", "/root/.launcher/host/data")
