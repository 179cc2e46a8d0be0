"""Manifests: the format that names a data set, and the order of its paths."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.base import manifest
from launcher.agent.base.manifest import Entry

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@pytest.mark.thorough
@given(st.dictionaries(PATHS, st.tuples(st.integers(0, 1 << 50), st.booleans()), max_size=20))
def test_what_is_written_is_read(files: dict[bytes, tuple[int, bool]]) -> None:
    entries = [
        Entry(path, size, executable, b"sha256:00") if executable else Entry(path, target=b"a b\nc")
        for path, (size, executable) in sorted(files.items())
    ]
    data = manifest.HEADER + b"".join(map(manifest.encode, entries))
    assert list(manifest.entries(io.BytesIO(data))) == entries


@pytest.mark.parametrize(
    "entries",
    [
        b"",
        b"f 1 0 s ../x\0",
        b"f 1 0 s /x\0",
        b"f 1 0 s a//b\0",
        b"f 1 0 s a/./b\0",
        b"f -1 0 s a\0",
        b"f 1 0 s b\0f 1 0 s a\0",
        b"f 1 0 s a\0f 1 0 s a\0",
        b"f 1 0 s a",
        b"x 1 0 s a\0",
        b"f 1 0\0",
        b"f 1 0 s " + b"a" * (manifest.LONGEST + manifest.PIECE),
    ],
)
def test_what_is_no_manifest(entries: bytes) -> None:
    """A path that leads out of the folder is none, nor is a list that is cut off or out of order."""
    header = manifest.HEADER if entries else b"something else"
    with pytest.raises(ValueError, match=r".+"):
        list(manifest.entries(io.BytesIO(header + entries)))


def test_the_order_is_that_of_whole_paths(tmp_path: Path) -> None:
    """Also where a folder's name is the beginning of a file's."""
    for name in ("a/x", "a.txt", "a0", "a/b/c", "a-/y", "b"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    (tmp_path / "link").symlink_to("a")
    found = [path for path, _ in manifest.walk(os.fsencode(tmp_path))]
    assert found == sorted(found)
    assert len(found) == 7
