"""Files of images on this machine, while hosts get them."""

from __future__ import annotations

from pathlib import Path

from launcher.runner.image_bringing import linked


def test_a_link_stays_while_another_host_copies_from_it(tmp_path: Path) -> None:
    """Removed and made again, it would be gone for a moment, and the other copy would fail."""
    file = tmp_path / "tiny.tar"
    file.write_bytes(b"tar")
    first = linked(tmp_path / "cache", file, "0c1e.tar")
    before = first.lstat()
    assert linked(tmp_path / "cache", file, "0c1e.tar") == first
    assert first.lstat() == before
    assert first.read_bytes() == b"tar"
