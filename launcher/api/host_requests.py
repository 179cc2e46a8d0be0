"""What a client asks of the hosts of its inventory, whatever runs there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..fleet.sandbox import sandbox_of
from ..spec import given
from ..spec.errors import HostError
from ..spec.files import require_path
from ..spec.inventory import select
from ..spec.model import Facts, Inventory
from .recorded_runs import RecordedRuns

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..fleet.kept_pythons import Kept
    from ..runner.cluster import Cluster, ClusterWatch
    from ..runner.listeners import OnEvent
    from ..runner.project_list import ProjectShare
    from ..runner.push import Pushed
    from ..runner.queue import Queue
    from ..runner.remote_commands import ExecResult, OnOutput
    from ..runner.remote_runs import HostRuns

    #: Returns the passphrase of a key file, by its name.
    AskPassphrase = Callable[[str], Awaitable[str | None]]


class HostRequests(RecordedRuns):
    """Requests to hosts of the inventory, each to all of them at once."""

    _ask_passphrase: AskPassphrase | None

    async def host_runs(self) -> dict[str, HostRuns | HostError]:
        """Ask the hosts of the inventory for runs of all users; return the answer or error of each.

        Raises InputError.
        """
        from ..runner.remote_runs import ask_hosts

        async with self.hosts_up(self.inventory):
            return await ask_hosts(self.inventory, self._ask_passphrase)

    async def exec(
        self, argv: Sequence[str], hosts: str | None = None, *, on_output: OnOutput | None = None
    ) -> Sequence[ExecResult]:
        """Run a command on hosts of the inventory at once, in a login's home and environment there.

        ``hosts`` are names, node sets, groups or labels; None takes all. Results and ``on_output`` are
        those of ``AsyncRunHandle.exec``. Raises InputError.
        """
        from ..runner.remote_commands import execute_anywhere

        words = given.words("argv", argv)
        chosen, ask = select(self.inventory, hosts), self._ask_passphrase
        async with self.hosts_up(self.inventory):
            return await execute_anywhere(self.inventory, chosen, words, on_output, ask)

    async def push(
        self,
        folder: Path | str,
        hosts: str | None = None,
        *,
        to: str | None = None,
        exclude: Sequence[str] = (),
        max_rate: int = 0,
        on_event: OnEvent | None = None,
    ) -> dict[str, Pushed | HostError]:
        """Copy what is in a folder here to hosts of the inventory at once; only changes travel.

        ``hosts`` are names, node sets, groups or labels; None takes all. ``to`` is the folder there: a
        whole path, or one below the home as ``~/data``; None takes the folder's name in the home.
        ``exclude`` are patterns of rsync. All together keep to ``max_rate`` bytes a second (0: no
        limit). ``on_event`` gets SyncProgressed. Return the result or the
        error of each host. Raises InputError.
        """
        from ..runner import push
        from ..runner.concurrency import limited
        from ..runner.listeners import ignore_event

        require_path(folder, "folder")
        exclude = given.value("exclude", Sequence[str], exclude)
        source = Path(folder)
        place, chosen = push.place_on_hosts(source, to), select(self.inventory, hosts)
        async with self.hosts_up(self.inventory):
            with limited(max_rate):
                return await push.push(
                    source,
                    self.inventory,
                    chosen,
                    place,
                    exclude,
                    on_event or ignore_event,
                    self._ask_passphrase,
                )

    async def host_gpus(self) -> dict[str, Facts | HostError]:
        """Ask the hosts of the inventory about their GPUs; return the facts or error of each.

        Raises InputError.
        """
        from ..fleet.host_gpus import ask_gpus

        async with self.hosts_up(self.inventory):
            return await ask_gpus(self.inventory, self._ask_passphrase)

    async def kept_pythons(self, end: bool = False) -> dict[str, Kept | HostError]:
        """Ask the hosts of the inventory which Pythons they keep for the next run (``keep_warm``); with
        ``end``, have them end all of yours. Return the answer or error of each. Raises InputError."""
        from ..fleet.kept_pythons import ask_kept

        async with self.hosts_up(self.inventory):
            return await ask_kept(self.inventory, end, self._ask_passphrase)

    async def projects(self) -> tuple[tuple[ProjectShare, ...], tuple[str, ...]]:
        """Return what each project of the inventory has, and which hosts could not be asked."""
        from ..runner import project_list

        return await project_list.ask(self.inventory, self._ask_passphrase)

    async def queue(self) -> tuple[Queue, dict[str, HostError]]:
        """Ask the hosts of the inventory who holds their GPUs, who waits for them, and what for. Return
        that, and the errors of hosts that could not be asked. Raises InputError."""
        from ..runner import queue

        async with self.hosts_up(self.inventory):
            answers = await queue.ask(self.inventory, self._ask_passphrase)
        known = [one for one in answers.values() if not isinstance(one, HostError)]
        failed = {name: one for name, one in answers.items() if isinstance(one, HostError)}
        return queue.queue_of(known, time.time()), failed

    async def cluster(self, seconds: float = 15.0) -> Cluster:
        """Return what the GPUs of the inventory's hosts do now, who holds them, and who waits.

        A host that has not answered after so many ``seconds`` says so in its place. Raises InputError.
        """
        async with self._watching(2.0) as watch:
            await watch.settled(seconds)
            return watch.now()

    async def watch_cluster(
        self, every: float = 2.0, seconds: float = 1.0
    ) -> AsyncGenerator[Cluster, None]:
        """Yield the same again and again, after ``every`` so many seconds. All hosts stay connected.

        The first one comes when all hosts have answered, or after so many ``seconds``. Close the
        iterator (``contextlib.aclosing``) to let the hosts go. Raises InputError.
        """
        async with self._watching(every) as watch:
            await watch.settled(seconds)
            while True:
                yield watch.now()
                await asyncio.sleep(every)

    @asynccontextmanager
    async def _watching(self, every: float) -> AsyncIterator[ClusterWatch]:
        from ..runner.cluster import ClusterWatch

        async with (
            self.hosts_up(self.inventory),
            ClusterWatch(self.inventory, every, self._ask_passphrase) as watch,
        ):
            yield watch

    @asynccontextmanager
    async def hosts_up(self, inventory: Inventory) -> AsyncIterator[None]:
        """Keep the embedded hosts up, if the inventory uses them."""
        if not inventory.sandbox:
            yield
            return
        from ..runner.concurrency import in_thread

        sandbox = sandbox_of(inventory)
        await in_thread(sandbox.__enter__)
        try:
            yield
        finally:
            await in_thread(sandbox.__exit__, None, None, None)
