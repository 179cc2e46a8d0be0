"""The request of a `launcher bootstrap`."""

from __future__ import annotations

from collections.abc import Callable

from ...spec.frozen import frozen
from ...spec.model import Host, Inventory
from ...transport.ssh import AskPassphrase


@frozen
class BootstrapRequest:
    """What to do, and on which hosts.

    ``keys`` returns the line for authorized_keys, or None, from a host's identity files.
    ``force_key`` installs it even where logging in needs no password.
    """

    inventory: Inventory
    inventory_file: str
    hosts: tuple[Host, ...]
    steps: frozenset[str]
    keys: Callable[[tuple[str, ...]], str | None]
    force_key: bool = False
    login_keys: tuple[str, ...] = ()
    requirements: str | None = None
    venv: str | None = None
    dry_run: bool = False
    ask_passphrase: AskPassphrase | None = None
