"""Turn Ansible's variables of a host into our settings.

Sources: Ansible, "Connecting to hosts: behavioral inventory parameters", and the documentation of
the connection plugin ``ansible.builtin.ssh``. Templates are not evaluated, and encrypted values are
not decrypted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...spec.frozen import frozen
from ..draft import quoted
from .draft import CHECKS, InventoryDraft
from .jump import from_arguments

_KEYS = {
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_ssh_private_key_file": "identity_file",
    "ansible_python_interpreter": "python",
    "ansible_ssh_host": "address",
    "ansible_ssh_port": "port",
    "ansible_ssh_user": "user",
    "ansible_private_key_file": "identity_file",
    **{f"launcher_{key}": key for key in CHECKS},
}
_OURS = ("launcher_env_", "launcher_label_")
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_OWN_NAME = re.compile(r"\{\{\s*inventory_hostname\s*\}\}")


@frozen
class Var:
    """A variable. ``text`` is None for a list or a mapping; ``vault``: encrypted with ansible-vault."""

    text: str | None
    line: int
    vault: bool = False


def is_setting(draft: InventoryDraft, key: str, one: Var) -> bool:
    """Return whether a variable is a setting of ours, and note it if it is not."""
    if key in _KEYS or key.startswith(_OURS) or (key in _ARGUMENTS and one.text is not None):
        return True
    if key == "ansible_connection" and one.text in ("ssh", "smart", "paramiko"):
        return False
    why = ": passwords are never stored; use a key" if one.vault or "pass" in key else ""
    if key == "ansible_connection":
        why = ": hosts are reached over SSH"
    draft.note(one.line, f"variable {quoted(key)[1:-1]} is not carried over{why}")
    return False


def settings(draft: InventoryDraft, host: str, given: Mapping[str, tuple[Var, str]]) -> None:
    """Set what the variables of a host say, and note the rest. Raises DocumentError."""
    # Ours last: what `launcher inventory export` wrote is more exact than Ansible's variables.
    for key in sorted(given, key=lambda key: (key.startswith("launcher_"), key in _KEYS)):
        one, via = given[key]
        if not is_setting(draft, key, one):
            continue
        if key in _ARGUMENTS:
            _arguments(draft, host, key, one, via)
        else:
            _give(draft, host, key, one, via)


def _give(draft: InventoryDraft, host: str, key: str, one: Var, via: str) -> None:
    text = _plain(draft, host, key, one)
    if key in _KEYS:
        ours = _KEYS[key]
    else:
        kind, _, name = key.removeprefix("launcher_").partition("_")
        ours = f"{'labels' if kind == 'label' else kind}.{name}"
    if ours == "python" and (text.startswith("auto") or " " in text):
        draft.note(one.line, f"{key} {quoted(text)} is not a path: python3 is used")
        return
    draft.give(host, ours, text, one.line, via)


def _plain(draft: InventoryDraft, host: str, key: str, one: Var) -> str:
    if one.vault:
        raise draft.error(
            one.line, f"{key} is encrypted with ansible-vault", "write the value as plain text"
        )
    if one.text is None:
        raise draft.error(one.line, f"{key} must be text")
    text = one.text if key.startswith("launcher_") else _OWN_NAME.sub(host, one.text)
    if "{{" in text and not key.startswith("launcher_"):
        raise draft.error(
            one.line,
            f"{key} is a template, which launcher does not evaluate",
            "write the value instead",
        )
    return text


def _arguments(draft: InventoryDraft, host: str, key: str, one: Var, via: str) -> None:
    ours, other = from_arguments(_plain(draft, host, key, one))
    for setting, value in ours.items():
        draft.give(host, setting, value, one.line, via)
    for option in other:
        checked = " (host keys are always checked)" if option == "StrictHostKeyChecking" else ""
        draft.note(one.line, f"{quoted(option)[1:-1]} in {key} is not carried over{checked}")
