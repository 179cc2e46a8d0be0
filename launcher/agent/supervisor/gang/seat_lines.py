"""The lines between hosts of which one leads, and another may lead later: each calls who leads now.

Every voter listens. It tells those that it is in touch with at which port, and these tell the others. A
host that leads nothing, and is in touch with nobody who does, calls the others in their order, first the
one that it knew to lead. Who is called lets in whom succession.py says.
"""

from __future__ import annotations

from ...host import free_ports
from .lines import JOINED, PARTED, Lines, _end, _is_nonce, _Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.messages import GangSpec, Message
    from .lines import News

#: The kinds of news of callers; those of the host that was called are JOINED and PARTED.
CAME, LEFT = "came", "left"
#: Seconds to connect to a host: one that is off takes as long, and others may be up.
CONNECTS = 3.0
#: Seconds between two calls of one round.
AT_ONCE = 0.05


class SeatLines(Lines):
    """The lines of one host of a run, or of one that only decides about its project. ``welcomes`` says
    whether a caller is let in, ``calls`` whether this host has to call. Raises OSError when it cannot
    listen."""

    def __init__(
        self,
        spec: GangSpec,
        here: str,
        now: float,
        ports: tuple[int, int] | None,
        welcomes: Callable[[str], bool],
        calls: Callable[[], bool],
    ) -> None:
        super().__init__(spec, here, now)
        self._welcomes, self._calls = welcomes, calls
        voters = list(spec.get("voters") or [])
        first = spec["hosts"][0]
        #: Where each host listens that may lead.
        self._seats: dict[str, int] = {first: spec["port"], **(spec.get("seats") or {})}
        self._own: dict[str, int] = {}
        if here in voters and not self._listener and ports:
            (held,) = free_ports.hold(ports, 1, 1)
            self._listen(held)
            self._own = {here: held.getsockname()[1]}
        elif here == first:
            self._own = {here: spec["port"]}
        self._seats.update(self._own)
        known = dict(spec.get("places") or {})
        known[first] = list(self._addresses)
        self._known = {host: known[host] for host in voters if known.get(host) and host != here}
        self._round: list[tuple[str, str]] = []
        self._last = first

    @property
    def seats(self) -> dict[str, int]:
        """Where hosts listen, as far as is known."""
        return dict(self._seats)

    def say(self, host: str, word: Message, now: float) -> None:
        """Say something to a host, or to the one that was called where there is no name."""
        for line in self._lines.values():
            if line.host and (line.host == host if host else not line.is_caller):
                line.say(word, now)

    def hang_up(self, host: str, is_caller: bool, now: float) -> list[News]:
        """End the line to the host that was called, or to a caller. Others are called before that host
        is again: it may never lead."""
        every = [one for one in self._lines.values() if one.host == host]
        lines = [one for one in every if one.is_caller is is_caller]
        found: list[News] = []
        for line in lines:
            line.flush()
            found += self._drop(line, now)
        if lines and not is_caller:
            self._round = [one for one in self._new_round() if one[0] != host]
        return found

    def learn(self, seats: dict[str, int], now: float) -> None:
        """Note where others listen, and tell that to callers."""
        new = {
            host: port
            for host, port in seats.items()
            if host in self._known and host not in self._own and 0 < port < 1 << 16
        }
        if any(self._seats.get(host) != port for host, port in new.items()):
            self._seats.update(new)
            for line in self._lines.values():
                if line.host and line.is_caller:
                    line.say({"seats": self.seats}, now)

    # -- lines

    @property
    def _is_to_dial(self) -> bool:
        return self._calls() and not any(not one.is_caller for one in self._lines.values())

    @property
    def _patience(self) -> float:
        return CONNECTS

    def _place(self) -> tuple[str, int]:
        if not self._round:
            self._round = self._new_round()
        host, address = self._round[0]
        return address, self._seats[host]

    def _new_round(self) -> list[tuple[str, str]]:
        """Return whom to call next, and where: each host at its first address, then at the others."""
        hosts = sorted(
            (host for host in self._known if host in self._seats), key=lambda one: one != self._last
        )
        most = max((len(self._known[host]) for host in hosts), default=0)
        found = [
            (host, self._known[host][n])
            for n in range(most)
            for host in hosts
            if n < len(self._known[host])
        ]
        return found or [(self._spec["hosts"][0], self._addresses[0])]

    def _try_another(self) -> None:
        self._round = self._round[1:]

    def _dial_later(self, now: float) -> None:
        if self._round:
            self._dial_at = now + AT_ONCE
        else:
            super()._dial_later(now)

    def _hello(self) -> Message:
        return {"seats": self._own}

    def _is_ours(self, host: str) -> bool:
        return host in self._spec["hosts"] and host != self._here

    def _welcome(self, line: _Line, word: Message, now: float) -> list[News] | None:
        host, number = str(word.get("host")), str(word.get("number"))
        if not self._is_ours(host) or not _is_nonce(number.encode("ascii", "replace")):
            return None
        seats = word.get("seats")
        own = seats.get(host) if isinstance(seats, dict) else None
        if isinstance(own, int):
            self.learn({host: own}, now)
        if not self._welcomes(host):
            line.session += number
            line.say({"elsewhere": 1, "seats": self.seats}, now)
            self._lines.pop(line.socket, None)
            _end(line.socket)
            return []
        news = super()._welcome(line, word, now)
        line.say({"seats": self.seats}, now)
        return [(CAME if kind == JOINED else kind, of, said) for kind, of, said in news or []]

    def _join(self, line: _Line, word: Message) -> list[News] | None:
        if "welcome" not in word:
            seats = word.get("seats")
            if isinstance(seats, dict) and all(isinstance(one, int) for one in seats.values()):
                self.learn(seats, 0.0)
            return None
        called = word.get("here")
        if called not in self._known:
            return None
        found = super()._join(line, word)
        line.host = self._last = str(called)
        self._round = []
        return [(kind, line.host, said) for kind, _, said in found or []]

    def _drop(self, line: _Line, now: float) -> list[News]:
        if not line.is_caller and line.host:
            self._round = []  # the one that leads may be back in a moment
        found = super()._drop(line, now)
        is_caller = line.is_caller
        return [(LEFT if is_caller and k == PARTED else k, of, said) for k, of, said in found]
