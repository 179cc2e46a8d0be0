"""This host's part in a copy of a data set from host to host, as the launcher asks for it."""

from __future__ import annotations

import os

from ...base.blocks import Damaged
from ...base.protocol import BAD_REQUEST, Refused
from ...host import free_ports
from ...host.probe import addresses
from ...mesh.passing import Passing
from . import sums
from .examine import NAMED
from .proving import Proving

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.messages import Message
    from .blocks import Copy
    from .pull import Pull
    from .store import DataStore


class DataPassing:
    """Answers "data" requests that are ``pass``; there is one copy in a process."""

    def __init__(self, store: DataStore, going_on: Callable[[], object]) -> None:
        self._store, self._going_on = store, going_on
        self._version = ""
        self._copy: Copy | None = None
        self._passing: Passing | None = None
        self._pull: Pull | None = None
        self._proving: Proving | None = None  # of a copy that is not whole
        self._is_keyed = False  # the tags of the store are no sums

    def answer(self, request: Message) -> Message:
        """Do one of the things below. Raises Refused, OSError."""
        do = getattr(self, "part_%s" % request["part"], None)
        if do is None or (self._copy is None and request["part"] not in ("open", "times")):
            raise Refused(BAD_REQUEST, "no such part of a copy: %.80r" % (request["part"],))
        answer: Message = do(request)
        return answer

    def part_times(self, request: Message) -> Message:
        """Keep the times that files have at their source."""
        self._store.note_times(request["version"], request["payload"])
        return {}

    def part_open(self, request: Message) -> Message:
        """Listen for the other hosts; return where, and what is here."""
        self._version = request["version"]
        folder = request["at"]
        self._copy = (
            self._store.lent(self._version, folder) if folder else self._store.blocks(self._version)
        )
        if not folder and not self._copy.is_whole:
            self._proving = Proving(self._copy, self._copy.place)
            self._is_keyed = sums.is_keyed(self._copy.place)
        listener = free_ports.hold(request["ports"], 1, 1)[0]
        port = listener.getsockname()[1]
        self._passing = Passing(self._copy, request["spec"], listener.detach())
        found: Message = self.part_passed(request)
        found.update(port=port, addresses=[ip for _, ip in addresses()], count=self._copy.count)
        return found

    def part_join(self, request: Message) -> Message:
        """Take blocks from other hosts."""
        assert self._passing
        self._passing.join(
            {
                host: [(one, port) for one, port in places]
                for host, places in request["peers"].items()
            }
        )
        return {}

    def part_block(self, request: Message) -> Message:
        """Take a block from the launcher."""
        copy, passing = self._copy, self._passing
        assert copy is not None
        assert passing is not None
        data, number = request["payload"], request["number"]
        if not 0 <= number < copy.count or len(data) != copy.length_of(number):
            raise Refused(BAD_REQUEST, "not a block of this data set")
        try:
            copy.write(number, data, bytes.fromhex(request["sum"]))
        except Damaged:
            raise Refused("damaged", "a block arrived with another sum")
        passing.arrived()
        return {}

    def part_pull(self, request: Message) -> Message:
        """Read blocks from a store, by URLs for each of their pieces."""
        copy, passing = self._copy, self._passing
        assert copy is not None
        assert passing is not None
        if self._pull is None:
            from .pull import Pull

            self._pull = Pull(copy, passing.arrived)
        for number, urls in request["blocks"]:
            about = (request["follow"], request["headers"], request["readers"])
            self._pull.want(number, urls, *about)
        return {}

    def part_passed(self, request: Message) -> Message:
        """Return which blocks are here, and how they came. Raises OSError if this host cannot go on."""
        copy, passing = self._copy, self._passing
        assert copy is not None
        assert passing is not None
        pull = self._pull
        for trouble in (passing.trouble, pull.trouble if pull else None):
            if trouble is not None:
                raise trouble
        is_keyed = pull.is_any_keyed if pull else False
        if (is_keyed or request.get("keyed")) and not self._is_keyed and not copy.is_whole:
            sums.note_keyed(copy.place)
            self._is_keyed = True
        have = copy.have.to_bytes(-(-copy.count // 8), "little").hex()
        return {
            "have": have,
            "heard": passing.heard,
            "took": passing.took,
            "read": pull.bytes if pull else 0,
            "reached": sorted(passing.reached),
            "keyed": is_keyed or self._is_keyed,
            "failed": pull.taken_failures()[: NAMED * 8] if pull else [],
        }

    def part_seal(self, request: Message) -> Message:
        """Check all of it, and let runs use it; what differs is removed, and counts as missing."""
        copy, passing = self._copy, self._passing
        assert copy is not None
        assert passing is not None
        taken = self._proving.sums(self._going_on) if self._proving else {}
        self._proving = None
        incoming = self._store.complete(self._version, copy.files)
        bad: list[list[str]] = []
        if sums.is_of_store(incoming):
            if request["keyed"]:
                sums.note_keyed(incoming)
            keyed = sums.is_keyed(incoming)
            bad, summed = sums.prove(incoming, keyed, self._going_on, taken)
        else:
            summed = sums.right(incoming, taken)
        if bad:
            answer: Message = {"bad": bad[:NAMED], "count": len(bad)}
        else:
            answer = self._store.seal(self._version, summed)
        if answer["count"] and os.path.isdir(incoming):
            again = self._store.blocks(self._version)
            copy.replace(again)
            self._proving = Proving(copy, incoming)
        return answer

    def end(self) -> None:
        """Give and take nothing more."""
        for one in (self._passing, self._pull, self._proving):
            if one:
                one.end()
