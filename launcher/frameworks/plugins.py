"""Load frameworks of other packages, found by entry point; a broken one never harms the others."""

from __future__ import annotations

import warnings
from collections.abc import Container
from typing import TYPE_CHECKING

from .base import Framework

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "launcher.frameworks"


class PluginWarning(UserWarning):
    """A framework plug-in is installed and cannot be used."""


class Unusable(Exception):
    """Why a plug-in cannot be used; ``hint`` says what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


def found() -> dict[str, EntryPoint]:
    """Return the entry points of all plug-ins by name, none of them loaded."""
    from importlib.metadata import entry_points  # slow, and most runs need none of them

    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        points.setdefault(point.name, point)
    return points


def load(point: EntryPoint) -> Framework:
    """Return the framework of an entry point. Raises Unusable, whatever the plug-in does."""
    try:
        framework = point.load()()
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise Unusable(why, f"repair it, or {_uninstall(point)}") from error
    if not isinstance(framework, Framework):
        raise Unusable(
            f"{point.value} is not a launcher.frameworks.Framework",
            "derive its class from launcher.frameworks.Framework, without other changes, or "
            f"{_uninstall(point)}",
        )
    if framework.name != point.name:
        raise Unusable(
            f'its class has the name "{framework.name}"',
            f'set name = "{point.name}" there, or rename the entry point',
        )
    return framework


def usable(reserved: Container[str]) -> list[str]:
    """Return the names of the plug-ins that load.

    Warn with PluginWarning of one that does not load or has a ``reserved`` name.
    """
    names = []
    for name, point in found().items():
        try:
            if name in reserved:
                raise Unusable("a built-in framework has that name", "rename its entry point")
            load(point)
            names.append(name)
        except Unusable as error:
            message = f"{described(point)} is skipped: {error} ({error.hint})"
            warnings.warn(PluginWarning(message), stacklevel=2)
    return names


def described(point: EntryPoint) -> str:
    """Name a plug-in for a person, with the package that brought it."""
    package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f'framework plug-in "{point.name}"{package}'


def _uninstall(point: EntryPoint) -> str:
    return f"pip uninstall {point.dist.name}" if point.dist else "uninstall it"
