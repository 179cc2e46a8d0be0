"""Paths of this machine among a job's arguments that hosts do not have."""

from __future__ import annotations

import bisect
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...spec.frozen import frozen
from ...spec.model import Job
from ..policy.spares import named

#: Folders that every machine has of its own.
_EVERYWHERE = ("/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr")
#: Options that name a folder to write to, which hosts need not have.
_WRITTEN = re.compile("out|log|save|result|dest|ckpt.?dir|checkpoint.?dir|work.?dir", re.IGNORECASE)


@frozen
class LocalPath:
    """An argument, as it was written, that is a path of this machine. ``inside`` is what it is called
    on the hosts if it is in the workdir, and so copied."""

    argument: str
    path: str
    inside: str | None = None


def found(job: Job) -> tuple[LocalPath, ...]:
    """Return the absolute paths among the job's arguments that exist here, each once."""
    if job.shell:
        return ()
    paths = {}
    for before, word in zip(("", *job.run), job.run, strict=False):
        value = word.partition("=")[2] if word.startswith("-") else word
        if not value.startswith("/") or value in job.paths_needed or not os.path.exists(value):
            continue
        if any(value == place or value.startswith(place + "/") for place in _EVERYWHERE):
            continue
        option = (
            f"{before} " if before.startswith("-") and "=" not in before and word == value else ""
        )
        paths[value] = LocalPath(option + word, value, _inside(job, value))
    return tuple(paths.values())


def _inside(job: Job, path: str) -> str | None:
    folder = os.path.realpath(job.workdir)
    real = os.path.realpath(path)
    return os.path.relpath(real, folder) if real.startswith(folder + "/") else None


def with_relative_script(job: Job) -> Job:
    """Return the job; a script that was named by its whole path in the workdir has its path there."""
    first = job.run[0] if job.run and not job.shell else ""
    is_script = first.startswith("/") and first.endswith(".py") and Path(first).is_file()
    inside = _inside(job, first) if is_script else None
    return job if inside is None else replace(job, run=(inside, *job.run[1:]))


@frozen
class Missed:
    """Words of a command that are files here, and that hosts will not have: those of the workdir that
    are ignored, and those outside of it. False for none."""

    paths: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.paths or self.outside)


def into_outputs(job: Job) -> tuple[str, ...]:
    """Return the relative paths among the words of a job that exist here and lead into an output, which
    is no part of the code: a checkpoint to continue from."""
    paths = dict.fromkeys(os.path.normpath(word) for word in _relative_paths(job))
    roots = [os.path.normpath(path) for path in job.output_paths]
    return tuple(path for path in paths if path not in roots and named(path, roots))


def missed(job: Job, copied: Sequence[bytes]) -> Missed:
    """Return the relative paths among the words of a job that exist here and are not ``copied``.

    ``copied`` is sorted. Folders to write to do not count: outputs, and those of options called so.
    """
    paths: dict[str, None] = {}
    outside: dict[str, None] = {}
    for word in _relative_paths(job):
        path = os.path.normpath(word)
        if path == ".":
            continue
        if path == ".." or path.startswith("../"):
            outside[word] = None
        elif not named(path, job.output_paths) and not _is_copied(os.fsencode(path), copied):
            paths[path] = None
    return Missed(tuple(paths), tuple(outside))


def _relative_paths(job: Job) -> Iterator[str]:
    """Yield the words, and the values of options, that are relative paths here."""
    for run, shell in ((job.run, job.shell), *((role.run, role.shell) for role in job.roles)):
        words = [word for line in run for word in _words(line)] if shell else list(run)
        for before, word in zip(("", *words), words, strict=False):
            option, equals, value = word.partition("=")
            value = value if equals else word
            option = option if equals else before
            if value.startswith(("/", "-", "~")) or not _is_there(job.workdir, value):
                continue
            if not (option.startswith("-") and _WRITTEN.search(option)):
                yield value


def _is_there(folder: str, value: str) -> bool:
    """Return whether there is such a file, or a folder with anything in it."""
    path = os.path.join(folder, value)
    try:
        return bool(value) and (os.path.isfile(path) or bool(os.listdir(path)))
    except (OSError, ValueError):  # ValueError: a NUL
        return False


def _words(script: str) -> list[str]:
    try:
        return shlex.split(script, comments=True)
    except ValueError:
        return script.split()


def _is_copied(path: bytes, copied: Sequence[bytes]) -> bool:
    """Return whether a file, or any file of a folder, is copied."""
    at = bisect.bisect_left(copied, path)
    if at < len(copied) and copied[at] == path:
        return True
    at = bisect.bisect_left(copied, path + b"/")
    return at < len(copied) and copied[at].startswith(path + b"/")


def folder_of_module(workdir: str, module: str) -> str:
    """Return the folder of the workdir that has a module, ``.`` or ``src``; "" if none has."""
    for folder in (".", "src"):
        place = Path(workdir, folder, module)
        if place.with_suffix(".py").is_file() or any(place.glob("*.py")):
            return folder
    return ""
