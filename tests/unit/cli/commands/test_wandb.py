"""`launcher wandb sync` hands offline runs to a program `wandb`, which is a fake here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.records.live_files import LiveFiles

FAKE = """#!/bin/sh
echo "$@" >"$HOME/argv"
for one; do [ -d "$one" ] && cat "$one"/run-*.wandb && ls "$one/files"; done
exit 3
"""


def sync(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", "wandb", "sync", *words],
        env={**os.environ, "LAUNCHER_HOME": str(home), "HOME": str(home), "PATH": f"{home}/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.thorough
def test_what_has_come_of_offline_runs_is_handed_over(tmp_path: Path) -> None:
    """The longer of what travelled as logs do and what was pulled, with the files beside it."""
    for name in ("calm-owl-1", "young-fox-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "events.jsonl").write_text("")
    run = tmp_path / "runs" / "calm-owl-1"
    pulled = run / "outputs/wandb/offline-run-1-x"
    (pulled / "files").mkdir(parents=True)
    (pulled / "files" / "config.yaml").write_text("")
    (pulled / "run-x.wandb").write_text("be")
    LiveFiles(run, "gpu1").take("wandb/offline-run-1-x/run-x.wandb", 0, b"begun ")
    LiveFiles(run, "gpu2").take("wandb/offline-run-1-y/run-y.wandb", 0, b"other ")
    missing = sync(tmp_path, "calm-owl-1")
    assert (missing.returncode, "pip install wandb" in missing.stderr) == (2, True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wandb").write_text(FAKE)
    (tmp_path / "bin" / "wandb").chmod(0o755)
    done = sync(tmp_path, "calm-owl-1", "-p", "mine")
    assert (done.returncode, done.stdout) == (3, "begun config.yaml\nother "), done.stderr
    assert "2 offline runs" in done.stderr
    assert (tmp_path / "argv").read_text().startswith("sync -p mine /")
    nothing = sync(tmp_path, "young-fox-2")
    assert nothing.returncode == 2
    assert "nothing that was recorded offline has come back of young-fox-2" in nothing.stderr
    assert not list(tmp_path.glob("wandb-*"))
