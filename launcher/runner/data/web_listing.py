"""Lists a file of a web server as a data set of one file.

A web server has no sums. So the file is read once here, and again when the server says that it has
changed, unless its URL ends with ``#sha256=``. Hosts read it themselves, and compare what arrives.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...agent.base import manifest
from ...agent.base.manifest import Entry
from ...spec import data, web_url
from ...spec.data import Version
from ...spec.errors import InputError, StoreError
from ...spec.frozen import frozen
from . import registry

if TYPE_CHECKING:
    from ...transport.web_file import Found


_NO_HEADERS: Mapping[str, str] = {}


@frozen
class WebFile:
    """A file that hosts read from a web server; ``by_ranges``: also parts of it."""

    source: str
    by_ranges: bool
    state: str
    #: What to do about a host that cannot read it.
    advice = (
        "can that host reach the server? If not, download the file here, and use its folder. What has "
        "arrived stays there"
    )
    #: Its URL has no signature, and hosts go where the server redirects them.
    follow = True
    headers = _NO_HEADERS

    def url(self, path: str) -> str:
        """Return the URL that reads it."""
        return web_url.address(self.source)

    def has_changed(self) -> bool:
        """Return whether the server says that it is another file now, or does not answer. Blocks."""
        from ...transport import web_file

        try:
            return _state(web_file.look(self.url(""))) != self.state
        except StoreError:
            return True

    def doubt(self) -> None:
        """Read it again the next time, whatever the server says. Raises OSError."""
        registry.doubt(self.source)


def read(source: str, on_read: Callable[[int, int | None], None]) -> tuple[Version, WebFile, Path]:
    """Return the version of a file, the file, and the manifest. Blocks for as long as it takes to read
    all of it, unless it has not changed. ``on_read`` is called with the bytes that were read and,
    where the server says it, their number, and may raise what it wants.

    Raises InputError, StoreError, OSError.
    """
    from ...transport import web_file  # slow to import, and few runs need it

    address, known = web_url.address(source), web_url.known_sum(source)
    found = web_file.look(address)
    manifests = registry.make_folder("manifests")
    seen = registry.seen(source)
    if seen and seen[0] == _state(found) and (manifests / seen[1].version).exists():
        return seen[1], WebFile(source, found.by_ranges, seen[0]), manifests / seen[1].version
    if found.size is not None and known:
        size, its_sum = found.size, known
    else:
        if not found.has_end and not known:
            raise StoreError(
                f"{source} cannot be read: the server does not say where the file ends",
                "add its sum: #sha256=...; or download it, and use its folder",
            )
        all_of_it, found = web_file.read(address, found, on_read)
        size, its_sum = all_of_it.size, all_of_it.sha256
    if known and its_sum != known:
        raise InputError(
            f"{data.shown(source)}: its sha256 is {its_sum}",
            "is the one in the URL that of another version of the file?",
        )
    version = _write(manifests, Entry(web_url.file_name(source), size, False, _tagged(its_sum)))
    fingerprint = _state(found) if found.is_sure else ""
    registry.settle(source, version, fingerprint)
    return version, WebFile(source, found.by_ranges, _state(found)), manifests / version.version


def _tagged(digest: str) -> bytes:
    return manifest.SHA256 + digest.encode()


def _state(found: Found) -> str:
    return f"{found.size} {found.state}"


def _write(manifests: Path, entry: Entry) -> Version:
    """Write the manifest of one file."""
    whole = manifest.HEADER + manifest.encode(entry)
    version = hashlib.sha256(whole).hexdigest()[: manifest.LENGTH]
    with tempfile.NamedTemporaryFile(dir=manifests, prefix=".new-", delete=False) as made:
        made.write(whole)
    os.replace(made.name, manifests / version)
    return Version(version, 1, entry.size)
