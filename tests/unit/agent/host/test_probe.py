"""What a host reports of itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from launcher.agent.host import probe


def test_the_version_of_rsync_is_asked_for_again_when_there_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path(str(shutil.which("rsync")))
    mine, note = tmp_path / "bin" / "rsync", tmp_path / "rsync.json"
    mine.parent.mkdir()
    monkeypatch.setenv("PATH", f"{mine.parent}:{os.environ['PATH']}")

    def version() -> str:
        return str(probe.rsync_version(str(tmp_path)))

    shutil.copy(real, mine)
    found = version()
    note.write_text(note.read_text().replace(found, "9.9"))
    assert version() == "9.9", "it was asked although it is the same"
    shutil.copy(real, mine)
    assert version() == found
    mine.write_text(f"#!/bin/sh\ncat '{tmp_path}/another'\n")
    for other in ("2.6.9", "3.1.3"):  # a script is the same, and leads to another one each time
        (tmp_path / "another").write_text(f"rsync version {other}\n")
        assert version() == other
    note.write_text("{")
    mine.unlink()
    assert version() == found


IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000001a00fffe000002 02 40 20 80     eth0
fd810000000000000000000000000009 02 40 00 01     eth0
fd810000000000000000000000000011 02 40 00 80     eth0
fd820000000000000000000000000011 03 40 00 c0      ib0
"""


def test_ipv6_addresses_that_others_can_use(tmp_path: Path) -> None:
    """No loopback, no link-local one, none that is not ready; one for privacy comes last."""
    (tmp_path / "if_inet6").write_text(IF_INET6)
    found = probe.ipv6_addresses(str(tmp_path / "if_inet6"))
    assert found == [("eth0", "fd81::11"), ("eth0", "fd81::9")]
    assert probe.ipv6_addresses(str(tmp_path / "none")) == []
