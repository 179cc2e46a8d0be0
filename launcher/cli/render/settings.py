"""Settings and where they come from, as rows and as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import click

from ...api.settings import DEFAULTS, KEYS, MERGED, SettingsFile
from ...spec.frozen import frozen
from .tables import cut, table

#: Columns that a value has in any case.
LEAST = 16


@frozen
class Row:
    """A key, its value as it is written, and its origin: a file and line, a variable, or ``default``.

    ``overridden`` says that a stronger origin has the last word.
    """

    key: str
    value: object
    origin: str
    file: str | None = None
    line: int | None = None
    overridden: bool = False


def rows(files: Sequence[SettingsFile], environment: Mapping[str, tuple[str, str]]) -> list[Row]:
    """Return what is said of each key, in the order of the keys, the strongest origin first.

    ``environment`` has the variable and its value, by key.
    """
    found: list[Row] = []
    for key in KEYS:
        said = list(_said(key, files, environment))
        weaker = [one if key in MERGED else replace(one, overridden=True) for one in said[1:]]
        found += [*said[:1], *weaker]
    return found


def _said(
    key: str, files: Sequence[SettingsFile], environment: Mapping[str, tuple[str, str]]
) -> Iterator[Row]:
    if key in environment:
        variable, value = environment[key]
        yield Row(key, value, variable)
    for file in reversed(files):
        if setting := file.settings.get(key):
            origin = f"{file.path}:{setting.line}"
            yield Row(key, setting.written, origin, file.path, setting.line)
    if key in DEFAULTS:
        yield Row(key, DEFAULTS[key], "default")


def settings_text(found: Sequence[Row], width: int | None) -> str:
    """Return a table of settings, no wider than ``width`` (None: any width): first what is said
    somewhere, then defaults that hold."""
    said = [row for row in found if row.origin != "default"]
    defaults = [row for row in found if row.origin == "default" and not row.overridden]
    shown = [*said, *defaults]
    values = [_plain(row.value) for row in shown]
    if width is not None:
        others = max(len(row.key) for row in shown) + max(len(row.origin) for row in shown) + 4
        values = [cut(value, max(LEAST, width - others)) for value in values]
    cells = [(row.key, v, row.origin) for row, v in zip(shown, values, strict=True)]
    head, *lines = table(("key", "value", "from"), cells).split("\n")
    weak = [row.overridden or row.origin == "default" for row in shown]
    dimmed = (click.style(t, dim=True) if w else t for t, w in zip(lines, weak, strict=True))
    return "\n".join([click.style(head, dim=True), *dimmed])


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return " ⏎ ".join(str(value).strip().splitlines())
