"""Frozen values: dataclasses that are made quickly. Pure.

``@dataclass(frozen=True)`` compiles six methods for every class, at every start, which was most of
launcher's own import time; here it compiles ``__init__`` alone.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A dataclass whose fields are set once, and compared, hashed and shown all of them.

    Raises FrozenInstanceError, as a frozen dataclass does, when one is set again or deleted.
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


def _held(self: Any) -> tuple[Any, ...]:
    return tuple(self.__dict__[name] for name in self.__dataclass_fields__)


def _equal(self: Any, other: object) -> bool:
    return _held(self) == _held(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_held(self))


def _repr(self: Any) -> str:
    held = zip(self.__dataclass_fields__, _held(self), strict=True)
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in held)})"


_METHODS: tuple[tuple[str, Any], ...] = (
    ("__setattr__", _set),
    ("__delattr__", _delete),
    ("__eq__", _equal),
    ("__hash__", _hash),
    ("__repr__", _repr),
)
