"""The text of a foreign file: as it is, as lines, and as YAML where it is YAML."""

from __future__ import annotations

import re
from functools import cached_property

import yaml

from ..spec import nodeset
from ..spec.errors import DocumentError, Unbounded
from ..spec.frozen import frozen
from ..spec.yaml_document import YamlNode, parse
from .draft import Draft, quoted

_YAML = "tag:yaml.org,2002:"
#: Ansible's own tags: encrypted text, and text that is not a template.
_TAGS = ("!vault", "!vault-encrypted", "!unsafe")


@frozen
class Text:
    """A file's content and name."""

    content: str
    source: str

    @cached_property
    def lines(self) -> list[tuple[int, str]]:
        """The lines that are not blank, numbered from 1 and without ``#`` comments."""
        numbered = enumerate(self.content.split("\n"), 1)
        stripped = ((number, re.sub(r"(^|\s)#.*", "", line).strip()) for number, line in numbered)
        return [(number, line) for number, line in stripped if line]

    @cached_property
    def root(self) -> YamlNode | None:
        """The root of the YAML document, or None if the text is not YAML. Raises Unbounded."""
        try:
            return self.yaml()
        except Unbounded:
            raise
        except DocumentError:
            return None

    def yaml(self) -> YamlNode:
        """Return the root of the YAML document. Raises DocumentError if the text is not YAML."""
        return parse(self.content, self.source)

    @cached_property
    def keys(self) -> dict[str, YamlNode]:
        """The top-level mapping of the YAML document; empty without one."""
        return entries_or_none(self.root) or {}


def entries_or_none(node: YamlNode | None) -> dict[str, YamlNode] | None:
    """Return the entries of a mapping, unchecked, or None if ``node`` is not a mapping."""
    if node is None or not isinstance(node.yaml, yaml.MappingNode):
        return None
    found: dict[str, YamlNode] = {}
    for key, value in node.yaml.value:
        if key.tag == f"{_YAML}merge":
            found = {**(entries_or_none(YamlNode(value, node.source)) or {}), **found}
        elif isinstance(key, yaml.ScalarNode):
            found[str(key.value)] = YamlNode(value, node.source)
    return found


def entries(node: YamlNode, what: str = "a mapping") -> dict[str, tuple[int, YamlNode]]:
    """Return line and value by key of a mapping, with ``<<`` merged in. Raises DocumentError."""
    own: dict[str, tuple[int, YamlNode]] = {}
    merged: dict[str, tuple[int, YamlNode]] = {}
    for name, key_node, value in node.items(what):
        if key_node.yaml.tag != f"{_YAML}merge":
            own[name] = (key_node.line, value)
            continue
        several = isinstance(value.yaml, yaml.SequenceNode)
        for one in value.elements() if several else [value]:
            merged = {**entries(one, what), **merged}
    return {**merged, **own}


def check_tags(node: YamlNode) -> None:
    """Raise DocumentError at a tag that would create an object; launcher never creates one."""
    waiting, seen = [node.yaml], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        tag = str(one.tag)
        if (tag.startswith("!") and tag not in _TAGS) or tag.startswith(f"{_YAML}python"):
            shown = quoted(tag.replace(_YAML, "!!"))
            raise YamlNode(one, node.source).error(
                f"the YAML tag {shown} is not supported", "use plain text, lists and mappings only"
            )
        if isinstance(one, yaml.MappingNode):
            waiting += [part for pair in one.value for part in pair]
        elif isinstance(one, yaml.SequenceNode):
            waiting += one.value


def expand(draft: Draft, words: str, line: int) -> tuple[str, ...]:
    """Return the names of a nodeset. Raises DocumentError."""
    try:
        return nodeset.expand(words)
    except ValueError as error:
        raise draft.error(line, quoted(str(error))[1:-1], "gpu[01-08,12]") from None


def login(word: str) -> tuple[str, str, str]:
    """Split ``[user@]host[:number]`` into user, host and number; a missing part is empty."""
    user, _, rest = word.rpartition("@")
    if match := re.fullmatch(r"\[([0-9A-Fa-f:.%\w-]*:[0-9A-Fa-f:.%\w-]*)\](?::(\d{1,9}))?", rest):
        return user, match[1], match[2] or ""
    host, colon, number = rest.partition(":")
    if colon and ":" not in number and re.fullmatch(r"[0-9]{1,9}", number):
        return user, host, number
    return user, rest, ""


def unread(draft: Draft, node: YamlNode, known: tuple[str, ...], what: str) -> None:
    """Note the keys of a mapping that are not ``known``; only their names, as values may be secret."""
    for name, (line, value) in entries(node).items():
        if name not in known:
            secret = "password" in name or "pass" in name.split("_") or value.yaml.tag in _TAGS[:2]
            draft.note(
                line,
                f"{quoted(name)[1:-1]}{_inside(value)} of {what} is not carried over"
                + (": passwords are never stored; use a key" if secret else ""),
            )


#: The most names that one note lists.
_MOST_NAMES = 40


def _inside(node: YamlNode) -> str:
    """Describe what a mapping or a list contains, by names and counts, without values."""
    names: list[str] = []
    waiting = [node.yaml]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, yaml.SequenceNode):
            names += [f"{len(one.value)} item{'' if len(one.value) == 1 else 's'}"]
            waiting = [*one.value, *waiting]
        elif isinstance(one, yaml.MappingNode):
            names += [quoted(key.value)[1:-1] for key, _ in one.value]
            waiting = [*(value for _, value in one.value), *waiting]
    more = len(names) - _MOST_NAMES
    shown = names[:_MOST_NAMES] + ([f"{more} more"] if more > 0 else [])
    return f" ({', '.join(shown)})" if names else ""
