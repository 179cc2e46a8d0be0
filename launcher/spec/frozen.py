"""Frozen dataclasses that are cheap to define.

``@dataclass(frozen=True)`` compiles six methods for each class at every start, which was most of
launcher's own import time; this one compiles only ``__init__``.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class a dataclass that is immutable, comparable and hashable.

    Setting a field again or deleting it raises FrozenInstanceError, as in a frozen dataclass.
    """
    for name, method in _METHODS:
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return dataclass(eq=False, repr=False)(cls)


def _set(self: Any, name: str, value: object) -> None:
    if name in self.__dict__ or name not in self.__dataclass_fields__:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    self.__dict__[name] = value


def _delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(self.__dict__[name] for name in self.__dataclass_fields__)


def _equal(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    pairs = zip(self.__dataclass_fields__, _values(self), strict=True)
    arguments = ", ".join(f"{name}={value!r}" for name, value in pairs)
    return f"{type(self).__qualname__}({arguments})"


_METHODS: tuple[tuple[str, Any], ...] = (
    ("__setattr__", _set),
    ("__delattr__", _delete),
    ("__eq__", _equal),
    ("__hash__", _hash),
    ("__repr__", _repr),
)
