"""Collect the hosts and groups of a foreign inventory.

Every value is checked, so that the result is a valid inventory of ours; nothing is dropped without
a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...spec.errors import DocumentError
from ...spec.host_environment import read_host_environment
from ...spec.inventory import NAME, VARIABLE
from ...spec.model import Host, Inventory
from ...spec.nodeset import MOST
from ...spec.provenance import Given
from ...spec.yaml_document import parse
from ..draft import Draft, quoted

_IPV6 = re.compile(r"(?=.*:.*:)[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\Z")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")


def _setting(text: str) -> str:
    if not text or '"' in text or not text.isprintable():
        raise ValueError("no quotes, no line breaks, not empty")
    return text


def _address(text: str) -> str:
    if set("[], /@") & set(text):
        raise ValueError("a name or an IP")
    return _setting(text)


def _word(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise ValueError("one word")
    return text


def _number(least: int, most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return check


def _environment(text: str) -> Mapping[str, Any]:
    try:
        return read_host_environment(parse(text, ""))
    except DocumentError as error:
        raise ValueError(error.message) from None


#: The settings of an imported host, each with its check; ``env.X`` and ``labels.x`` are free.
CHECKS: Mapping[str, Callable[[str], Any]] = {
    "address": _address,
    "user": _setting,
    "port": _number(1, 65535),
    "proxy_jump": _setting,
    "identity_file": _setting,
    "gpus": _number(0, 64),
    "python": _word,
    "workdir": _word,
    "interface": _word,
    "environment": _environment,
}


class InventoryDraft(Draft):
    """Hosts and groups found so far; :meth:`inventory` is the result."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.hosts: dict[str, dict[str, Given]] = {}
        self.lines: dict[str, int] = {}
        self.groups: dict[str, dict[str, None]] = {}
        self.ssh_config: str | None = None

    def host(self, word: str, line: int) -> str:
        """Add a host unless it is known; return its name. Raises DocumentError on an invalid name."""
        name = word
        if _IPV6.match(word):
            name = "ip-" + re.sub("[^0-9A-Za-z]+", "-", word).strip("-")
        if not NAME.match(name) or len(name) > 253:  # DNS allows 253
            raise self.error(
                line,
                f"{quoted(word)} cannot be the name of a host",
                "letters, digits, '.', '_' and '-', or an IP",
            )
        if name not in self.hosts:
            if len(self.hosts) == MOST:
                raise self.error(line, f"more than {MOST} hosts")
            self.hosts[name], self.lines[name] = {}, line
            if name != word:
                self.hosts[name]["address"] = Given(word, line)
                self.note(line, f"an IPv6 address cannot be a host name: the host is named {name}")
        return name

    def give(self, host: str, key: str, text: str, line: int, via: str = "") -> None:
        """Set a setting of a host, replacing an earlier value. Raises DocumentError on an invalid one.

        ``via`` names the group or section that the value was inherited from.
        """
        self.spend(line)
        kind, _, name = key.partition(".")
        try:
            if len(name) > 253:
                raise ValueError("its name is too long")
            if kind == "env" and not VARIABLE.match(name):
                raise ValueError("not the name of an environment variable")
            value = text if name else CHECKS[key](text)
        except ValueError as error:
            if key == "gpus" and text.isdigit():
                self.note(
                    line, "more than 64 slots cannot be GPUs: gpus is left out and will be detected"
                )
                return
            raise self.error(line, f"{quoted(text)} cannot be {key}: {error}") from None
        self.hosts[host][key] = Given(value, line, via)

    def group(self, name: str, hosts: Iterable[str], line: int) -> None:
        """Add hosts to a group. Raises DocumentError on an invalid group name."""
        if not _GROUP.match(name) or len(name) > 253:
            raise self.error(line, f"{quoted(name)} cannot be the name of a group")
        self.groups.setdefault(name, {}).update(dict.fromkeys(hosts))

    def inventory(self) -> Inventory:
        """Return the inventory. Raises DocumentError if it has no hosts."""
        if not self.hosts:
            raise self.error(1, "it has no hosts")
        groups: dict[str, tuple[str, ...]] = {}
        for name, members in self.groups.items():
            if not members:
                self.note(0, f"group {name} has no hosts and is left out")
            if not members or list(members) == [name]:
                continue  # the host's own name selects it already
            other = name
            while other in self.hosts or other in groups:
                other += "-group"
            if other != name:
                self.note(0, f"group {name} has the name of a host and is renamed {other}")
            groups[other] = tuple(members)
        return Inventory(
            hosts=tuple(_host(name, given) for name, given in self.hosts.items()),
            groups=groups,
            ssh_config=self.ssh_config,
            source=self.source,
            notes=self.notes,
        )


def _host(name: str, given: Mapping[str, Given]) -> Host:
    values: dict[str, Any] = {"env": {}, "labels": {}}
    for key, one in given.items():
        kind, dot, word = key.partition(".")
        if dot:
            values[kind][word] = one.value
        else:
            values[key] = one.value
    values |= values.pop("environment", {})
    return Host(name=name, **values)
