"""Frozen dataclasses that are cheap to define.

``@dataclass(frozen=True)`` compiles six methods for each class at every start, which was most of
launcher's own import time; here all classes share theirs. And most classes are not used in most
commands, so what is left, looking at its fields, is done when somebody first asks for them.
"""

from __future__ import annotations

import threading
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields, replace
from inspect import Parameter, Signature  # dataclasses needs it anyway
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class a dataclass that is immutable, comparable and hashable.

    Setting a field again or deleting it raises FrozenInstanceError, as in a frozen dataclass. All
    fields are arguments of ``__init__``.
    """
    for name, method in _METHODS:
        if name not in cls.__dict__:
            setattr(cls, name, method)
    for name in _LATER:
        setattr(cls, name, _Later(cls, name))
    return cls


#: What a class has once somebody has looked at its fields.
_LATER = ("__dataclass_fields__", "__dataclass_params__", "__match_args__", "_arguments")
#: Held by the thread that looks at a class, or at one that it is derived from; and while a program with
#: such threads forks.
looking = threading.RLock()


class _Later:
    """Stands for what a class will have, until somebody asks for it."""

    def __init__(self, cls: Any, name: str) -> None:
        self._class, self._name = cls, name

    def __get__(self, instance: object, owner: object = None) -> Any:
        cls: Any = self._class
        with looking:
            if isinstance(cls.__dict__["_arguments"], _Later):
                dataclass(init=False, eq=False, repr=False, match_args=False)(cls)
                arguments = _Arguments(cls)
                setattr(cls, "__match_args__", arguments.positional)  # noqa: B010
                cls._arguments = arguments
        return cls.__dict__[self._name]


class _Arguments:
    """What ``__init__`` of a class takes."""

    def __init__(self, cls: Any) -> None:
        known = fields(cls)
        self.positional = tuple(one.name for one in known if not one.kw_only)
        self.defaults = {one.name: one.default for one in known}
        self.factories = tuple(
            (one.name, one.default_factory) for one in known if one.default_factory is not MISSING
        )
        made = {name for name, _ in self.factories}
        self.required = tuple(
            name
            for name, default in self.defaults.items()
            if default is MISSING and name not in made
        )
        self.then = getattr(cls, "__post_init__", None)


class _Signature:
    """What ``inspect.signature`` and ``help`` tell of a class: its fields, as it takes them."""

    def __get__(self, instance: object, owner: Any) -> Signature:
        if instance is not None or owner.__init__ is not _init:
            raise AttributeError("__signature__")  # then inspect looks for itself

        def parameter(one: Any) -> Parameter:
            default = one.default if one.default_factory is MISSING else _FACTORY
            return Parameter(
                one.name,
                Parameter.KEYWORD_ONLY if one.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
                default=Parameter.empty if default is MISSING else default,
                annotation=one.type,
            )

        takes = sorted(map(parameter, fields(owner)), key=lambda one: one.kind)
        return Signature(takes, return_annotation=None)


class _Factory:
    """Stands in a signature for a default that each value gets anew."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    known: _Arguments = self._arguments
    values = self.__dict__
    values.update(known.defaults)  # in the order of the fields
    values.update(zip(known.positional, args))  # noqa: B905 # what is too much is looked for below
    values.update(kwargs)
    if len(args) > len(known.positional) or len(values) > len(known.defaults):
        raise _wrong_arguments(self, args, kwargs)
    if args and kwargs and not kwargs.keys().isdisjoint(known.positional[: len(args)]):
        raise _wrong_arguments(self, args, kwargs)
    for name in known.required:
        if values[name] is MISSING:
            raise _wrong_arguments(self, args, kwargs)
    for name, make in known.factories:
        if values[name] is MISSING:
            values[name] = make()
    if known.then is not None:
        known.then(self)


def _wrong_arguments(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TypeError:
    known: _Arguments = self._arguments
    given = [*known.positional[: len(args)], *kwargs]
    about = f"{type(self).__qualname__}.__init__()"
    if len(args) > len(known.positional):
        most = len(known.positional)
        return TypeError(f"{about} takes {most} positional arguments but {len(args)} were given")
    if unknown := [name for name in kwargs if name not in known.defaults]:
        return TypeError(f"{about} got an unexpected keyword argument {unknown[0]!r}")
    if double := [name for name in given if given.count(name) > 1]:
        return TypeError(f"{about} got multiple values for argument {double[0]!r}")
    missing = [name for name in known.required if name not in given]
    return TypeError(f"{about} missing required arguments: {', '.join(map(repr, missing))}")


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


def _replace(self: Any, /, **changes: Any) -> Any:
    return replace(self, **changes)


_METHODS: tuple[tuple[str, Any], ...] = (
    ("__init__", _init),
    ("__setattr__", _set),
    ("__delattr__", _delete),
    ("__eq__", _equal),
    ("__hash__", _hash),
    ("__repr__", _repr),
    ("__replace__", _replace),  # what copy.replace calls, from Python 3.13
)
for _name, _method in _METHODS:
    _method.__name__ = _name  # as help() shows it
_METHODS += (("__signature__", _Signature()),)
