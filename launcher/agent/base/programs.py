"""Where launcher's own programs of a run stand: ``python``, ``ssh`` and what starts a rank.

They have to be found on PATH by whatever the job starts, so they must be executable files.
"""

from __future__ import annotations

import os
import stat

from .protocol import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: The folders of programs in the folder of a run.
FOLDERS = ("bin", "relay")
#: Where they go if nothing in the folder of a run may be executed (a file system mounted noexec).
PLACES = ("/dev/shm", "/tmp", "/var/tmp")


def folder(run_dir: str, name: str) -> str:
    """Make the folder ``name`` of a run and return it: a link, where only other places may execute."""
    path = os.path.join(run_dir, name)
    if os.path.isdir(path):
        return path
    if not _may_execute(run_dir):
        for target in _elsewhere(run_dir, name):
            if _make(target):
                if os.path.islink(path):  # /dev/shm is empty after a boot
                    os.unlink(path)
                os.symlink(target, path)
                return path
    os.makedirs(path, exist_ok=True)
    return path


def remove(run_dir: str) -> None:
    """Remove what :func:`folder` made outside of the folder of a run."""
    for name in FOLDERS:
        if os.path.islink(os.path.join(run_dir, name)):
            import shutil

            for target in _elsewhere(run_dir, name):  # never where the link leads: anybody's folder
                shutil.rmtree(target, ignore_errors=True)


def _elsewhere(run_dir: str, name: str) -> Iterator[str]:
    mark = blake2b(os.path.realpath(run_dir).encode("utf-8", "surrogateescape"), digest_size=8)
    for place in PLACES:
        if _may_execute(place):
            yield os.path.join(place, "launcher-%d-%s-%s" % (os.geteuid(), mark.hexdigest(), name))


def _may_execute(place: str) -> bool:
    try:
        return not os.statvfs(place).f_flag & os.ST_NOEXEC
    except OSError:
        return False


def _make(target: str) -> bool:
    """Make a folder that only this user can change; return whether there is one."""
    try:
        os.mkdir(target, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    about = os.lstat(target)
    is_mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
    return is_mine and not about.st_mode & 0o077
