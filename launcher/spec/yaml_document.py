"""Reads YAML text into checked values; every complaint names file, line and what was expected.

The same table is the source of the JSON Schema for editors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from .errors import DocumentError, Unbounded, suggestion
from .frozen import frozen

#: Nesting of lists and mappings, and nodes with all aliases written out, that a file may have.
MOST_DEEP, MOST_NODES = 100, 200_000

# libyaml's parser is several times faster; PyYAML can be built without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@frozen
class Key:
    """What one key of a mapping holds. ``read`` turns a node into a value or complains."""

    read: Callable[[Node], Any]
    schema: Mapping[str, Any]
    about: str


@frozen
class Node:
    """A YAML node with the file that it stands in."""

    yaml: yaml.Node
    source: str

    @property
    def line(self) -> int:
        """Where it stands, from 1."""
        return int(self.yaml.start_mark.line) + 1

    def error(self, message: str, hint: str = "") -> DocumentError:
        """A complaint about this place."""
        return DocumentError(message, hint, self.source, self.line)

    def expected(self, what: str) -> DocumentError:
        """The complaint that something else stands here."""
        return self.error(f"expected {what}, found {self._kind()}")

    def _kind(self) -> str:
        if isinstance(self.yaml, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.yaml, yaml.SequenceNode):
            return "a list"
        return f"{self.yaml.value!r}" if self.yaml.value != "" else "nothing"

    def items(self, what: str = "a mapping") -> list[tuple[str, Node, Node]]:
        """``(key, key node, value node)`` of a mapping. Raises DocumentError, on duplicates too."""
        if not isinstance(self.yaml, yaml.MappingNode):
            raise self.expected(what)
        seen: dict[str, int] = {}
        found = []
        for key, value in self.yaml.value:
            place = Node(key, self.source)
            name = text(place)
            if name in seen:
                raise place.error(f'"{name}" stands here twice, first in line {seen[name]}')
            seen[name] = place.line
            found.append((name, place, Node(value, self.source)))
        return found

    def elements(self, what: str = "a list") -> list[Node]:
        """The nodes of a list. Raises DocumentError."""
        if not isinstance(self.yaml, yaml.SequenceNode):
            raise self.expected(what)
        return [Node(value, self.source) for value in self.yaml.value]

    def is_empty(self) -> bool:
        """Whether nothing (null) stands here."""
        return isinstance(self.yaml, yaml.ScalarNode) and self.yaml.tag == "tag:yaml.org,2002:null"


def parse(content: str, source: str) -> Node:
    """The root of a YAML document. Raises DocumentError when it is not one."""
    try:
        _bounded(content, source)
        root = yaml.compose(content, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        text_of_line = (content.splitlines() or [""])[min(line, len(content.splitlines())) - 1]
        tabs = text_of_line.lstrip(" ").startswith("\t")
        hint = "tabs are not allowed for indentation" if tabs else ""
        raise DocumentError(f"not YAML: {error.problem}", hint, source, line) from None
    except yaml.reader.ReaderError as error:
        line = content.count("\n", 0, error.position) + 1
        raise DocumentError(f"not YAML: {error.reason}", "", source, line) from None
    if root is None:
        raise DocumentError("the file is empty", "", source, 1)
    if "&" in content:
        _finite(root, source)
    return Node(root, source)


def _bounded(content: str, source: str) -> None:
    """Raises Unbounded on nesting that libyaml would compose until the stack is full."""
    openers = sum(map(content.count, ("[", "{", "- ", "? ", "-\t", "?\t", ":\n")))
    if openers <= MOST_DEEP:
        return
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEEP:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise Unbounded(f"nested more than {MOST_DEEP} deep", "", source, line)


def _finite(root: yaml.Node, source: str) -> None:
    """Raises Unbounded on aliases that make a small file an endless or a huge one."""
    waiting = [(root, 0)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        node, depth = waiting.pop()
        if depth > MOST_DEEP:
            break
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]
    line = root.start_mark.line + 1
    raise Unbounded("its aliases (*) make it endless, or far too large", "", source, line)


def read(node: Node, keys: Mapping[str, Key], what: str) -> dict[str, Any]:
    """The values of a mapping that may hold ``keys``. Raises DocumentError on anything else."""
    values = {}
    for name, place, value in node.items(what):
        if name not in keys:
            known = ", ".join(keys)
            hint = suggestion(name, tuple(keys)) or f"known keys: {known}"
            raise place.error(f'unknown key "{name}" in {what}', hint)
        values[name] = keys[name].read(value)
    return values


def schema(keys: Mapping[str, Key], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of a mapping that may hold ``keys``."""
    properties = {name: {**key.schema, "description": key.about} for name, key in keys.items()}
    found = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**found, "required": list(required)} if required else found


# -- readers of single values


def text(node: Node) -> str:
    """A scalar as the text that stands there."""
    if not isinstance(node.yaml, yaml.ScalarNode) or node.is_empty():
        raise node.expected("text")
    return str(node.yaml.value)


def checked(convert: Callable[[str], Any]) -> Callable[[Node], Any]:
    """A reader of a text that ``convert`` takes; its ValueError becomes an error with the line."""

    def reader(node: Node) -> Any:
        try:
            return convert(text(node))
        except ValueError as error:
            raise node.error(str(error)) from None

    return reader


def whole_number(least: int, most: int | None = None) -> Callable[[Node], int]:
    """A reader of integers within bounds."""
    within = f"a whole number from {least}" + (f" to {most}" if most is not None else "")

    def reader(node: Node) -> int:
        if not isinstance(node.yaml, yaml.ScalarNode) or node.yaml.tag != "tag:yaml.org,2002:int":
            raise node.expected(within)
        try:
            number = int(node.yaml.value.replace("_", ""), 0)
        except ValueError:
            raise node.expected(within) from None
        if number < least or (most is not None and number > most):
            raise node.expected(within)
        return number

    return reader


def truth(node: Node) -> bool:
    """true or false."""
    if not isinstance(node.yaml, yaml.ScalarNode) or node.yaml.tag != "tag:yaml.org,2002:bool":
        raise node.expected("true or false")
    return str(node.yaml.value).lower() in ("true", "yes", "on")


def texts(node: Node) -> tuple[str, ...]:
    """A list of texts, or one."""
    if isinstance(node.yaml, yaml.ScalarNode):
        return (text(node),)
    return tuple(text(element) for element in node.elements("a list of texts"))


def text_map(node: Node) -> dict[str, str]:
    """A mapping of names to scalars, as the texts that stand there."""
    return {name: text(value) for name, _, value in node.items("a mapping of names to texts")}


SCALAR: Mapping[str, Any] = {"type": ["string", "number", "boolean"]}
TEXT = SCALAR  # whatever a scalar looks like to YAML, it is taken as the text that stands there
TEXT_MAP: Mapping[str, Any] = {"type": "object", "additionalProperties": SCALAR}
TEXTS: Mapping[str, Any] = {"oneOf": [SCALAR, {"type": "array", "items": SCALAR}]}


def whole(least: int, most: int | None = None) -> dict[str, Any]:
    """The schema of a whole number."""
    return {"type": "integer", "minimum": least, **({"maximum": most} if most else {})}
