"""Lists a folder of a host as a data set. The host reads it, and its list of files comes here."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from ...agent.base import manifest
from ...spec.data import Version
from ...spec.errors import SyncError
from ...transport import rsync
from ...transport.answers.data import DataRead
from ..concurrency import in_thread
from . import registry
from .host import Host
from .listing import Listed, OnRead, unfit

#: Seconds that a host reads until it says how far it is.
AT_ONCE = 0.5
#: The longest list of files that is taken from a host: of ten million files, or so.
MOST = 2 << 30


async def read(host: Host, path: str, on_read: OnRead = lambda count, total: None) -> Listed:
    """Return the version that a folder of a host has now. Raises InputError, HostError, OSError."""
    is_first = True
    while True:
        found = await host.agent.answer(
            DataRead, "data", do="read", path=path, first=is_first, seconds=AT_ONCE
        )
        is_first = False
        if found.unfit is not None:
            reason, about, target = found.unfit
            if reason in ("missing", "no-folder"):
                raise unfit(reason, f"{host.name}:{path}")
            raise unfit(reason, f"{host.name}:{os.path.join(found.folder, about)}", target)
        if found.read:
            on_read(found.read, None)
        if found.over:
            break
    version = Version(found.version, found.files, found.bytes)
    listed = await _bring_manifest(host, found, version)
    registry.settle(f"{host.name}:{path}", version)
    return Listed(version, Path(found.folder), listed, found.read, there=host.name)


async def _bring_manifest(host: Host, found: DataRead, version: Version) -> Path:
    """Bring the list of files, if it is not here; return where it is. Raises SyncError, OSError."""
    place = registry.make_folder("manifests")
    kept = place / version.version
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as folder:
        options = ["--compress", f"--max-size={MOST}", f"x:{found.place}/", f"{folder}/"]
        await rsync.copy(host.connection, host.name, options, b"manifest")
        made = Path(folder) / "manifest"
        if not await in_thread(_fits, made, version):
            raise SyncError(
                host.name,
                f"its list of the files in {found.folder} is not the one that it has announced",
                "does something else read or write that folder now? Start again",
            )
        os.replace(made, kept)
    return kept


def _fits(made: Path, version: Version) -> bool:
    """Return whether a list of files is whole, and that of a version."""
    if made.is_symlink() or not made.is_file():
        return False
    with made.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest()[: manifest.LENGTH] != version.version:
            return False
        file.seek(0)
        files = size = 0
        try:
            for entry in manifest.entries(file):
                files, size = files + 1, size + entry.size
        except ValueError:
            return False
    return (files, size) == (version.files, version.bytes)
