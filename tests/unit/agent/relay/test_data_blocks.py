"""Which blocks a copy has that was interrupted."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from launcher.agent.base import blocks, manifest
from launcher.agent.base.manifest import Entry
from launcher.agent.relay.data_blocks import Copy


def test_blocks_of_another_length_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who upgrades in the middle of a copy gets no hole for a block; what was cut as now still counts."""
    (tmp_path / "files").mkdir()
    entry = Entry(b"one", 4000, False, b"sha256:x")
    (tmp_path / "manifest").write_bytes(manifest.HEADER + manifest.encode(entry))
    data = os.urandom(4000)

    def copy(length: int) -> Copy:
        monkeypatch.setattr(blocks, "SHORTEST", length)
        monkeypatch.setattr(blocks, "LENGTH", length)
        found = Copy((str(tmp_path),))
        found.load(lambda: None)
        return found

    first = copy(1000)
    first.write(0, data[:1000], hashlib.sha256(data[:1000]).hexdigest())
    assert copy(2000).have == 0
    again = copy(1000)
    assert again.have == 1
    assert again.read(0) == (data[:1000], hashlib.sha256(data[:1000]).hexdigest())


def test_a_block_that_is_here_stays(tmp_path: Path) -> None:
    """Its file may be summed as soon as its blocks are here: what comes late changes nothing."""
    (tmp_path / "files").mkdir()
    data = os.urandom(4000)
    entry = Entry(b"one", len(data), False, b"sha256:x")
    (tmp_path / "manifest").write_bytes(manifest.HEADER + manifest.encode(entry))
    copy = Copy((str(tmp_path),))
    copy.load(lambda: None)
    for one in (data, bytes(len(data))):
        copy.write(0, one, hashlib.sha256(one).hexdigest())
    assert (tmp_path / "files" / "one").read_bytes() == data
    assert copy.read(0) == (data, hashlib.sha256(data).hexdigest())
