"""A function call as files: what travels to the ranks, and what comes back from them."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ...records.record_files import read_as
from ...spec import given
from ...spec.errors import InputError
from ...spec.files import open_plain
from ...spec.frozen import frozen
from ...spec.version import installs
from . import lines, modules

Returns = Literal["pickle", "json"]

#: The package in the code of a run that holds its function. What a run executes is ``-m PACKAGE``.
PACKAGE = "_launcher_function"
#: The folder among the outputs with a file for each rank; ``on_rank.py`` writes it.
RETURNED = "returned"
#: Bytes of a rank's error that are read at most.
LONGEST_ERROR = 1 << 20


@frozen
class _About:
    """The field of ``call.json`` that matters here."""

    returns: str


@frozen
class RankError:
    """The exception that ended a function on a rank, as text."""

    type: str
    message: str = ""
    traceback: str = ""


def files_of(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    workdir: Path,
    returns: Returns,
    *,
    may_import_more: bool = True,
) -> dict[str, bytes]:
    """Return the files that a run needs besides the workdir to call a function.

    Our own cloudpickle is among them, so that hosts need not have it, and never have another one.
    ``may_import_more``: hosts may have modules that only this machine is known to have. Raises
    InputError if cloudpickle is not installed, or if the function cannot be called there.
    """
    given.function("function", function)
    _require_values(function)
    if returns not in get_args(Returns):
        raise InputError(f"returns: {returns} is neither pickle nor json")
    cloudpickle = _cloudpickle()
    try:
        call, known = lines.pickled(cloudpickle, (function, tuple(args), dict(kwargs)))
    except Exception as error:  # whatever __reduce__ of a user's class raises
        name = getattr(function, "__name__", repr(function))
        raise InputError(
            f"{name} cannot be sent to hosts: {' '.join(str(error).split())}",
            "pass what it needs as arguments; clients, locks and open files stay here",
        ) from error
    if not may_import_more:
        _require_modules(call, workdir)
    about = {
        "python": "{}.{}".format(*sys.version_info[:2]),
        "returns": returns,
        "paths": import_paths(sys.path, workdir),
        "lines": known,
    }
    library = Path(cloudpickle.__file__).parent
    program = Path(__file__).with_name("on_rank.py")
    return {
        f"{PACKAGE}/__main__.py": program.read_bytes(),
        f"{PACKAGE}/call.json": json.dumps(about).encode(),
        f"{PACKAGE}/call.pickle": call,
        **{
            f"{PACKAGE}/cloudpickle/{file.name}": file.read_bytes()
            for file in sorted(library.glob("*.py"))
        },
    }


def _require_values(function: Callable[..., Any]) -> None:
    """Raise InputError for a function that returns no values at all when it is called."""
    for one in (function, vars(type(function)).get("__call__")):
        name = getattr(function, "__name__", type(function).__name__)
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise InputError(
                f"{name} is a generator function, and a generator cannot come back from a rank",
                "return a list in its place",
            )
        if inspect.iscoroutinefunction(one):
            raise InputError(
                f"{name} is a coroutine function, and nothing awaits it on a rank",
                "a plain function may call asyncio.run(...)",
            )


def _require_modules(call: bytes, workdir: Path) -> None:
    """Raise InputError for a module that a function needs and that no host would have."""
    for name, file in sorted(modules.kept_here(call, workdir).items()):
        above = file.parents[name.count(".") + (file.name == "__init__.py")]
        raise InputError(
            f"{name} is in {file.parent}, outside the workdir {workdir}: no host would have it",
            f"workdir={str(above)!r} takes it along, and so does"
            f" cloudpickle.register_pickle_by_value({name}); where hosts have it installed, say in what:"
            " python=",
        )


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError as error:
        raise InputError(
            f"functions travel by cloudpickle, which is not installed here ({error})",
            f"{installs('functions')}, or cloudpickle",
        ) from None
    return cloudpickle


def import_paths(search: Sequence[str], workdir: Path) -> list[str]:
    """Return the folders below the workdir from which this program imports, relative to it.

    An environment in the workdir is none: its packages stay here.
    """
    packages = {os.path.realpath(path) for path in modules.packages()}
    root, found = os.path.realpath(workdir), []
    for entry in search:
        place = os.path.realpath(entry or os.curdir)
        if os.path.commonpath((root, place)) == root and place != root and place not in packages:
            found.append(os.path.relpath(place, root))
    return found


def returns_of(added: Path) -> str | None:
    """Return in which form the function of a run returns values, from the files that this machine has
    added to its code; None if there is no function."""
    about = read_as(_About, added / PACKAGE / "call.json")
    return about.returns if about else None


def value_of(outputs: Path, attempt: int, rank: int, returns: str) -> Any:
    """Return what the function returned on a rank.

    A pickle of a host may hold any code, which runs here; with ``json`` none is read. Raises
    FileNotFoundError if the function did not return, and whatever loading raises.
    """
    with open_plain(_file(outputs, attempt, rank, returns)) as file:
        return json.load(file) if returns == "json" else _cloudpickle().load(file)


def error_of(outputs: Path, attempt: int, rank: int) -> RankError | None:
    """Return why the function failed on a rank, if it said so, without control characters."""
    path = _file(outputs, attempt, rank, "error")
    try:
        if path.stat().st_size > LONGEST_ERROR:
            return None
    except OSError:
        return None
    said = read_as(RankError, path)
    return said and RankError(
        *(_printable(text) for text in (said.type, said.message, said.traceback))
    )


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def _file(outputs: Path, attempt: int, rank: int, ending: str) -> Path:
    return outputs / RETURNED / f"attempt-{attempt}" / f"rank-{rank}.{ending}"
