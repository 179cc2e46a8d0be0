"""The errors, and the tree that lists them for readers."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
from inspect import Parameter, signature
from typing import Any

import pytest

from launcher.spec import errors


def test_the_tree_names_every_error() -> None:
    types = [one for one in vars(errors).values() if isinstance(one, type)]
    known = {one.__name__ for one in types if issubclass(one, errors.LauncherError)}
    assert "UnsafeFolder" in known
    assert known - set(re.findall(r"\w+", errors.__doc__ or "")) == set()


VALUES: dict[str, Any] = {
    "errors": [errors.HostError("gpu1", "it is off", "turn it on")],
    "error": OSError(28, "No space left on device"),
    "seconds": 3.0,
}


def _some(kind: type[errors.LauncherError]) -> errors.LauncherError:
    needed = [one for one in signature(kind).parameters.values() if one.default is Parameter.empty]
    made = kind(*(VALUES.get(one.name, one.name) for one in needed))
    made.hint = "a hint of its own"
    made.add_note("a note")
    return made


@pytest.mark.parametrize(
    "again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_every_error_comes_whole_from_another_process(again: Any) -> None:
    """A pool of processes hangs for ever on an error that it cannot load."""
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    for kind in (one for one in kinds if issubclass(one, errors.LauncherError)):
        one = _some(kind)
        other = again(one)
        assert (type(other), str(other), other.args) == (kind, str(one), one.args)
        assert list(other.__dict__) == list(one.__dict__)
        assert (other.hint, other.__notes__) == (one.hint, ["a note"])
    failed = errors.FunctionFailed("calm-owl-12", "ValueError: no")
    failed.rank, failed.host, failed.traceback = 3, "gpu1", "Traceback ..."
    assert again(failed).__dict__ == failed.__dict__


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free some space there, or set"), (errno.EROFS, "make it writable, or name")],
)
def test_what_to_do_about_a_file_depends_on_why(number: int, hint: str) -> None:
    """Free space is of no use on a read-only disk."""
    error = errors.RecordError("/srv/runs/a", OSError(number, os.strerror(number)))
    assert error.hint.startswith(hint)
