"""What `launcher bootstrap` is asked to do, and where."""

from __future__ import annotations

from collections.abc import Callable

from ...spec.frozen import frozen
from ...spec.model import Host, Inventory
from ...transport.ssh import AskPassphrase


@frozen
class Request:
    """What to do, and where. ``keys`` has a line of authorized_keys for each host, or None.

    ``force_key``: install it also where logging in needs no password. ``place`` is the inventory's
    file.
    """

    inventory: Inventory
    place: str
    hosts: tuple[Host, ...]
    steps: frozenset[str]
    keys: Callable[[tuple[str, ...]], str | None]
    force_key: bool = False
    login_keys: tuple[str, ...] = ()
    requirements: str | None = None
    venv: str | None = None
    dry_run: bool = False
    ask_passphrase: AskPassphrase | None = None
