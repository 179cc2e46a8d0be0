"""Ask ssh(1) once how to reach each host, and ahead of time where that saves waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress

from ..spec.errors import ConnectError
from ..spec.model import Inventory
from ..spec.ssh_config import ssh_values
from .ssh_answers import SshAnswers
from .ssh_settings import SshSettings, defaults, host_of, resolve


class SshLookup:
    """The settings of the hosts of one inventory, and of all that they jump through."""

    def __init__(self, inventory: Inventory) -> None:
        self._own = {host.name: ssh_values(host) for host in inventory.hosts}
        self._config = inventory.ssh_config and os.path.expanduser(inventory.ssh_config)
        self._asked: dict[str, asyncio.Future[SshSettings]] = {}
        self._answers = SshAnswers(self._config)

    @property
    def config(self) -> str | None:
        """The ssh_config that the inventory names; None for the user's own and the system's."""
        return self._config

    def ask_ahead(self, destinations: Iterable[str]) -> None:
        """Ask about hosts in threads, so that the answers are there when they are needed."""
        for destination in destinations:
            self._ask(destination)

    async def settings(self, destination: str) -> SshSettings:
        """Return how to reach a host of the inventory, or ``[user@]host[:port]``.

        Raises ConnectError.
        """
        return await asyncio.shield(self._ask(destination))

    async def close(self) -> None:
        """Wait for no more answers, and keep those that there are for later starts."""
        for future in self._asked.values():
            future.cancel()
        if self._asked:
            await asyncio.to_thread(self._answers.save)

    def _ask(self, destination: str) -> asyncio.Future[SshSettings]:
        if destination not in self._asked:
            in_thread = (
                asyncio.get_running_loop().run_in_executor
            )  # starts at once, as tasks do not
            if not self._asked:
                in_thread(None, _ask_for_defaults, self._answers)
            own = self._own.get(host_of(destination), ())
            asked = in_thread(None, resolve, destination, own, self._config, self._answers)
            asked.add_done_callback(_saw_error)
            self._asked[destination] = asked
        return self._asked[destination]


def _ask_for_defaults(answers: SshAnswers) -> None:
    """Ask for them beside the first host; whoever needs them hears of an error."""
    with suppress(ConnectError):
        defaults(answers)


def _saw_error(asked: asyncio.Future[SshSettings]) -> None:
    if not asked.cancelled():
        asked.exception()  # nobody may ever need this answer
