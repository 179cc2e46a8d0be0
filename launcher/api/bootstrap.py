"""Prepare bare hosts for runs: your public key, rsync, Python, an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fleet.bootstrap.plan import STEPS, VENV, requirement_lines
from ..fleet.bootstrap.plan import chosen as chosen_steps
from ..fleet.discovery import plain
from ..spec.errors import InputError
from ..spec.version import installs

if TYPE_CHECKING:
    from typing import Any

    from ..fleet.bootstrap.bootstrap import HostOutcome as HostOutcome
    from ..fleet.bootstrap.prompting import Asker, Tell

__all__ = ["STEPS", "VENV", "bootstrap_hosts", "chosen_steps", "plain", "requirement_lines"]


def bootstrap_hosts(asker: Asker, tell: Tell, **wanted: Any) -> list[HostOutcome]:
    """Prepare hosts, and return an outcome for each, in their order.

    ``wanted`` are the fields of :class:`~launcher.fleet.bootstrap.request.BootstrapRequest`.
    ``asker`` answers questions about host keys and passwords. ``tell(host, message)`` is called from
    several threads. Raises InputError if Fabric is not installed.
    """
    try:
        from ..fleet.bootstrap.bootstrap import bootstrap
        from ..fleet.bootstrap.request import BootstrapRequest
    except ImportError as error:
        raise InputError(
            f"bootstrap needs Fabric, which is not installed here ({error})",
            f"{installs('bootstrap')}, or 'fabric>=3.2,<4'",
        ) from None
    return bootstrap(BootstrapRequest(**wanted), asker, tell)
