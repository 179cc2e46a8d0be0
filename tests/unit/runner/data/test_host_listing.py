"""A host's list of files is believed as far as its sum, its count and its bytes go."""

from __future__ import annotations

import hashlib
from pathlib import Path

from launcher.agent.base import manifest
from launcher.agent.base.manifest import Entry
from launcher.runner.data import host_listing
from launcher.spec.data import Version

WHOLE = manifest.HEADER + manifest.encode(Entry(b"a", 5, False, manifest.SHA256 + b"0" * 64))


def named(text: bytes, files: int = 1, size: int = 5) -> Version:
    """Return the version that a host would announce for a list."""
    return Version(hashlib.sha256(text).hexdigest()[: manifest.LENGTH], files, size)


def test_only_a_list_that_fits_is_taken(tmp_path: Path) -> None:
    made = tmp_path / "manifest"
    made.write_bytes(WHOLE)
    assert host_listing._fits(made, named(WHOLE))
    assert not host_listing._fits(made, named(WHOLE + b"x")), "another sum"
    assert not host_listing._fits(made, named(WHOLE, files=2))
    assert not host_listing._fits(made, named(WHOLE, size=6))
    for text in (WHOLE.replace(b" a\0", b" ../a\0"), WHOLE[:-1], b"f 5 0 x a\0"):
        made.write_bytes(text)
        assert not host_listing._fits(made, named(text)), text
    made.unlink()
    assert not host_listing._fits(made, named(WHOLE))
    made.symlink_to("/etc/passwd")
    assert not host_listing._fits(made, named(WHOLE))
