"""Runs of this machine that nobody follows, as after a reboot: ask their hosts, and follow them again.

Whoever follows a run gives up a host that stays silent, and ends the run with it. So a run is followed
again only once all its hosts have answered that they have it.

Hosts are asked by a process of its own: a name server or a host that hangs keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

from ..records import catalog
from ..records.run_lock import holder
from ..records.run_reader import RunReader
from ..records.state import ENDED
from ..records.stored import UNSTORED
from ..spec import startup
from ..spec.errors import InputError, LauncherError, UnreadableRecord
from ..spec.frozen import frozen
from ..spec.model import Inventory, Node
from ..spec.typed_json import from_json, to_json
from .concurrency import cancel

#: Seconds for hosts to answer. Who asks may wait for less: the process that asks goes on.
PATIENCE = 10.0
#: Followers that start at once.
AT_ONCE = 8
#: Seconds between two looks at whether a run has a receipt.
LOOK = 0.05


@frozen
class Answered:
    """What the hosts of a run say: ``silent`` are those that do not have it or do not answer, and why.
    Without any, ``alive`` tells whether a supervisor owns the run on each of them. ``again`` is the
    attempt with which it waits, having given its GPUs back; 0 for none."""

    run: str
    alive: bool = False
    silent: Mapping[str, str] = field(default_factory=dict)
    again: int = 0


@frozen
class Refreshed:
    """What became of runs that nobody followed: some are ``followed`` again, others had ``ended``.

    What is recorded of those that are ``unknown`` may be old: by run, the hosts that do not answer, and
    why; none where there was no time to learn more.
    """

    followed: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    unknown: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def unfollowed() -> list[RunReader]:
    """Return the runs of this machine that go on without a follower, the oldest first.

    Not those whose ranks never started and that no host starts: a follower would end them. Not those of
    other machines, which are followed there.
    """
    return [RunReader(path) for path in catalog.folders() if _is_left(path)]


def _is_left(path: Path) -> bool:
    if (path / "receipt.json").exists() or not (path / "run.json").exists():
        return False
    try:
        reader = RunReader(path)
        if holder(path) is not None or reader.adoption is not None or not reader.layout.nodes:
            return False
        state = reader.state()
    except (InputError, UnreadableRecord, OSError):
        return False
    return state.status not in ENDED and bool(
        state.attempt > 0 or state.all_started or state.waits_on
    )


def unstored() -> list[RunReader]:
    """Return the runs of this machine that have ended, and whose store has not all of their outputs."""
    return [
        RunReader(path)
        for path in catalog.folders()
        if (path / UNSTORED).exists() and (path / "receipt.json").exists()
    ]


# -- asking hosts


async def ask(runs: Sequence[RunReader], seconds: float = PATIENCE) -> AsyncIterator[Answered]:
    """Ask all hosts of these runs at once; yield what they say of each run as soon as that is known.

    A host is asked once, and no longer than ``seconds``.
    """
    said: asyncio.Queue[_Said | None] = asyncio.Queue()
    asking = asyncio.ensure_future(_ask_groups(runs, said.put_nowait, seconds))
    asking.add_done_callback(lambda _: said.put_nowait(None))
    answers = {run.name: _Answers(run) for run in runs}
    try:
        while one := await said.get():
            for answer in answers.values():
                if answer.takes(one):
                    yield answer.conclusion()
        for answer in answers.values():
            if answer.waiting:
                answer.give_up(f"no answer within {seconds:g} s")
                yield answer.conclusion()
    finally:
        await cancel(asking)


@frozen
class _Said:
    """What a host says to runs of an inventory: whether a supervisor owns each run that it has, and with
    which attempt it waits again; or why it says nothing."""

    inventory: Inventory
    host: str
    alive: Mapping[str, bool] = field(default_factory=dict)
    problem: str = ""
    again: Mapping[str, int] = field(default_factory=dict)


class _Answers:
    """The answers of the hosts of one run, until there is one of each."""

    def __init__(self, run: RunReader) -> None:
        self._run, self._inventory = run.name, run.request.inventory
        self.waiting = {node.host.name for node in run.layout.nodes}
        self._silent: dict[str, str] = {}
        self._alive, self._again = True, 0

    def takes(self, said: _Said) -> bool:
        """Take what a host says; return whether it was the last answer that was missing."""
        if said.host not in self.waiting or said.inventory != self._inventory:
            return False
        self.waiting.remove(said.host)
        if said.problem or self._run not in said.alive:
            self._silent[said.host] = said.problem or "it has no such run"
        else:
            self._alive = self._alive and said.alive[self._run]
            self._again = max(self._again, said.again.get(self._run, 0))
        return not self.waiting

    def give_up(self, why: str) -> None:
        """Count hosts that have not answered as silent."""
        self._silent.update(dict.fromkeys(self.waiting, why))
        self.waiting.clear()

    def conclusion(self) -> Answered:
        """Return what all hosts say together."""
        alive = self._alive and not self._silent
        return Answered(self._run, alive, self._silent, self._again)


async def _ask_groups(
    runs: Sequence[RunReader], tell: Callable[[_Said], None], seconds: float
) -> None:
    """Ask the hosts of each inventory."""
    groups: list[tuple[Inventory, dict[str, Node]]] = []
    for run in runs:
        inventory = run.request.inventory
        nodes = next((nodes for known, nodes in groups if known == inventory), None)
        if nodes is None:
            groups.append((inventory, nodes := {}))
        for node in run.layout.nodes:
            nodes[node.host.name] = node
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(_ask_hosts(*group, tell) for group in groups))


async def _ask_hosts(
    inventory: Inventory, nodes: Mapping[str, Node], tell: Callable[[_Said], None]
) -> None:
    from ..fleet.fanout import Visited, visit_hosts  # asyncssh takes a third of a second to import
    from ..transport.answers.runs import Runs

    async def one(visited: Visited) -> None:
        agent = await visited.agent()
        try:
            answer = await agent.answer(Runs, "runs")
        finally:
            await agent.close()
        alive = {run.run: run.alive for run in answer.runs}
        again = {run.run: run.again for run in answer.runs}
        tell(_Said(inventory, visited.host, alive, again=again))

    for host, error in (await visit_hosts(inventory, "", list(nodes.values()), one)).items():
        if error is not None:
            tell(_Said(inventory, host, problem=error.message))


# -- following again


def refresh(seconds: float) -> Refreshed:
    """Have runs followed again whose hosts all answer, and wait at most ``seconds`` for news of them.

    Hosts that need longer are waited for in the background. Never raises.
    """
    deadline = time.monotonic() + seconds
    runs = {run.name: run for run in unfollowed()}
    if not runs:
        if unstored():
            list(_answers(deadline, 0))
        return Refreshed()
    answers = {answer.run: answer for answer in _answers(deadline, len(runs))}
    again = {name: runs[name] for name, one in answers.items() if not one.silent}
    while not all(_is_recorded(answers[name], run) for name, run in again.items()):
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK)
    ended = tuple(name for name, run in again.items() if _has_ended(run))
    followed = tuple(name for name in again if name not in ended)
    sure = {*ended, *(name for name in followed if _is_recorded(answers[name], runs[name]))}
    unknown = {n: answers[n].silent if n in answers else {} for n in runs if n not in sure}
    return Refreshed(followed, ended, unknown)


def _is_recorded(answer: Answered, run: RunReader) -> bool:
    """Return whether the record here says what the hosts do: that the run has ended, if no supervisor
    owns it somewhere, or that it waits again."""
    goes_on = answer.alive or answer.again
    return _has_ended(run) or (bool(goes_on) and run.state().returned >= answer.again)


def _has_ended(run: RunReader) -> bool:
    return (run.path / "receipt.json").exists()


def _answers(deadline: float, count: int) -> Iterator[Answered]:
    """Start the process that asks; yield its answers until the deadline.

    With ``-P`` a module in the folder in which somebody types ``ls`` is not taken for one of Python's.
    """
    package_root = str(Path(__file__).parent.parent.parent)
    python_path = filter(None, (package_root, os.environ.get("PYTHONPATH")))
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path)},
        )
    except OSError:
        return
    assert child.stdout is not None
    with child.stdout as pipe:
        lines = _lines(pipe.fileno(), deadline)
        for _, line in zip(range(count), lines, strict=False):  # it reads no further
            with suppress(ValueError):
                yield from_json(Answered, json.loads(line))
    child.wait()  # it has left its work to a child


def _lines(pipe: int, deadline: float) -> Iterator[bytes]:
    """Yield lines as they come, until the deadline or the end."""
    data = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        more = os.read(pipe, 1 << 16)
        if not more:
            return
        *whole, data = (data + more).split(b"\n")
        yield from whole


async def follow_again(tell: Callable[[Answered], None], seconds: float = PATIENCE) -> None:
    """Ask hosts, start a follower for each run whose hosts all answer, and tell what they say."""
    from . import follower
    from .attach import startable

    runs = {run.name: run for run in unfollowed()}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(answer: Answered) -> None:
        run = runs[answer.run]
        try:
            async with gate:
                await follower.resume(startable(run), run.path)
        except LauncherError as error:
            answer = replace(answer, silent={"": error.message})
        tell(answer)

    async with asyncio.TaskGroup() as starting:
        async for answer in ask(list(runs.values()), seconds):
            if answer.silent:
                tell(answer)
            else:
                starting.create_task(one(answer))
        for run in unstored():
            starting.create_task(store(run))


async def store(run: RunReader) -> bool:
    """Write to the store of a run that has ended what is not there yet; return whether it has all."""
    from ..fleet.sandbox import sandbox_of
    from .attach import startable
    from .files.stored_again import store_rest

    with suppress(LauncherError, OSError):
        request = startable(run)
        with sandbox_of(request.inventory):
            stored = await store_rest(request, run.layout, run.path)
        return stored is None or stored.whole
    return False


def main() -> None:
    """Follow runs again, and print what their hosts say, for the process that has started this one."""
    if os.fork():
        os._exit(0)  # so that nobody has to wait for us
    startup.quicken()

    def tell(answer: Answered) -> None:
        line = json.dumps(to_json(answer)).encode() + b"\n"
        with suppress(OSError):  # nobody waits any more
            os.write(1, line)

    asyncio.run(follow_again(tell))


if __name__ == "__main__":
    main()
