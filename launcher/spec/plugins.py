"""Plug-ins of other packages, found by entry point: loaded when used; a broken one harms no other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import InputError, LauncherError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class PluginWarning(UserWarning):
    """A plug-in is installed and cannot be used."""


class Unusable(Exception):
    """Why a plug-in cannot be used; ``hint`` says what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


def function_of(takes: str) -> Callable[[str, Any], Any]:
    """Return what makes a plug-in of a function; ``takes`` says of what, for people."""

    def made(name: str, value: Any) -> Any:
        if not callable(value):
            raise Unusable(f"is not a function of {takes}")
        return value

    return made


class Plugins(Generic[T]):
    """The plug-ins of one kind.

    ``group`` is where packages declare them, ``what`` their name for people, and ``reserved`` has
    the names of ours. ``made`` turns a name and what its entry point names into a plug-in; it raises
    Unusable.
    """

    def __init__(
        self, group: str, what: str, made: Callable[[str, Any], T], reserved: Container[str] = ()
    ) -> None:
        self.group, self._what, self._made, self._reserved = group, what, made, reserved

    def names(self) -> tuple[str, ...]:
        """Return the names of all, without loading any."""
        return tuple(sorted(name for name in _found(self.group) if name not in self._reserved))

    def get(self, name: str) -> T | None:
        """Return a plug-in; None if no package has it. Raises InputError if it cannot be used."""
        if name not in self.names():
            return None
        try:
            return self._load(name)
        except Unusable as error:
            message = f"{self.described(name)} cannot be used: {error}"
            raise InputError(message, error.hint) from None

    def each(self) -> dict[str, T | Unusable]:
        """Return all that are installed by name; of one that cannot be used, why."""
        found: dict[str, T | Unusable] = {}
        for name in _found(self.group):
            try:
                if name in self._reserved:
                    why = f"a built-in {self._what} has that name"
                    raise Unusable(why, "rename its entry point")
                found[name] = self._load(name)
            except Unusable as error:
                found[name] = error
        return found

    def usable(self) -> dict[str, T]:
        """Return those that load, by name. Warn with PluginWarning of the others."""
        usable = {}
        for name, one in self.each().items():
            if isinstance(one, Unusable):
                self.warn(name, f"is skipped: {one} ({one.hint})")
            else:
                usable[name] = one
        return usable

    def described(self, name: str) -> str:
        """Name a plug-in for a person, with the package that brought it."""
        dist = _found(self.group)[name].dist
        package = f" of {dist.name} {dist.version}" if dist else ""
        return f'{self._what} plug-in "{name}"{package}'

    @contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """Name a plug-in's package in whatever it raises but errors of ours."""
        try:
            yield
        except LauncherError:
            raise
        except Exception as error:
            if name in self._reserved:
                raise
            raise self.failed(name, error) from error

    def failed(self, name: str, error: BaseException) -> InputError:
        """Return the error of a plug-in that raised ``error``."""
        message = f"{self.described(name)} failed: {_in_words(error)}"
        return InputError(message, f"repair it, or {self._uninstall(name)}")

    def warn(self, name: str, says: str) -> None:
        """Warn of a plug-in."""
        warnings.warn(PluginWarning(f"{self.described(name)} {says}"), stacklevel=3)

    def _load(self, name: str) -> T:
        point = _found(self.group)[name]
        try:
            return self._made(name, point.load())
        except Unusable as error:
            hint = error.hint or f"repair it, or {self._uninstall(name)}"
            raise Unusable(f"{point.value} {error}", hint) from None
        except (Exception, SystemExit) as error:  # whatever a plug-in does
            hint = f"repair it, or {self._uninstall(name)}"
            raise Unusable(_in_words(error), hint) from error

    def _uninstall(self, name: str) -> str:
        dist = _found(self.group)[name].dist
        return f"pip uninstall {dist.name}" if dist else "uninstall it"


def _found(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, none of them loaded."""
    from importlib.metadata import entry_points  # slow, and most runs need none of them

    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        points.setdefault(point.name, point)
    return points


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
