"""Values that programs give, as the types of their places ask for them. Pure.

A value of another type is an InputError that names its place; so nothing fails later, or on a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast, get_origin, get_type_hints

from .errors import InputError, suggestion
from .typed_json import Mismatch, called, from_json

#: What Python calls what JSON calls otherwise.
_NAMES = {"an object": "a mapping", "null": "None", "true or false": "True or False"}


def value(name: str, kind: Any, given: Any) -> Any:
    """Return what a program gives as a ``kind``: with paths as text, one text where several may stand,
    and whole numbers of any library. Raises InputError."""
    plain = _plain(given)
    if get_origin(kind) in (Sequence, tuple) and isinstance(plain, str):
        plain = [plain]
    try:
        return from_json(kind, plain)
    except Mismatch as error:
        text = _in_python(str(error))
        raise InputError(f"{name}{'' if text.startswith('[') else ': '}{text}") from None


def require(name: str, given: float | None, least: float, *, more: bool = False) -> None:
    """Raise InputError for a number that is less than ``least``, or no ``more`` than that."""
    if given is not None and (given < least or (more and given == least)):
        raise InputError(f"{name}: {given:g} is {'not more' if more else 'less'} than {least:g}")


def values(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a program gives by name, as a TypedDict or the fields of a class have it. Raises
    InputError, first of all for a name that these have not."""
    names(kind, given)
    return {name: value(name, hints(kind)[name], one) for name, one in given.items()}


def names(kind: type, given: Iterable[str]) -> None:
    """Raise InputError for a name that is no key of a TypedDict, or no field of a class."""
    known = tuple(hints(kind))
    for name in given:
        if name not in known:
            hint = suggestion(name, known) or f"see launcher.{kind.__name__}"
            raise InputError(f"{name}: there is no such argument", hint)


@cache
def hints(kind: type) -> dict[str, Any]:
    """Return the types of the keys of a TypedDict, or of the fields of a class."""
    return get_type_hints(kind)


def name_of_run(given: Any) -> str:
    """Return the word that names a run. Raises InputError."""
    if isinstance(given, str):
        return given
    hint = "its name, the beginning of it, or - for the latest"
    raise InputError(f"run: expected its name, got {_in_python(called(given))}", hint)


def words(name: str, given: Any) -> list[str]:
    """Return the words of a command, which has one at least. Raises InputError."""
    if isinstance(given, str):
        hint = '["sh", "-c", "..."] runs a text in a shell'
        raise InputError(f"{name}: expected a list of words, got text", hint)
    found = value(name, Sequence[str], given)
    if not found:
        raise InputError(f"{name}: it is empty")
    return list(found)


def command(given: Any) -> tuple[str, ...]:
    """Return what is to run: a text, which is split or is a shell script, or words. Raises
    InputError."""
    if hasattr(given, "__fspath__"):
        import shlex

        return (shlex.quote(given.__fspath__()),)
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        message = f"expected a command, a job file or a Job, got {_in_python(called(given))}"
        raise InputError(f"run: {message}", 'such as "train.py --lr 0.1"')
    return tuple(words("run", given))


def variables(name: str, given: Any) -> dict[str, str]:
    """Return environment variables, with numbers and truth as a job file writes them. Raises
    InputError."""
    return {one: _text(name, one, text) for one, text in _mapping(name, given).items()}


def secrets(name: str, given: Any) -> dict[str, Any]:
    """Return secrets by name; of those without a value (None, or a list of names), the environment has
    it. Raises InputError."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        given = dict.fromkeys(value(name, Sequence[str], given))
    texts = _mapping(name, given).items()
    return {one: None if text is None else _text(name, one, text) for one, text in texts}


def function(name: str, given: Any) -> None:
    """Raise InputError for what cannot be called."""
    if not callable(given):
        raise InputError(f"{name}: {given!r:.80} cannot be called", "name a function, without ()")


def _mapping(name: str, given: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value(name, Mapping[str, Any], given))


def _text(name: str, one: str, given: Any) -> str:
    plain = _plain(given)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, int | float):
        return repr(plain)
    text: str = value(f"{name}: {one}", str, plain)
    return text


def _plain(given: Any) -> Any:
    if hasattr(given, "__fspath__"):
        return given.__fspath__()
    if isinstance(given, float) and type(given) is not float:
        return float(given)
    if hasattr(given, "__index__") and not isinstance(given, bool):
        try:
            return int(given.__index__())
        except (TypeError, ValueError):  # a tensor or an array of several
            return given
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return [_plain(one) for one in given]
    if isinstance(given, set | frozenset):
        return [_plain(one) for one in given]
    return given


def _in_python(text: str) -> str:
    for theirs, ours in _NAMES.items():
        text = text.replace(theirs, ours)
    return text
