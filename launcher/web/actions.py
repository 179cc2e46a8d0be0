"""What pages may have done: stop, delete or repeat runs, reserve GPUs, change quotas. The same calls as
the commands make."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..api import hosts, jobs, reservations, settings
from ..api.arguments import RerunOptions
from ..api.client import AsyncClient
from ..spec.errors import InputError, LauncherError
from ..spec.frozen import frozen

if TYPE_CHECKING:
    from ..api.handles import AsyncRunHandle

#: Seconds in which most of what goes wrong with a stop has done so.
PATIENCE = 1.0


@frozen
class Deleted:
    """Whether a run was deleted; ``left`` are files that hosts alone have, if it was not because of
    them."""

    deleted: bool
    left: tuple[Mapping[str, Any], ...] = ()


class Actions:
    """Changes runs for pages. A stop that no other process carries out goes on here."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._stopping: dict[str, tuple[AsyncRunHandle, asyncio.Task[Any]]] = {}

    async def stop(self, name: str, grace: float | None) -> None:
        """Ask to stop a run, and return at once; asked again, kill it. Raises LauncherError."""
        handle = self._client.attach_here(name)
        if handle.receipt is not None:
            raise InputError(f"{name} has ended", "there is nothing to stop")
        stopping, task = self._stopping.get(name, (None, None))
        if stopping is not None and task is not None and not task.done():
            stopping.request_stop(grace)
            return
        task = asyncio.create_task(handle.stop(grace))
        self._stopping = {run: one for run, one in self._stopping.items() if not one[1].done()}
        self._stopping[name] = handle, task
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if done:
            task.result()

    async def delete(self, name: str, force: bool, lose: bool) -> Deleted:
        """Delete a run that has ended, here and on its hosts; one with files that hosts alone have only
        if its user agrees to ``lose`` them. Raises LauncherError."""
        if not lose and (left := await self._left(name)):
            return Deleted(False, left)
        await self._client.rm(name, force)
        return Deleted(True)

    async def _left(self, name: str) -> tuple[Mapping[str, Any], ...]:
        try:
            handle = self._client.attach_here(name)
            left = () if handle.followed else await handle.not_brought()
        except LauncherError:  # a damaged run, which rm reports itself
            return ()
        return tuple(
            {"host": one.host, "path": one.path, "files": one.files, "bytes": one.bytes}
            for one in left
        )

    async def rerun(self, name: str, **changes: Any) -> str:
        """Run a run again in the background, and return the name of the new one.

        Raises LauncherError.
        """
        options: RerunOptions = {}
        options.update(changes)  # type: ignore[typeddict-item]
        return (await self._client.rerun(name, detach=True, **options)).name

    async def reserve(self, gpus: str, length: str, hosts: str, at: str, note: str) -> str:
        """Hold GPUs for work by hand, as ``launcher reserve`` does, and return the name of the run. It
        waits its turn. Raises LauncherError."""
        project = settings.project_of_runs(await asyncio.to_thread(settings.found))
        given = jobs.run_options({"project": project} if project else {})
        given |= {"wait": None, "note": note}
        run = await self._client.reserve(
            gpus,
            _read("for", jobs.seconds, length),
            hosts or None,
            at=_read("at", lambda text: reservations.moment(text, time.time()), at) if at else None,
            **given,
        )
        return run.name

    async def share(self, project: str, quota: int, limit: int | None, seen: str) -> dict[str, Any]:
        """Give a project another quota and limit in the inventory, once a page has ``seen`` the diff.

        Return the diff, a sum of the file before and after, which ``seen`` has to be, and whether it is
        written. Raises InputError.
        """
        change = await asyncio.to_thread(
            hosts.share_changed, self._client.inventory.source, project, quota, limit
        )
        version = hashlib.sha256(f"{change.before}\0{change.after}".encode()).hexdigest()
        if seen and seen != version:
            raise InputError(f"this is not the change of {change.path} that was seen", "look again")
        if seen:
            await asyncio.to_thread(change.write)
            self._client.reload()
        return {"diff": change.diff, "seen": version, "written": bool(seen)}


def _read(field: str, read: Callable[[str], float], text: str) -> float:
    try:
        return read(text)
    except ValueError as error:
        raise InputError(f"{field}: {error}") from None
