"""Blocks of a data set: both sides cut the same, and what was cut can be put together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.base import blocks, manifest
from launcher.agent.base.blocks import Blocks
from launcher.agent.base.manifest import Entry


def cut(folder: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, length: int) -> Blocks:
    """Return the blocks of files of these sizes in ``folder/from``."""
    monkeypatch.setattr(blocks, "SHORTEST", length)
    monkeypatch.setattr(blocks, "LENGTH", length)
    (folder / "from").mkdir(parents=True)
    with (folder / "manifest").open("wb") as file:
        file.write(manifest.HEADER)
        for number, size in enumerate(sizes):
            name = f"{number:04}" if number % 3 else f"{number:04}.d/é x"
            path = folder / "from" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(size))
            file.write(manifest.encode(Entry(os.fsencode(name), size, False, b"sha256:x")))
    return Blocks(str(folder / "manifest"))


@pytest.mark.thorough
@given(sizes=st.lists(st.integers(0, 40), max_size=12), length=st.integers(1, 30))
def test_blocks_put_together_are_the_files(
    sizes: list[int], length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In any order; no block is longer than the others, and together they have every byte once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("set")
        found = cut(folder, sizes, monkeypatch, length)
        assert found.count == -(-sum(sizes) // length)
        assert sum(found.length_of(number) for number in range(found.count)) == sum(sizes)
        for number in reversed(range(found.count)):
            pieces = list(found.pieces(number))
            data = blocks.read(pieces, found.length_of(number), str(folder / "from"))
            blocks.write(pieces, str(folder / "to"), data)
    for path in (folder / "from").rglob("*"):
        if path.is_file() and path.stat().st_size:
            assert (
                folder / "to" / path.relative_to(folder / "from")
            ).read_bytes() == path.read_bytes()


def test_a_file_that_became_shorter_is_no_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cut(tmp_path, [10, 10], monkeypatch, 8)
    (tmp_path / "from" / "0001").write_bytes(b"short")

    def read(number: int) -> bytearray:
        return blocks.read(found.pieces(number), found.length_of(number), str(tmp_path / "from"))

    assert len(read(0)) == 8
    with pytest.raises(OSError, match="shorter"):
        read(2)


def test_a_small_set_has_many_blocks_and_a_large_one_few() -> None:
    """What one host has can be passed on while the next one is coming; and none is longer than a message
    may be."""
    assert (100 << 20) // blocks.length_for(100 << 20) == 200
    assert blocks.length_for(200 << 20) == 1 << 20
    assert blocks.length_for(10 << 30) == blocks.LENGTH
    assert blocks.length_for(100 << 30) // (1 << 20) == 13
    assert blocks.length_for(100 << 40) == blocks.LONGEST
