"""Write the tables of the reference pages from the code: ``python docs/generate.py``.

A page is written by hand around blocks, ``<!-- generated: NAME -->`` to ``<!-- end -->``; only what
stands between is replaced. ``tests/unit/test_reference.py`` fails when a page is stale.
"""

from __future__ import annotations

import html
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

# All that this file takes from the package, each by one name.
import launcher
from launcher import frameworks
from launcher.cli import cli
from launcher.fleet.findings import CODES
from launcher.jobs.job_file import json_schema as job_schema
from launcher.jobs.placeholders import MEANINGS as PLACEHOLDERS
from launcher.records.causes import CAUSES
from launcher.spec.errors import LauncherError
from launcher.spec.inventory import json_schema as inventory_schema

PAGES = Path(__file__).parent / "reference"
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Return every page with generated blocks, as it should stand on disk."""
    found = {}
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text("utf-8")
        if _BLOCK.search(text):
            found[page] = _BLOCK.sub(lambda m: f"{m[1]}\n{BLOCKS[m[2]]()}\n\n{m[3]}", text)
    return found


def main() -> None:
    """Write the pages that are stale, and name them."""
    for page, text in pages().items():
        if page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
            sys.stdout.write(f"{page.relative_to(PAGES.parent)}\n")


# -- Markdown


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a text as one cell: GitHub and the site escape differently."""
    code = re.sub(r"`([^`]*\|[^`]*)`", lambda m: f"<code>{html.escape(m[1])}</code>", text)
    return " ".join(code.replace("|", "&#124;").split())


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _first_paragraph(docstring: str | None) -> str:
    text = (docstring or "").split("\n\n")[0].strip().rstrip(".")
    return re.sub(r"``([^`]*)``", r"`\1`", text)


# -- the command line


def _commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of all commands below a group, groups in front of theirs."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                below = click.Context(inner, info_name=name, parent=context)
                yield below
                yield from _commands(inner, below)


def command_line() -> str:
    """Return every command with its usage, its description and its options."""
    found = _commands(cli, click.Context(cli, info_name="launcher"))
    return "\n\n".join(_command(context) for context in found)


def _command(context: click.Context) -> str:
    command, path = context.command, context.command_path
    usage = " ".join((path, *command.collect_usage_pieces(context)))
    parts = [f"{'#' * (1 + path.count(' '))} {path}", f"```\n{usage}\n```"]
    about = (command.help or "").replace("\b", "").strip()
    parts += [" ".join(part.split()) for part in about.split("\n\n")]
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if options:
        parts.append(_table(("Option", "Meaning"), (_option(one, context) for one in options)))
    return "\n\n".join(parts)


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    extra = option.get_help_extra(context)
    notes = [
        f"default: `{extra['default']}`" if extra.get("default") else "",
        f"`${option.envvar}`" if option.envvar else "",
        "repeatable" if option.multiple and "repeatable" not in (option.help or "") else "",
    ]
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    value = value.replace("INTEGER RANGE", "N")
    added = "; ".join(note for note in notes if note)
    names = ", ".join(f"`{name}`" for name in (*option.opts[:-1], option.opts[-1] + value))
    return names, (option.help or "") + (f" ({added})" if added else "")


def option_variables() -> str:
    """Return the environment variables that stand for options."""
    contexts = _commands(cli, click.Context(cli, info_name="launcher"))
    options = (one for context in contexts for one in context.command.params)
    found = {str(one.envvar): one.opts[-1] for one in options if one.envvar}
    rows = ((_code(variable), _code(found[variable])) for variable in sorted(found))
    return _table(("Variable", "Stands for"), rows)


# -- keys of files


def keys_of(schema: Callable[[], dict[str, Any]]) -> Callable[[], str]:
    """Return the block that shows the keys of a file."""

    def block() -> str:
        tables: dict[str, list[str]] = {}  # mappings with the same keys share a table
        for path, mapping in _mappings(schema(), ""):
            tables.setdefault(_keys(mapping), []).append(path)
        return "\n\n".join(
            table if paths == [""] else f"## {', '.join(f'`{path}:`' for path in paths)}\n\n{table}"
            for table, paths in tables.items()
        )

    return block


def _mappings(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a mapping with named keys, and those below it, each with its dotted path."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from _mappings(inner, f"{path}.{name}".lstrip("."))
    for inner in schema.get("oneOf", ()):
        yield from _mappings(inner, path)
    if isinstance(schema.get("additionalProperties"), dict):
        name = "INDEX" if "propertyNames" in schema else "NAME"
        yield from _mappings(schema["additionalProperties"], f"{path}.{name}")


def _keys(mapping: Mapping[str, Any]) -> str:
    rows = (
        (_code(name), _takes(inner), inner.get("description", ""))
        for name, inner in mapping["properties"].items()
    )
    return _table(("Key", "Takes", "Meaning"), rows)


def _takes(schema: Mapping[str, Any]) -> str:
    """Return what a key takes, in words."""
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(_takes(inner) for inner in schema["oneOf"]))
    kind = schema.get("type", "any")
    if kind == "integer":
        most = f" to {schema['maximum']}" if "maximum" in schema else ""
        return f"whole number from {schema['minimum']}{most}"
    names = {"object": "mapping", "array": "list", "boolean": "true or false", "null": "nothing"}
    return names.get(str(kind), "text")


# -- codes and names


def error_codes() -> str:
    """Return every error of ours with its code, in the order of the tree."""

    def below(kind: type[LauncherError]) -> Iterator[type[LauncherError]]:
        yield kind
        for inner in kind.__subclasses__():
            if inner.__module__ == LauncherError.__module__:  # others are of one room alone
                yield from below(inner)

    kinds = {kind.code: kind for kind in reversed(list(below(LauncherError)))}
    rows = (
        (_code(code), str(kind.exit_code), _first_paragraph(kind.__doc__))
        for code, kind in reversed(kinds.items())
        if kind is not LauncherError
    )
    return _table(("Reason", "Exit code", "Meaning"), rows)


def known_causes() -> str:
    """Return the causes that a receipt recognises."""
    named = {"{name}": "…", "{upper}": "…"}

    def plain(text: str) -> str:
        for field, shown in named.items():
            text = text.replace(field, shown)
        return text

    return _table(
        ("Likely cause", "What to do"), ((plain(one.says), plain(one.hint)) for one in CAUSES)
    )


def check_codes() -> str:
    """Return every finding of ``launcher check``."""
    return _table(
        ("Code", "Level", "Meaning"),
        ((_code(code), level, says) for code, (level, says) in CODES.items()),
    )


def placeholders() -> str:
    """Return every placeholder of arguments."""
    example = {"host": "host:worker.2"}
    return _table(
        ("Placeholder", "Becomes"),
        (
            (_code(f"{{{{{example.get(name, name)}}}}}"), says)
            for name, says in PLACEHOLDERS.items()
        ),
    )


def framework_variables() -> str:
    """Return what each framework sets for its processes."""
    return _table(
        ("Framework", "Starts", "Sets"),
        (
            (_code(name), one.about, " ".join(f"`{v}`" for v in sorted(one.computed)))
            for name, one in ((name, frameworks.get(name)) for name in frameworks.BUILTIN)
        ),
    )


def python_api() -> str:
    """Return every public name of the package, for mkdocstrings."""
    public = {name: getattr(launcher, name) for name in launcher.__all__ if name[0] != "_"}
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Exceptions": []}
    for name, value in public.items():
        if inspect.isfunction(value):
            kinds["Functions"].append(name)
        elif inspect.isclass(value):
            is_error = issubclass(value, launcher.LauncherError)
            kinds["Exceptions" if is_error else "Classes"].append(name)
    parts = []
    for title, names in kinds.items():
        parts += [f"## {title}", *(f"::: launcher.{name}" for name in names)]
    return "\n\n".join([*parts, "## Events", _events()])


def _events() -> str:
    """Return the events of a run as a table, each with its fields."""
    rows = ["| `launcher.events.` | fields | what happened |", "|---|---|---|"]
    for name, event in vars(launcher.events).items():
        if inspect.isclass(event) and issubclass(event, launcher.events.Event):
            base = event is launcher.events.Event
            own = [f.name for f in fields(event) if base or f.name not in ("time", "seq")]
            about = " ".join((event.__doc__ or "").split()).replace("|", "\\|")
            rows.append(f"| `{name}` | {', '.join(f'`{one}`' for one in own)} | {about} |")
    return "\n".join(rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "command-line": command_line,
    "option-variables": option_variables,
    "job-keys": keys_of(job_schema),
    "inventory-keys": keys_of(inventory_schema),
    "error-codes": error_codes,
    "known-causes": known_causes,
    "check-codes": check_codes,
    "placeholders": placeholders,
    "framework-variables": framework_variables,
    "python-api": python_api,
}

if __name__ == "__main__":
    main()
