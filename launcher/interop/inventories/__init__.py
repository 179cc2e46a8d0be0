"""Recognise the format of a foreign inventory, and read it.

To add a format, write a module with ``recognise`` and ``read``, and add a row to ``FORMATS``. The
first row that recognises a text reads it. A package of its own has a :class:`Format` as an entry point
of the group ``launcher.inventories``, asked just before plain lists of hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...spec.errors import DocumentError, InputError, suggestion
from ...spec.frozen import frozen
from ...spec.plugins import Plugins, Unusable
from ..source import Text, check_tags
from . import (
    ansible_ini,
    ansible_yaml,
    clustershell,
    dstack,
    hostfile,
    mlx,
    ray,
    skypilot,
    ssh_config,
)
from .draft import CHECKS, InventoryDraft


@frozen
class Format:
    """A format of inventories: ``recognise`` tells a text of it, ``read`` fills the draft from it."""

    about: str
    recognise: Callable[[Text], bool]
    read: Callable[[Text, InventoryDraft], None]


FORMATS = {
    "dstack": Format("dstack SSH fleet", dstack.recognise, dstack.read),
    "ray": Format("Ray cluster file", ray.recognise, ray.read),
    "mlx": Format("MLX hostfile", mlx.recognise, mlx.read),
    "skypilot": Format("SkyPilot SSH node pools", skypilot.recognise, skypilot.read),
    "ansible-yaml": Format("Ansible, YAML", ansible_yaml.recognise, ansible_yaml.read),
    "ssh_config": Format("ssh_config(5)", ssh_config.recognise, ssh_config.read),
    "ansible": Format("Ansible, INI", ansible_ini.recognise, ansible_ini.read),
    "clustershell": Format("ClusterShell groups", clustershell.recognise, clustershell.read),
    "hostfile": Format("hostfile or list of hosts", hostfile.recognise, hostfile.read),
}


def _of_plugin(name: str, made: Any) -> Format:
    if not isinstance(made, Format):
        raise Unusable("is not an InventoryFormat of launcher.api.plugins")
    return made


PLUGINS = Plugins("launcher.inventories", "inventory format", _of_plugin, FORMATS)
#: What takes almost any text for a list of hosts, and so comes last, after plug-ins.
_ANY = "hostfile"
#: Top-level keys of our own format: a file with one of them is taken for it.
_OURS = {"hosts", "defaults", "groups", "ssh_config", "sandbox"}


def recognise(text: Text) -> str | None:
    """Return the name of a text's format; None for our own format and for unknown ones."""
    if text.content.startswith("$ANSIBLE_VAULT"):
        return "ansible"
    ours = bool(_OURS & set(text.keys))
    for name, known in FORMATS.items():
        if name == _ANY and not ours and (plugged := _recognised_by_plugin(text)):
            return plugged
        if (not ours or name in ("dstack", "mlx")) and known.recognise(text):
            return name
    return None


def _recognised_by_plugin(text: Text) -> str | None:
    for name, known in PLUGINS.usable().items():
        try:
            if known.recognise(text):
                return name
        except Exception as error:
            PLUGINS.warn(name, f"failed: {type(error).__name__}: {error}")
    return None


def read(content: str, source: str, name: str | None = None) -> tuple[str, InventoryDraft]:
    """Read an inventory in the format ``name``, or in the one that it looks like.

    Return the format's name and the draft. Raises DocumentError, and InputError for an unknown name.
    """
    text = Text(content, source)
    form = name or recognise(text)
    if form is None:
        raise DocumentError(_unknown(text), _known(), source, 1)
    reader = get(form)
    if content.startswith("$ANSIBLE_VAULT"):
        raise DocumentError(
            "encrypted with ansible-vault, which launcher does not decrypt",
            f"ansible-vault decrypt --output - {source} > plain; launcher inventory import plain",
            source,
            1,
        )
    if text.root is not None:
        check_tags(text.root)
    draft = InventoryDraft(source)
    with PLUGINS.blaming(form):
        reader.read(text, draft)
    return form, draft


def get(name: str) -> Format:
    """Return the format of that name. Raises InputError."""
    if (found := FORMATS.get(name) or PLUGINS.get(name)) is None:
        raise InputError(f'unknown format "{name}"', _known(name))
    return found


def _unknown(text: Text) -> str:
    """Say what is wrong with a text that no format recognises."""
    try:
        text.yaml()
        problem = ""
    except DocumentError as error:
        problem = f" (line {error.line}: {error.message})" if ":" in text.content else ""
    return f"not an inventory in any known format{problem}"


def _known(name: str = "") -> str:
    known = (*FORMATS, *PLUGINS.names())
    return (suggestion(name, known) if name else "") or f"known: {', '.join(known)}"


__all__ = [
    "CHECKS",
    "FORMATS",
    "PLUGINS",
    "Format",
    "InventoryDraft",
    "Text",
    "get",
    "read",
    "recognise",
]
