"""What searches in images have found, where that stays true: an image with an ID never changes.

::

    images/known/<key>   what was found, if nothing was missing and nothing of it is the host's
"""

from __future__ import annotations

import os
import re

from ..base import json_files
from ..base.protocol import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..base.messages import ContainerSpec

#: An image that has an ID, as its runtime takes it.
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}\Z")


class Searched:
    """The place of a search in an image, for what was asked. ``root`` is launcher's folder here."""

    def __init__(self, root: str, spec: ContainerSpec, asked: Sequence[str]) -> None:
        self._inside = [mount.split(":")[1] for mount in spec["mounts"]]
        about = "\0".join([spec["runtime"], spec["image"], *spec["mounts"], "", *asked])
        key = blake2b(about.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
        self._path = os.path.join(root, "images", "known", "search-" + key)
        self._lasts = bool(_ID.match(spec["image"]))

    def found(self) -> dict[str, Any] | None:
        """Return what an earlier search has found; None where it is to be searched."""
        return (json_files.read(self._path) or None) if self._lasts else None

    def keep(self, found: dict[str, Any], places: Sequence[str]) -> None:
        """Remember what was found in these places, if it stays true."""
        if not self._lasts or found["missing"] or any(map(self._is_of_host, places)):
            return
        json_files.write(self._path, found)

    def _is_of_host(self, place: str) -> bool:
        if not place.startswith("/"):
            return bool(place)  # of the folder in which it runs
        return any((place + "/").startswith(inside.rstrip("/") + "/") for inside in self._inside)
