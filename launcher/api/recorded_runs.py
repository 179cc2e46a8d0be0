"""The runs that are recorded on this machine, as a client lists and compares them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..fleet.inventory_file import load_inventory
from ..fleet.ssh_programs import require_allowed
from ..records import catalog
from ..records.catalog import Summary, Wanted
from ..spec import given
from ..spec.errors import InputError
from ..spec.model import Inventory

if TYPE_CHECKING:
    from ..records.comparison import Difference
    from ..runner.unfollowed import Refreshed


class RecordedRuns:
    """The runs of this machine. Reading them needs no connection and never waits."""

    _inventory: Inventory | str | os.PathLike[str] | None

    @property
    def inventory(self) -> Inventory:
        """The hosts of this client. Raises InputError if it has none, or if its file's ssh_config runs
        programs that nobody has allowed; DocumentError."""
        if self._inventory is None:
            raise InputError(
                "this client has no inventory", 'name one: launcher.Client("inventory/lab.yaml")'
            )
        if not isinstance(self._inventory, Inventory):
            loaded = load_inventory(self._inventory)
            require_allowed(loaded)
            self._inventory = loaded
        return self._inventory

    def reload(self) -> None:
        """Read the inventory's file again, as after a change. Raises what ``inventory`` raises."""
        loaded = load_inventory(self.inventory.source)
        require_allowed(loaded)
        self._inventory = loaded

    def names(self) -> list[str]:
        """Return the names of all runs of this machine, the oldest first."""
        return catalog.names()

    def show(self, name: str) -> Summary:
        """Return a summary of one run of this machine.

        ``name`` may be the beginning of a name, or ``-`` for the latest. Raises UnknownRun, or
        InputError if several match.
        """
        return catalog.summary(catalog.find(name))

    def select(
        self,
        words: Sequence[str] = (),
        *,
        failed: bool = False,
        older: float | None = None,
        tags: Sequence[str] = (),
    ) -> list[Summary]:
        """Return summaries of the runs that ``words`` name, the oldest first: names or beginnings as in
        ``show``, or patterns such as ``sweep-*``; without words, all runs.

        Of these, with ``failed`` those that failed or were lost, and with ``older`` those that were
        started more than so many seconds ago; with ``tags`` those that have all of them. Raises
        UnknownRun, InputError.
        """
        words, tags = (
            given.value(name, Sequence[str], one)
            for name, one in (("words", words), ("tags", tags))
        )
        before = None if older is None else time.time() - given.value("older", float, older)
        found = catalog.select(words, failed=failed, before=before)
        return [run for run in found if set(tags).issubset(run.tags)]

    def annotate(
        self,
        name: str,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        note: str | None = None,
    ) -> Summary:
        """Add and remove tags of a run of this machine, and set its note.

        Raises InputError, RecordError.
        """
        changes = (
            given.value("add", Sequence[str], add),
            given.value("remove", Sequence[str], remove),
        )
        catalog.annotate(name, *changes, given.value("note", str | None, note))
        return self.show(name)

    def diff(self, one: str, other: str, metrics: Sequence[str] = ()) -> tuple[Difference, ...]:
        """Return what differs between two runs of this machine: how they were started, then how they
        ended. ``metrics`` are patterns with one group for the values that they printed last; by default
        loss, accuracy and the like are found. Raises InputError."""
        from ..records.comparison import compare

        return compare(catalog.side(one, metrics), catalog.side(other, metrics))

    def list(self, wanted: Wanted | None = None) -> list[Summary]:
        """Return summaries of the runs of this machine, the latest first: all of them, or those that
        are ``wanted``."""
        return [run for run in catalog.summaries() if wanted is None or wanted.fits(run)]

    def refresh(self, seconds: float = 2.0) -> Refreshed:
        """Have runs followed again that nobody follows, as after a reboot, and wait at most so long for
        news of them.

        Only runs of which all hosts answer are followed again: a follower gives up silent hosts.
        """
        from ..runner.unfollowed import refresh

        return refresh(seconds)
