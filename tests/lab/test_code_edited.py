"""Code that is edited while it is copied: all hosts of a run execute the same."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

from launcher.runner.files.code_patch import MOST_BYTES
from support import lab as labs
from support.command import Launcher

#: rsync, but the second copy begins once the first host has its code, and somebody saves a file.
EDITING = """#!/bin/sh
if ! mkdir {scratch}/first 2>/dev/null && mkdir {scratch}/second 2>/dev/null; then
    for wait in $(seq 1200); do
        grep -q CodeSynced {scratch}/home/runs/*/events.jsonl && break; sleep 0.05
    done
    echo the second one > {work}/version.txt
fi
exec {rsync} "$@"
"""


def test_hosts_that_copied_different_versions_agree(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The first host had the old version, the second the new one, and the run trained with both."""
    (launcher.work / "version.txt").write_text("the first\n")
    (launcher.work / "large.bin").write_bytes(os.urandom(MOST_BYTES))  # rsync is for what is large
    rsync = tmp_path / "bin" / "rsync"
    rsync.parent.mkdir()
    rsync.write_text(
        EDITING.format(
            scratch=tmp_path,
            work=shlex.quote(str(launcher.work)),
            rsync=shutil.which("rsync"),
        )
    )
    rsync.chmod(0o755)
    launcher.env["PATH"] = f"{rsync.parent}:{os.environ['PATH']}"
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "cat", "version.txt")
    assert ran.code == 0, ran.err
    assert [ran.log(f"node-{node}.out") for node in (0, 1)] == [b"the second one\n"] * 2
    events = map(json.loads, (ran.folder / "events.jsonl").read_text().splitlines())
    noted = json.loads((ran.folder / "code.json").read_text())["snapshot"]
    synced = [event["version"] for event in events if event["event"] == "CodeSynced"]
    assert synced[-2:] == [noted, noted] != synced[:2]
