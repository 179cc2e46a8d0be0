"""The folder of a user to which outputs are brought."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...spec.errors import InputError, RecordError


@contextmanager
def held(dest: Path, run: Path) -> Iterator[None]:
    """Make the folder if it is missing, and let no other process bring files to it meanwhile: two would
    remove each other's halves. It is not in that of the ``run`` here. Raises InputError, RecordError."""
    if Path(os.path.realpath(dest)).is_relative_to(os.path.realpath(run)):
        raise InputError(
            f"DEST cannot be {dest}: the run itself is there",
            f"launcher pull {run.name} brings everything there",
        )
    make(dest, dest)
    folder = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"DEST cannot be {dest}: another launcher brings files to it",
                "wait for that one, or name another folder",
            ) from None
        except OSError:
            pass  # some network file systems lock no folders
        yield
    finally:
        os.close(folder)


def make(folder: Path, dest: Path) -> None:
    """Make a folder in the user's, or that one. Raises InputError, RecordError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        in_the_way = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        raise InputError(
            f"DEST cannot be {dest}: {in_the_way} is no folder", "name another folder, or a new one"
        ) from None
    except OSError as error:
        raise RecordError(folder, error) from None
