"""File systems that do not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.base import far_paths, plain_files
from launcher.agent.base.far_paths import Silent
from launcher.agent.relay import tree
from support import hung_mount


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A folder that is another file system's, and the process that answers for it."""
    if os.geteuid() or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs root and /dev/fuse")
    place = tmp_path / "far away"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, hung_mount.__file__, str(place)], stdout=subprocess.PIPE
    ) as serving:
        assert serving.stdout
        if serving.stdout.readline() != b"ready\n":
            pytest.skip("FUSE cannot be mounted here")
        try:
            yield place, serving
        finally:
            serving.kill()
            serving.wait()
            subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.timeout(60)
def test_nobody_waits_for_one_that_hangs(
    tmp_path: Path,
    mounted: tuple[Path, subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not longer than once; what is on other file systems has an answer."""
    place, serving = mounted
    monkeypatch.setattr(far_paths, "ONE", 0.5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/far").symlink_to(place)
    (tmp_path / "out/near").symlink_to("../out")
    assert far_paths.is_folder(str(place))
    assert far_paths.lacking([str(place), str(tmp_path), "/none"]) == (["/none"], [])
    assert not far_paths.is_there(str(place / "none"))
    serving.send_signal(signal.SIGUSR1)
    while True:
        try:
            far_paths.is_there(str(place / "another"))
        except Silent:
            break
    began = time.monotonic()
    paths = [str(place), str(place / "x"), str(tmp_path), "/none"]
    assert far_paths.lacking(paths) == ([*paths[:2], "/none"], paths[:2])
    assert tree.target(str(tmp_path), "out/far") == (
        "",
        f"it is a link to {place}, which does not answer",
    )
    assert tree.target(str(tmp_path), "out/near") == ("out", "")
    found = {
        folder: sorted(others) for folder, _, others in plain_files.walk(str(tmp_path / "out"))
    }
    assert found == {str(tmp_path / "out"): ["far", "near"]}
    tree.remove(str(tmp_path / "out"))
    assert time.monotonic() < began + 0.5, "it was asked again"
    assert not (tmp_path / "out").exists()
