"""Read YAML into checked values; every error names the file, the line and the key.

The table that reads a document also makes its JSON Schema for editors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from .errors import DocumentError, Unbounded, suggestion
from .frozen import frozen

#: How deep lists and mappings may nest.
MOST_DEEP = 100
#: How many nodes a file may have once its aliases are expanded.
MOST_NODES = 200_000

# libyaml's parser is several times faster; PyYAML can be built without it.
_MERGE = "tag:yaml.org,2002:merge"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@frozen
class Key:
    """A key of a mapping: ``read`` turns its node into a value, or raises DocumentError."""

    read: Callable[[YamlNode], Any]
    schema: Mapping[str, Any]
    about: str


@frozen
class YamlNode:
    """A YAML node, the file it is from, and its path there, such as ``resources.gpus``."""

    yaml: yaml.Node
    source: str
    name: str = ""

    @property
    def line(self) -> int:
        """The line of the node, from 1."""
        return int(self.yaml.start_mark.line) + 1

    def error(self, message: str, hint: str = "") -> DocumentError:
        """Return an error that points at this node."""
        return DocumentError(message, hint, self.source, self.line)

    def expected(self, what: str) -> DocumentError:
        """Return the error that this node should be something else."""
        if not self.name:
            return self.error(f"expected {what}, found {self._kind()}")
        if self._kind() == "nothing":
            return self.error(f"{self.name} has no value (expected {what})")
        return self.error(f"{self.name} must be {what}, not {self._kind()}")

    def _kind(self) -> str:
        if isinstance(self.yaml, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.yaml, yaml.SequenceNode):
            return "a list" if self.yaml.value else "an empty list"
        return f"{self.yaml.value!r}" if self.yaml.value != "" else "nothing"

    def _inside(self, name: str) -> str:
        name = name if name.isprintable() else repr(name)
        return f"{self.name}.{name}" if self.name else name

    def items(self, what: str = "a mapping") -> list[tuple[str, YamlNode, YamlNode]]:
        """Return ``(key, key node, value node)`` of a mapping.

        Raises DocumentError, also for a key that appears twice.
        """
        if not isinstance(self.yaml, yaml.MappingNode):
            raise self.expected(what)
        seen: dict[str, int] = {}
        found, merged = [], []
        for key, value in self.yaml.value:
            key_node = YamlNode(key, self.source)
            if key.tag == _MERGE:
                merged += self._merged(YamlNode(value, self.source, self._inside("<<")))
                continue
            name = text(key_node)
            if name in seen:
                raise key_node.error(f'"{name}" appears twice, first in line {seen[name]}')
            seen[name] = key_node.line
            found.append((name, key_node, YamlNode(value, self.source, self._inside(name))))
        for (
            name,
            key_node,
            node,
        ) in merged:  # what the mapping says itself wins, then what came first
            if name not in seen:
                seen[name] = key_node.line
                found.append((name, key_node, replace(node, name=self._inside(name))))
        return found

    @staticmethod
    def _merged(value: YamlNode) -> list[tuple[str, YamlNode, YamlNode]]:
        """Return the items of what ``<<`` names: a mapping, or a list of them."""
        what = "a mapping or a list of mappings"
        if isinstance(value.yaml, yaml.SequenceNode):
            return [item for one in value.elements() for item in one.items(what)]
        return value.items(what)

    def elements(self, what: str = "a list") -> list[YamlNode]:
        """Return the nodes of a list. Raises DocumentError."""
        if not isinstance(self.yaml, yaml.SequenceNode):
            raise self.expected(what)
        return [
            YamlNode(value, self.source, f"{self.name}[{index}]" if self.name else "")
            for index, value in enumerate(self.yaml.value)
        ]

    def is_empty(self) -> bool:
        """Return whether the node is null."""
        return isinstance(self.yaml, yaml.ScalarNode) and self.yaml.tag == "tag:yaml.org,2002:null"


def parse(content: str, source: str) -> YamlNode:
    """Return the root of a YAML document. Raises DocumentError when it is not one."""
    try:
        _bounded(content, source)
        root = yaml.compose(content, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        text_of_line = (content.splitlines() or [""])[min(line, len(content.splitlines())) - 1]
        tabs = text_of_line.lstrip(" ").startswith("\t")
        if tabs:
            message, hint = "YAML does not allow tabs", "indent with spaces"
        else:
            message, hint = f"not YAML: {error.problem}", ""
        raise DocumentError(message, hint, source, line) from None
    except yaml.reader.ReaderError as error:
        line = content.count("\n", 0, error.position) + 1
        raise DocumentError(f"not YAML: {error.reason}", "", source, line) from None
    if root is None:
        raise DocumentError("the file is empty", "", source, 1)
    if "&" in content:
        _finite(root, source)
    return YamlNode(root, source)


def _bounded(content: str, source: str) -> None:
    """Raise Unbounded for nesting so deep that libyaml would overflow the stack."""
    openers = sum(map(content.count, ("[", "{", "- ", "? ", "-\t", "?\t", ":\n")))
    if openers <= MOST_DEEP:
        return
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEEP:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise Unbounded(f"nested more than {MOST_DEEP} levels deep", "", source, line)


def _finite(root: yaml.Node, source: str) -> None:
    """Raise Unbounded for aliases that make a small file endless or huge."""
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
    raise Unbounded("its aliases (*) make it endless or far too large", "", source, line)


def read(
    node: YamlNode, keys: Mapping[str, Key], what: str, elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the values of a mapping that may hold ``keys``; ``what`` is what to call it.

    ``elsewhere`` are names that other tools have for some of them. Raises DocumentError for anything
    else.
    """
    if not isinstance(node.yaml, yaml.MappingNode):
        raise replace(node, name=node.name or what).expected("a mapping")
    values = {}
    for name, key_node, value in node.items():
        if name not in keys:
            known = ", ".join(one for one, key in keys.items() if not key.schema.get("deprecated"))
            meant = (elsewhere or {}).get(name, name)
            hint = suggestion(meant, tuple(keys)) or f"known keys: {known}"
            raise key_node.error(f'unknown key "{name}" in {what}', hint)
        values[name] = keys[name].read(value)
    return values


def schema(keys: Mapping[str, Key], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON Schema of a mapping that may hold ``keys``."""
    properties = {name: {**key.schema, "description": key.about} for name, key in keys.items()}
    found = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**found, "required": list(required)} if required else found


# -- readers of single values


def text(node: YamlNode) -> str:
    """Return a scalar as it is written."""
    if not isinstance(node.yaml, yaml.ScalarNode) or node.is_empty():
        raise node.expected("text")
    return str(node.yaml.value)


def checked(convert: Callable[[str], Any]) -> Callable[[YamlNode], Any]:
    """Return a reader that passes the text to ``convert``; a ValueError gets the line."""

    def reader(node: YamlNode) -> Any:
        try:
            return convert(text(node))
        except ValueError as error:
            key = f"{node.name}: " if node.name else ""
            raise node.error(f"{key}{error}") from None

    return reader


def whole_number(least: int, most: int | None = None) -> Callable[[YamlNode], int]:
    """Return a reader of integers within bounds."""
    if most is None:
        within = f"a whole number, {least} or more"
    else:
        within = f"a whole number from {least} to {most}"

    def reader(node: YamlNode) -> int:
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


def truth(node: YamlNode) -> bool:
    """Return true or false."""
    if not isinstance(node.yaml, yaml.ScalarNode) or node.yaml.tag != "tag:yaml.org,2002:bool":
        raise node.expected("true or false")
    return str(node.yaml.value).lower() in ("true", "yes", "on")


def texts(node: YamlNode) -> tuple[str, ...]:
    """Return a list of texts, or a single one as a tuple."""
    if isinstance(node.yaml, yaml.ScalarNode):
        return (text(node),)
    return tuple(text(element) for element in node.elements("a list of texts"))


def text_map(node: YamlNode) -> dict[str, str]:
    """Return a mapping of names to scalars, as they are written."""
    return {name: text(value) for name, _, value in node.items("a mapping of names to texts")}


SCALAR: Mapping[str, Any] = {"type": ["string", "number", "boolean"]}
TEXT = SCALAR  # YAML may see a number or a truth value; it is read as written
TEXT_MAP: Mapping[str, Any] = {"type": "object", "additionalProperties": SCALAR}
TEXTS: Mapping[str, Any] = {"oneOf": [SCALAR, {"type": "array", "items": SCALAR}]}


def whole(least: int, most: int | None = None) -> dict[str, Any]:
    """Return the schema of a whole number."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return {"type": "integer", **bounds}
