"""The connection to one host, and the agent at its other end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ...spec import errors
from ...spec.model import Facts, Host
from ...transport.agent_client import Agent
from ...transport.connection import Connection
from ...transport.ssh import Dialler

#: Seconds between two attempts to reach a host again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0


class HostConnection:
    """A connection that can be dialled again after a drop. ``listen`` gets every new agent before the
    first request to it."""

    def __init__(self, host: Host, dialler: Dialler, listen: Callable[[Agent], None]) -> None:
        self.host = host
        self.agent = Agent.absent(host)
        self.refusal: errors.HostError | None = None  # why the last attempt failed, if it got there
        self._dialler, self._listen = dialler, listen
        self._ssh: Connection | None = None
        self._facts: Facts | None = None

    @property
    def ssh(self) -> Connection:
        """The current SSH connection. Raises ConnectionLost when there never was one."""
        if self._ssh is None:
            raise errors.ConnectionLost(self.host.name, "it was not reached")
        return self._ssh

    @property
    def facts(self) -> Facts:
        """What probing the host measured, once it was reached."""
        assert self._facts is not None, "not reached yet"
        return self._facts

    async def dial(self) -> None:
        """Connect, and start the agent. Raises HostError."""
        self._ssh = ssh = await self._dialler.connect(self.host.name)
        try:
            self.agent = await Agent.open(self.host, ssh)
        except BaseException:
            ssh.close()
            raise
        self._listen(self.agent)

    async def probe(self, with_gpus: bool = True, needs: Sequence[str] = ()) -> Facts:
        """Measure the host's hardware and software. Raises HostError."""
        self._facts = await self.agent.probe(with_gpus, needs)
        return self._facts

    async def redial(
        self, greet: Callable[[], Awaitable[None]], deadline: float, first: float = 0.0
    ) -> bool:
        """Dial until ``greet`` succeeds; return False when it has not by ``deadline``.

        The deadline is on the monotonic clock. The first attempt may take ``first`` seconds, however
        near the deadline is.
        """
        pause = FIRST_PAUSE
        while time.monotonic() < deadline:
            try:
                if self._ssh:
                    self._ssh.abort()
                async with asyncio.timeout(max(first, deadline - time.monotonic())):
                    await self.dial()
                    if self._facts is None:
                        await self.probe()
                    await greet()
                return True
            except (TimeoutError, errors.HostError) as error:
                if isinstance(error, errors.HostError):  # nothing is learnt where time is up
                    self.refusal = None if isinstance(error, _AWAY) else error
                await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(LONGEST_PAUSE, pause * 2)
            first = 0.0
        return False

    async def close(self) -> None:
        """Hang up. What runs on the host continues."""
        await self.agent.close()
        if self._ssh:
            self._ssh.close()


#: Errors of a host that is not reached: that it is unreachable says it all.
_AWAY = (
    errors.Unreachable,
    errors.Refused,
    errors.NoBanner,
    errors.ConnectionLost,
)
