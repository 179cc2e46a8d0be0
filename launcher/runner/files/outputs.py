"""Brings outputs back from every host, and lays them together without losing one.

Each host has a mirror of its own; ``outputs/`` is a view of all of them, made of hard links. A path
that several hosts wrote is there once when the content is the same, and else once for each under a
name with the host in it: ``metrics@gpu1.json``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from ...records.run_folder import RunFolder
from ...spec.errors import LauncherError
from ...spec.frozen import frozen
from ...transport import answers, rsync
from ...transport.agent_client import Agent
from ...transport.connection import Connection

#: Bytes of a file's name on every file system that we know.
LONGEST_NAME = 255


@frozen
class Listed:
    """What a host has to give: ``{path: (size, time)}``, and from which folder there."""

    outputs: Mapping[str, tuple[int, int]]
    code: Mapping[str, tuple[int, int]]
    folder: str

    @property
    def files(self) -> dict[str, tuple[int, int]]:
        """All of it; what stands in the output folder wins over what the job names."""
        return {**self.code, **self.outputs}


async def listed(agent: Agent, run: str, paths: tuple[str, ...]) -> Listed:
    """What the run has written on a host. Raises HostError."""
    answer = await agent.answer(answers.Listed, "outputs", run=run, paths=list(paths))
    return Listed(_inside(answer.outputs), _inside(answer.code), answer.folder)


def _inside(files: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Return the files by their paths, without one that would lead out of the folder here."""
    return {path: (size, time) for path, size, time in files if answers.is_inside(path)}


async def pull(connection: Connection, host: str, what: Listed, mirror: Path) -> int:
    """Copies what is new or changed into the mirror. Returns bytes received. Raises HostError."""
    received = 0
    for kind, files in (("code", what.code), ("outputs", what.outputs)):
        wanted = [path for path, state in files.items() if _here(mirror / path) != state]
        if wanted:
            copied = await rsync.copy(
                connection,
                host,
                [
                    "--times",
                    "--partial-dir=.partial",
                    f"x:{what.folder}/{kind}/",
                    f"{mirror}/",
                ],
                b"\0".join(map(os.fsencode, wanted)),
            )
            received += copied.received
    return received


def _here(path: Path) -> tuple[int, int]:
    try:
        status = path.lstat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


@frozen
class Output:
    """A file of the view: where it is here, and which hosts wrote it. Size in bytes."""

    path: str
    size: int
    hosts: tuple[str, ...]


def lay_together(
    folder: RunFolder,
    hosts: tuple[str, ...],
    without: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> tuple[Output, ...]:
    """Makes ``outputs/`` a view of all mirrors. What a person put there is left alone.

    ``without`` are files, by host, that are left out because another host has newer ones.
    Raises LauncherError when the disk here is full.
    """
    by_path: dict[str, list[str]] = {}
    for host in hosts:
        left_out = without.get(host, ())
        for path in (path for path in files_of(folder.mirror(host)) if path not in left_out):
            by_path.setdefault(path, []).append(host)
    folders = {parent.as_posix() for path in by_path for parent in PurePosixPath(path).parents}
    taken = folders | _others(folder)
    used = set(by_path) | taken
    found = []
    for path, owners in sorted(by_path.items()):
        for name, group in _names(folder, path, owners, used, taken):
            source = folder.mirror(group[0]) / path
            found.append((Output(name, source.stat().st_size, tuple(group)), source))
    try:
        _link(folder, found)
    except OSError as error:
        raise LauncherError(
            f"cannot write outputs to {folder.outputs}: {error.strerror}",
            f"what has come is complete in {folder.path}/.hosts",
        ) from None
    return tuple(output for output, _ in found)


def _others(folder: RunFolder) -> set[str]:
    """Files in the view that we did not put there: a person's own."""
    before = _before(folder)
    return {path for path in files_of(folder.outputs) if path not in before}


def files_of(mirror: Path) -> list[str]:
    """The paths of all whole files of a mirror."""
    found = []
    for base, folders, files in os.walk(mirror):
        folders[:] = [name for name in folders if name != ".partial"]
        for name in files:
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                found.append(path.relative_to(mirror).as_posix())
    return found


def _names(
    folder: RunFolder, path: str, owners: list[str], used: set[str], taken: set[str]
) -> list[tuple[str, list[str]]]:
    """``(name here, hosts)`` for each different content of one path."""
    import filecmp  # here alone, where a path has several owners

    groups: list[list[str]] = []
    for host in owners:
        mine = folder.mirror(host) / path
        for group in groups:
            if filecmp.cmp(folder.mirror(group[0]) / path, mine, shallow=False):
                group.append(host)
                break
        else:
            groups.append([host])
    if len(groups) == 1 and path not in taken:
        return [(path, groups[0])]
    return [(_marked(path, group[0], used), group) for group in groups]


def _marked(path: str, host: str, used: set[str]) -> str:
    pure = PurePosixPath(path)
    stem = pure.name[: -len(pure.suffix)] if pure.suffix else pure.name
    while len(os.fsencode(f"{stem}@{host}{pure.suffix}")) > LONGEST_NAME and stem:
        stem = stem[:-1]
    name = str(pure.with_name(f"{stem}@{host}{pure.suffix}"))
    while name in used:
        pure = PurePosixPath(name)
        name = str(pure.with_name(f"{pure.stem}@{host}{pure.suffix}"))
    used.add(name)
    return name


def _link(folder: RunFolder, files: list[tuple[Output, Path]]) -> None:
    wanted = {output.path: source for output, source in files}
    for path in _before(folder) - set(wanted):
        _remove(folder.outputs, path)
    for path, source in wanted.items():
        target = folder.outputs / path
        if target.exists() and os.path.samefile(source, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)
    folder.write(
        "outputs.json",
        [{"path": o.path, "size": o.size, "hosts": list(o.hosts)} for o, _ in files],
    )


def _remove(root: Path, path: str) -> None:
    """Removes a file of ours, and folders that are empty then."""
    (root / path).unlink(missing_ok=True)
    for parent in (root / path).parents:
        if parent == root:
            return
        try:
            parent.rmdir()
        except OSError:
            return


def _before(folder: RunFolder) -> set[str]:
    """What the view held when it was made last."""
    known = folder.read_as(tuple[dict[str, object], ...], "outputs.json") or ()
    return {str(entry.get("path", "")) for entry in known} - {""}
