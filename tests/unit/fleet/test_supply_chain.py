"""What launcher trusts beside its own code: the rsync of this machine, and kept wheels of Horovod."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from launcher.fleet.check.checker import Visitor, check
from launcher.spec.model import Inventory
from launcher.transport import rsync
from support import ROOT

RSYNC = """#!/bin/sh
case "$*" in
*--trust-sender*) exit {trust_sender} ;;
esac
echo "rsync  version {version}  protocol version 31"
"""
#: By version and the exit code of --trust-sender: whether extra files are rejected.
VERSIONS = [("3.1.3", 1, False), ("3.2.4", 1, False), ("3.1.3", 0, True), ("3.2.5", 0, True)]


def _program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder / name


def _use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def _codes(inventory: Inventory) -> list[tuple[str, tuple[str, ...]]]:
    """What a check without any host finds: only this machine is left."""

    async def checked() -> list[tuple[str, tuple[str, ...]]]:
        async with Visitor(inventory, ()) as visitor:
            report, _ = await check(visitor)
            return [(finding.code, finding.hosts) for finding in report.findings]

    return asyncio.run(checked())


@pytest.mark.parametrize(("version", "trust_sender", "is_safe"), VERSIONS)
def test_an_rsync_that_accepts_extra_files_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, trust_sender: int, is_safe: bool
) -> None:
    """Unless its distribution has backported the check, which shows by its option."""
    text = RSYNC.format(version=version, trust_sender=trust_sender)
    _use(monkeypatch, _program(tmp_path / "bin", "rsync", text).parent)
    assert rsync.require_here() == version
    expected = [] if is_safe else [("RSYNC-UNSAFE", ("this machine",))]
    assert _codes(Inventory(())) == expected


def test_an_rsync_that_is_too_old_for_runs_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = RSYNC.format(version="3.0.9", trust_sender=1)
    _use(monkeypatch, _program(tmp_path / "bin", "rsync", text).parent)
    assert _codes(Inventory(())) == [("RSYNC-MISSING", ("this machine",))]


PYTHON = """#!/bin/sh
case "$*" in
*metadata*) echo 2.13.0-python3.11.7-x86_64 ;;  # the torch that it has
*"import horovod"*) exit 1 ;;
*install*) echo "$*" >>{log} ;;
esac
"""


@pytest.mark.parametrize(("mode", "is_used"), [(0o755, True), (0o757, False)])
def test_a_kept_wheel_is_used_only_from_a_private_folder(
    tmp_path: Path, mode: int, is_used: bool
) -> None:
    """Its name says all: another user could have put it there."""
    log = tmp_path / "installed"
    python = _program(tmp_path / "bin", "python", PYTHON.format(log=log))
    wheels = tmp_path / "wheels"
    folder = wheels / "horovod-0.28.1-1-torch-2.13.0-python3.11.7-x86_64"
    folder.mkdir(parents=True)
    (folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").touch()
    folder.chmod(mode)
    done = subprocess.run(
        ["sh", ROOT / "launcher/fleet/bootstrap/build-horovod.sh", python],
        env={**os.environ, "LAUNCHER_WHEELS": str(wheels), "HOROVOD_WITHOUT_MPI": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (log.exists() and ".whl" in log.read_text()) == is_used, done.stderr
    if not is_used:
        assert done.returncode == 1
        assert f"error: {folder} can be changed by other users" in done.stderr
        assert "hint: remove it, or set LAUNCHER_WHEELS" in done.stderr
