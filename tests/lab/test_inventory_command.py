"""`launcher inventory` as a user calls it, and other tools' files given to a run on real hosts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.interop.inventories import export
from launcher.spec import inventory as inventories
from support import lab as labs
from support.command import Launcher
from support.own_home import at_home


@pytest.mark.parametrize("form", ["ansible", "ssh_config"])
def test_a_run_takes_them_as_they_are(
    form: str, clean: labs.Lab, launcher: Launcher, tmp_path: Path
) -> None:
    ours = inventories.load(labs.inventory(clean, sys.executable), "lab")
    own = Path(str(ours.ssh_config)).read_text()
    theirs = tmp_path / "theirs"
    text = own if form == "ssh_config" else export.export(ours, form)[0]
    theirs.write_text(text)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(own)
    launcher.inventory = theirs
    within = at_home(tmp_path, [])  # what an inventory leaves out comes from ~/.ssh/config
    words = ("--nodes", "3", "--framework", "env", "echo at $LAUNCHER_HOST of $USER")
    done = launcher.run(*words, within=within)
    assert done.code == 0, done.err
    assert sorted(host["host"] for host in done.receipt["hosts"]) == ["lab1", "lab2", "lab3"]
