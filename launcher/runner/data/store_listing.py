"""Lists a prefix of an object store as a data set, without reading the objects.

The tags of the store take the place of sums: hosts compute their own when objects arrive.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...agent.base import manifest
from ...agent.base.manifest import Entry
from ...spec import data
from ...spec.data import Version
from ...spec.errors import InputError, StoreError
from ..credentials import LOOKED_UP_EVERY, find_bucket
from . import registry

if TYPE_CHECKING:
    from ...transport.object_store import Bucket, Object

#: Longest name of a file in bytes, and longest path.
LONGEST_NAME, LONGEST_PATH = 255, 4000


class Prefix:
    """The objects of a bucket whose keys start with a prefix. ``find`` finds it again: a copy may
    outlast the session of the credentials that it began with."""

    #: What to do about a host that cannot read it.
    advice = (
        "can that host reach the store, and may these credentials read objects, not only list them? "
        "What has arrived stays there"
    )
    by_ranges = True
    #: Signed URLs are not to be redirected.
    follow = False

    def __init__(self, bucket: Bucket, prefix: str, find: Callable[[], Bucket]) -> None:
        self._bucket, self._prefix, self._find = bucket, prefix, find
        self._found, self._lock = time.monotonic(), threading.Lock()

    @property
    def headers(self) -> Mapping[str, str]:
        """What requests that read it say besides."""
        return self._bucket.headers

    def has_changed(self) -> bool:
        """Return whether it is known to have changed: hosts know by its tags."""
        return False

    def doubt(self) -> None:
        """Read it again the next time: it always is."""

    def url(self, path: str) -> str:
        """Return a URL that reads one of them for an hour: a secret. Blocks."""
        with self._lock:
            if time.monotonic() > self._found + LOOKED_UP_EVERY:
                self._found = time.monotonic()
                with suppress(StoreError):  # those that are known may still be good
                    known = self._find().credentials
                    self._bucket = replace(self._bucket, credentials=known)
            return self._bucket.url(self._prefix + path)


def read(source: str, credential: str = "") -> tuple[Version, Prefix, Path]:
    """Return the version of a source in a store, the prefix, and the manifest; the store is read with
    the credential of that name. Blocks.

    Raises InputError, StoreError, OSError.
    """
    name, prefix = data.in_store(source)
    find = partial(find_bucket, data.scheme(source), name, credential)
    bucket = find().in_step(prefix)
    try:
        found = _write(source, _entries(bucket.objects(prefix), source, prefix))
    except _Disorder:
        listed = sorted(_entries(bucket.objects(prefix), source, prefix), key=lambda one: one.path)
        found = _write(source, iter(listed))
    # With another credential the same name may be that of another store.
    registry.settle(f"{source} {credential}".strip(), found)
    return found, Prefix(bucket, prefix, find), registry.folder() / "manifests" / found.version


def _write(source: str, entries: Iterator[Entry]) -> Version:
    """Write the manifest of these entries."""
    manifests = registry.make_folder("manifests")
    version, files, size = hashlib.sha256(manifest.HEADER), 0, 0
    with tempfile.NamedTemporaryFile(dir=manifests, prefix=".new-", delete=False) as made:
        try:
            made.write(manifest.HEADER)
            for entry in _ordered(entries, source):
                line = manifest.encode(entry)
                made.write(line)
                version.update(line)
                files, size = files + 1, size + entry.size
            if not files:
                raise InputError(
                    f"{source} has no objects", "is it the prefix of the data, and the right store?"
                )
        except BaseException:
            os.unlink(made.name)
            raise
    found = Version(version.hexdigest()[: manifest.LENGTH], files, size)
    os.replace(made.name, manifests / found.version)
    return found


def _entries(objects: Iterator[Object], source: str, prefix: str) -> Iterator[Entry]:
    """Yield the files that objects become. Raises InputError for one that cannot be a file."""
    for one in objects:
        path = one.key[len(prefix) :]
        if one.key == prefix or (path.endswith("/") and one.size == 0):
            continue  # what some tools show as a folder
        raw = os.fsencode(path)
        if not one.key.startswith(prefix) or not manifest.is_inside(raw) or b"\0" in raw:
            raise InputError(
                f"{source}: the object {one.key!r} cannot be a file of a folder",
                "copy it under another name, or name a prefix below which there is none like it",
            )
        if len(raw) > LONGEST_PATH or max(map(len, raw.split(b"/"))) > LONGEST_NAME:
            raise InputError(
                f"{source}: the name of the object {one.key[:80]!r}... is too long for a file",
                f"a file's name has {LONGEST_NAME} bytes at most",
            )
        if one.size < 0:
            raise InputError(f"{source}: the store names no size of the object {one.key!r}")
        tag = "".join(mark for mark in one.tag if "!" <= mark <= "~" and mark != '"')
        yield Entry(raw, one.size, False, manifest.ETAG + tag.encode())


class _Disorder(Exception):
    """The store does not list keys in the order of their bytes."""


def _ordered(entries: Iterator[Entry], source: str) -> Iterator[Entry]:
    """Yield entries; raise InputError where a file would also be a folder, _Disorder as it says."""
    above: list[bytes] = []  # paths that the present one starts with
    for entry in entries:
        if above and entry.path <= above[-1]:
            raise _Disorder
        while above and not entry.path.startswith(above[-1]):
            above.pop()
        for path in above:
            if entry.path.startswith(path + b"/"):
                raise InputError(
                    f"{source}: {os.fsdecode(path)} is an object, and objects are below it: a folder "
                    "cannot have both",
                    "copy one of them under another name",
                )
        above.append(entry.path)
        yield entry
