"""Write man pages of all commands: ``python docs/man.py FOLDER``, or ``make man``.

They are made of what ``--help`` prints, so that they say the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from launcher.cli import cli
from launcher.cli.grouped import GroupedCommand
from launcher.spec.version import __version__


def main(folder: Path) -> None:
    """Write a page for each command into ``folder``/man1."""
    place = folder / "man1"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (place / f"{name}.1").write_text(text, "utf-8")
    sys.stdout.write(f"man -M {folder} launcher\n")


def pages() -> dict[str, str]:
    """Return every page by its name: ``launcher``, ``launcher-run``, ..."""
    top = click.Context(cli, info_name="launcher")
    found = {"launcher": _page(top)}
    for context in _below(top):
        found[context.command_path.replace(" ", "-")] = _page(context)
    return found


def _below(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            inner = click.Context(command, info_name=name, parent=context)
            yield inner
            yield from _below(inner)


def _page(context: click.Context) -> str:
    command, path = context.command, context.command_path
    name = path.replace(" ", "-")
    lines = [
        f'.TH {_quoted(name.upper())} 1 "" {_quoted(f"launcher {__version__}")}',
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(path)}",
        _roff(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        *_commands(context),
        *_options(context),
    ]
    if isinstance(command, GroupedCommand) and command.examples:
        lines += [".SH EXAMPLES", ".nf", *map(_roff, command.examples), ".fi"]
    if name != "launcher":
        lines += [".SH SEE ALSO", ".BR launcher (1)"]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    lines = []
    for paragraph in text.replace("\b", "").strip().split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    return lines


def _commands(context: click.Context) -> list[str]:
    group = context.command
    if not isinstance(group, click.Group):
        return []
    lines = [".SH COMMANDS"]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            about = command.get_short_help_str(200)
            lines += [".TP", f".B {_roff(name)}", _roff(about)]
    return lines


def _options(context: click.Context) -> list[str]:
    command = context.command
    shown = {
        str(one.name): record
        for one in command.get_params(context)
        if isinstance(one, click.Option) and (record := one.get_help_record(context))
    }
    groups = dict(command.groups) if isinstance(command, GroupedCommand) else {}
    lines = [".SH OPTIONS"] if shown else []
    for title, names in groups.items():
        lines += [f".SS {_quoted(title)}"]
        lines += [line for name in names if name in shown for line in _option(*shown.pop(name))]
    if groups and shown:
        lines.append(".SS Others")
    return lines + [line for record in shown.values() for line in _option(*record)]


def _option(names: str, about: str) -> list[str]:
    return [".TP", f".B {_roff(names)}", _roff(re.sub(r"\s*\[x[<>]=?\d+\]\Z", "", about))]


def _quoted(text: str) -> str:
    return '"' + _roff(text).replace('"', '""') + '"'


def _roff(text: str) -> str:
    """Return a text in which troff finds no command: neither a backslash nor a first dot or quote."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{plain}" if plain.startswith((".", "\\(aq")) else plain


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "man"))
