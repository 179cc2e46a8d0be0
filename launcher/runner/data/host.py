"""What a delivery is about: a host that is connected, and a version of a data set."""

from __future__ import annotations

from collections.abc import Callable

from ...spec.data import DataSet
from ...spec.frozen import frozen
from ..reached import Host as Host
from .listing import Listed

OnPercent = Callable[[int], None]


@frozen
class Delivered:
    """A data set as a job names it, and its version; whether it is for other users, too, of a host that
    has a folder for that."""

    data: DataSet
    listed: Listed
    is_for_others: bool = True

    def folder(self, host: Host) -> str:
        """Return where a host's users share it; "" where they do not."""
        return (host.agent.host.data_folder or "") if self.is_for_others else ""
