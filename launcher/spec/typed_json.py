"""Turn JSON values into typed values, naming the field of a value that does not fit. Pure.

Records may come from other versions: unknown fields are ignored, missing ones get their default, and
a value of the wrong type is refused.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Reader = Callable[[Any], Any]

#: What a value from a host may hold at most: levels, characters of a text, size of a number.
DEEPEST, LONGEST_TEXT, LARGEST_NUMBER = 32, 4 << 20, 1 << 63

#: What JSON calls the types that its values become in Python.
_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


#: Numbers with fractions are times (up to the year 9892), durations and rates; NaN is none of them.
_MOST = 2.5e11


class Mismatch(ValueError):
    """A value has the wrong type or is missing; ``field`` says where, ``problem`` what is wrong."""

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.problem = problem
        self.field = field

    def inside(self, name: str) -> Mismatch:
        """Return the error with the path of the enclosing value, ``name``, in front."""
        joint = "" if not self.field or self.field.startswith("[") else "."
        return Mismatch(self.problem, f"{name}{joint}{self.field}")


def from_json(kind: type[T], value: object) -> T:
    """Return ``value`` as a ``kind``: a frozen value, or any type that JSON can hold.

    Raises Mismatch.
    """
    found: T = _reader(cast(Hashable, kind))(value)
    return found


def require_bounds(value: object) -> None:
    """Raise Mismatch for a JSON value that is nested too deep, or has an endless text or number."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.keys()
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str):
                if len(one) > LONGEST_TEXT:
                    raise Mismatch(f"a text of {len(one)} characters")
            elif isinstance(one, int | float) and not abs(one) <= LARGEST_NUMBER:  # nor is NaN
                raise Mismatch("a number without bounds")
        if not inner:
            return
        level = inner
    raise Mismatch("nested too deep")


def to_json(value: Any) -> Any:
    """Return a frozen value as JSON values; :func:`from_json` is its reverse.

    Raises TypeError on what no record may hold, such as a secret.
    """
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a record")


def called(value: object) -> str:
    """Return what kind of value it is, in words."""
    return _NAMES.get(type(value), type(value).__name__)


def _expected(what: str, value: object) -> Mismatch:
    return Mismatch(f"expected {what}, got {called(value)}")


@functools.cache
def _reader(kind: Any) -> Reader:
    """Return the reader of a type; cached, because evaluating annotations is slow."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return lambda value: value
    if kind is float:
        return _number
    if kind in _NAMES:
        return functools.partial(_plain, kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner)
    if origin is tuple:
        return _items(inner)
    if origin is Sequence:
        return _items((*inner, Ellipsis))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*inner)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return functools.partial(_member, kind)
    if is_dataclass(kind):
        return _fields(kind)
    return functools.partial(_nothing, kind)


def _plain(kind: type, value: object) -> object:
    if type(value) is not kind and not (kind is str and isinstance(value, str)):
        raise _expected(_NAMES[kind], value)
    return value


def _number(value: object) -> float:
    if type(value) is float or type(value) is int:
        if abs(value) < _MOST:
            return float(value)
        raise Mismatch(f"{value:.3g} is out of range" if type(value) is float else "out of range")
    raise _expected(_NAMES[float], value)


def _one_of(kinds: tuple[Any, ...]) -> Reader:
    """Return a reader for the first kind that fits; the last one's error is reported."""
    readers = [_reader(kind) for kind in kinds if kind is not type(None)]
    optional = len(readers) < len(kinds)

    def read(value: object) -> object:
        if value is None and optional:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value)
            except Mismatch:
                continue
        return readers[-1](value)

    return read


def _items(kinds: tuple[Any, ...]) -> Reader:
    """Return a reader of ``tuple[T, ...]`` from any list, of ``tuple[A, B]`` from a list of two."""
    endless = kinds[-1:] == (Ellipsis,)
    readers = [_reader(kind) for kind in kinds if kind is not Ellipsis]

    def read(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise _expected(_NAMES[list], value)
        if not endless and len(value) != len(readers):
            raise Mismatch(f"expected {len(readers)} values, got {len(value)}")
        each = readers * len(value) if endless else readers
        found = []
        for position, (reader, one) in enumerate(zip(each, value, strict=True)):
            try:
                found.append(reader(one))
            except Mismatch as error:
                raise error.inside(f"[{position}]") from None
        return tuple(found)

    return read


def _mapping(key: Any, kind: Any) -> Reader:
    of_key = _whole_number if key is int else _reader(key)
    of_value = _reader(kind)

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            raise _expected(_NAMES[dict], value)
        found = {}
        for name, one in value.items():
            try:
                found[of_key(name)] = of_value(one)
            except Mismatch as error:
                raise error.inside(str(name)) from None
        return found

    return read


def _whole_number(key: object) -> int:
    """Read a key, which is always text in JSON."""
    try:
        return int(key)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        raise Mismatch("expected a whole number as the key") from None


def _member(kind: type[Enum], value: object) -> object:
    try:
        return kind(value)
    except ValueError:
        raise Mismatch(f"{value!r} is none of {', '.join(str(m.value) for m in kind)}") from None


def _fields(kind: Any) -> Reader:
    types_ = get_type_hints(kind)
    known = [
        (field.name, _reader(types_[field.name]), _has_default(field))
        for field in fields(kind)
        if field.init
    ]

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise _expected(_NAMES[dict], value)
        found = {}
        for name, reader, has_default in known:
            if name in value:
                try:
                    found[name] = reader(value[name])
                except Mismatch as error:
                    raise error.inside(name) from None
            elif not has_default:
                raise Mismatch("is missing", name)
        return kind(**found)

    return read


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _nothing(kind: Any, value: object) -> object:
    """Refuse types that no record holds: secrets, functions."""
    raise Mismatch(f"no record holds a {getattr(kind, '__name__', kind)}")
