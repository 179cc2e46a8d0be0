"""The folders that the hosts of a run share. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from ..spec.errors import InputError
from ..spec.model import OUTPUTS, Job


def folders(texts: Iterable[str]) -> tuple[str, ...]:
    """Return folders to share as they are written, without a slash behind. Raises ValueError."""
    return tuple(dict.fromkeys(_folder(text) for text in texts))


def _folder(text: str) -> str:
    path = posixpath.normpath(text.strip() or ".")
    inside = path.removeprefix(OUTPUTS).lstrip("/") if path.startswith(OUTPUTS) else path
    if path.startswith(("/", "~", "../")) or path in (".", "..") or inside.startswith(".."):
        raise ValueError(f"share: {text!r} is not a folder in the workdir")
    if any(letter in inside for letter in "*?[]{}\0"):
        raise ValueError(f"share: {text!r} is a pattern: name folders")
    return path


def check(job: Job) -> None:
    """Raise InputError for a shared folder in a data set, around one or at one: what ranks write there
    would change the set itself, which other runs use."""
    for path in job.share:
        for one in job.data:
            if one.to and (one.to + "/").startswith(path + "/") | path.startswith(one.to + "/"):
                raise InputError(
                    f"share: {path} and the data set {one.name} at {one.to} overlap",
                    "share another folder, or give the data set another to:",
                )


def on_host(job: Job) -> list[str]:
    """Return the job's shared folders, relative to the folder of the run on a host; none of them is
    inside another one."""
    found = sorted(
        posixpath.normpath("outputs" + path.removeprefix(OUTPUTS))
        if path.startswith(OUTPUTS)
        else posixpath.join("code", path)
        for path in job.share
    )
    return [path for path in found if not any(path.startswith(one + "/") for one in found)]
