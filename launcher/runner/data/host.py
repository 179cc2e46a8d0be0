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
    """A data set as a job names it, and its version."""

    data: DataSet
    listed: Listed
