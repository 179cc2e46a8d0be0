"""The hosts of a run: those that take part, and those that stand aside."""

from __future__ import annotations

import asyncio

from ..records import events as ev
from ..records.state import log_hosts
from ..spec.model import Host, Layout
from ..transport.ssh import Dialler
from ..transport.ssh_lookup import SshLookup
from .context import RunContext
from .host_session import HostSession
from .listeners import OnLog


class HostSet:
    """The sessions of one run, which nobody else adds or removes.

    ``active`` are the hosts of the layout, in the order of its nodes; before there is a layout, those
    that were opened. ``aside`` are all others: hosts that are being opened, spares that were tried,
    and hosts that have left the run.
    """

    def __init__(self, context: RunContext, on_log: OnLog, lookup: SshLookup | None = None) -> None:
        self._context, self._on_log = context, on_log
        request = context.request
        self._dialler = Dialler(request.inventory, request.ask_passphrase, lookup)
        self._layout = Layout(context.name, ())
        self._active: tuple[HostSession, ...] = ()
        self._aside: tuple[HostSession, ...] = ()

    @property
    def layout(self) -> Layout:
        """Which host runs what; without nodes until that is decided."""
        return self._layout

    @property
    def active(self) -> tuple[HostSession, ...]:
        """The hosts that take part."""
        return self._active

    @property
    def aside(self) -> tuple[HostSession, ...]:
        """The hosts that do not take part, or no longer do."""
        return self._aside

    @property
    def touched(self) -> tuple[HostSession, ...]:
        """The hosts that take part, and all others where something was started: the receipt lists
        them, and the end of the run stops them."""
        return (*self._active, *(session for session in self._aside if session.is_supervised))

    def find(self, name: str) -> HostSession | None:
        """Return the session with a host, one that takes part first; None for an unknown name."""
        known = (*self._active, *self._aside)
        return next((session for session in known if session.name == name), None)

    def new(self, host: Host) -> HostSession:
        """Return a session with a host, in neither group and not opened yet."""
        return HostSession(host, self._dialler, self._context, self._on_log)

    def join(self, session: HostSession) -> None:
        """Let a host take part, before there is a layout."""
        self._aside = tuple(other for other in self._aside if other is not session)
        self._active = (*self._active, session)

    def put_aside(self, session: HostSession) -> None:
        """Keep a host at hand that does not take part."""
        self._aside = (*self._aside, session)

    async def dismiss(self, session: HostSession) -> None:
        """Close and forget a host that stands aside, or that takes part before there is a layout."""
        self._aside = tuple(other for other in self._aside if other is not session)
        self._active = tuple(other for other in self._active if other is not session)
        await session.close()

    def settle(self, layout: Layout) -> None:
        """Take a layout: its hosts take part, and all others stand aside."""
        known = {session.name: session for session in (*self._aside, *self._active)}
        chosen = [node.host.name for node in layout.nodes]
        self._layout = layout
        self._active = tuple(known.pop(name) for name in chosen)
        self._aside = tuple(known.values())

    def rejoin(self, layout: Layout) -> None:
        """Reconnect to the hosts of a run that another launcher started: those that take part, those
        that have left it, and spares still being prepared."""
        self._layout = layout
        for node in layout.nodes:
            self.join(self._rejoined(node.host))
        for name, departure in self._context.state.departed.items():
            session = self.new(self._context.request.inventory.host(name))
            session.part(departure.reason, self._logs_of(name))
            self.put_aside(session)
        for name in self._spares_in_preparation():
            self.put_aside(self._rejoined(self._context.request.inventory.host(name)))

    def _rejoined(self, host: Host) -> HostSession:
        session = self.new(host)
        session.rejoin(self._logs_of(host.name), self._layout)
        return session

    def _logs_of(self, host: str) -> list[str]:
        hosts = log_hosts(self._context.events)
        names = self._context.folder.log_names()
        return [name for name in names if hosts.get(name.partition(".")[0]) == host]

    def _spares_in_preparation(self) -> list[str]:
        """Return hosts that have the code but no place in the layout: a supervisor may run there."""
        inside = {node.host.name for node in self._layout.nodes} | {*self._context.state.departed}
        synced: list[str] = []
        for event in self._context.events:
            if isinstance(event, ev.HostsLetGo):
                synced = [name for name in synced if name not in event.hosts]
            elif isinstance(event, ev.CodeSynced):
                synced.append(event.host)
        return [name for name in dict.fromkeys(synced) if name not in inside]

    async def close(self) -> None:
        """Close all connections. What runs on the hosts continues."""
        await asyncio.gather(*(session.close() for session in (*self._active, *self._aside)))
        await self._dialler.close()
