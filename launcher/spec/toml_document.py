"""Read a table of a TOML file as YAML nodes, so that the same tables of keys check both."""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import DocumentError
from .yaml_document import YamlNode

_TAG = "tag:yaml.org,2002:"


def table(content: str, source: str, path: tuple[str, ...]) -> YamlNode | None:
    """Return the table below ``path`` in a TOML document; None if it has none. Raises DocumentError.

    A key has the line on which it is set; what is inside of its value has the same one.
    """
    import tomllib  # not needed where nobody has such a file

    try:
        value: Any = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        said = re.search(r"at line (\d+)", str(error))
        at = int(said[1]) if said else content.count("\n") + 1
        raise DocumentError(f"not TOML: {error}", "", source, at) from None
    except RecursionError:
        raise DocumentError("not TOML: nested too deep", "", source) from None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DocumentError(f"{'.'.join(path)} must be a table", f"[{'.'.join(path)}]", source)
    start = _line(content, path, 1)
    pairs = []
    for name, inner in value.items():
        line = _line(content, (*path, name), start)
        pairs.append((_scalar("str", name, line), _node(inner, line)))
    return YamlNode(yaml.MappingNode(f"{_TAG}map", pairs, *_marks(start)), source)


def _line(content: str, path: tuple[str, ...], otherwise: int) -> int:
    """Return the line on which a table or a key of one is set, as far as that can be seen."""
    here: tuple[str, ...] = ()
    for number, line in enumerate(content.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            here = _names(header[1])
            if here[: len(path)] == path:
                return number
        elif key := re.match(r"""\s*([\w."' -]+?)\s*=""", line):
            whole = (*here, *_names(key[1]))
            if whole[: len(path)] == path and whole != here:
                return number
    return otherwise


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _node(value: Any, line: int) -> yaml.Node:
    if isinstance(value, dict):
        pairs = [(_scalar("str", name, line), _node(one, line)) for name, one in value.items()]
        return yaml.MappingNode(f"{_TAG}map", pairs, *_marks(line))
    if isinstance(value, list):
        return yaml.SequenceNode(f"{_TAG}seq", [_node(one, line) for one in value], *_marks(line))
    if isinstance(value, bool):
        return _scalar("bool", str(value).lower(), line)
    if isinstance(value, int | float):
        return _scalar("int" if isinstance(value, int) else "float", str(value), line)
    return _scalar("str", str(value), line)


def _scalar(kind: str, text: str, line: int) -> yaml.ScalarNode:
    return yaml.ScalarNode(_TAG + kind, text, *_marks(line), style='"' if kind == "str" else None)


def _marks(line: int) -> tuple[yaml.Mark, yaml.Mark]:
    mark = yaml.Mark("", 0, line - 1, 0, None, 0)
    return mark, mark
