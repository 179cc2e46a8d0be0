"""What belongs to one host in a run: the processes whose events and logs it may send."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from ...records import events as ev
from ...spec.model import Job, Layout
from ...spec.process_key import ProcessKey, ProcessKind
from ...transport.agent_client import LIVE, METRICS, is_live
from ...transport.answers.outputs import is_inside

#: How many attempts of other layouts a host may tell of, in processes of a layout of now.
UNPLACED = 16

#: Bytes of a path that a host may write.
LONGEST = 4096

_LOG = re.compile(r"attempt-(\d{1,6})/([\w-]{1,80}-\d{1,9})\.(?:out|err)\Z", re.A)


class Belongings:
    """Filled with the layout of each attempt, before anything of it is started on ``host``.

    The ranks of an elastic job move between hosts within an attempt, so they belong to all of them.
    """

    def __init__(self, host: str, job: Job, may_return: bool = False) -> None:
        """``may_return``: hosts may give GPUs back, and wait again by themselves."""
        self._host, self._is_elastic = host, job.elastic is not None
        self._may_return = may_return
        self._primaries = {role.name for role in job.roles if role.primary}
        self._layouts: dict[int, Layout] = {}
        self._last = -1  # the latest attempt that may have begun
        self._known: Mapping[str, str] = {}  # hosts of logs of attempts before ours
        self._unplaced: set[tuple[int, str]] = set()  # processes of attempts without a layout
        self._unplaced_left = 0

    def place(self, attempt: int, layout: Layout, known: Mapping[str, str]) -> None:
        """Note what an attempt starts; ``known`` are the hosts of the logs of earlier ones, by their
        names without the stream."""
        self._layouts[attempt] = layout
        self._last = max(self._last, attempt)
        self._note(layout, known)

    def rejoin(self, layout: Layout, attempt: int, last: int, known: Mapping[str, str]) -> None:
        """Note the ``attempt`` of another launcher, which may have set a spare up for ``last``."""
        self._layouts[attempt] = layout
        self._last = last if self._is_spare(layout) else attempt
        self._note(layout, known)

    def _note(self, layout: Layout, known: Mapping[str, str]) -> None:
        most = UNPLACED * (layout.world_size + layout.num_nodes + 1)
        self._known, self._unplaced_left = known, max(self._unplaced_left, most)

    def wrong_log(self, name: str) -> str:
        """Return why a log is none of this host's; empty where it is one, its metrics, or an output."""
        if name == METRICS or _is_output(name):
            return ""
        match = _LOG.match(name)
        if match is None:
            return f"a log with an impossible name: {name[:80]!r}"
        return self._wrong(int(match[1]), match[2])

    def wrong_event(self, event: ev.Event) -> str:
        """Return why an event cannot be one of this host's; empty where it can."""
        attempt = getattr(event, "attempt", None)
        if isinstance(event, ev.WaitsAgain):
            return self._wrong_return(event)
        if isinstance(event, ev.ProcessStarted | ev.ProcessExited):
            wrong = self._wrong(event.attempt, event.key) or self._wrong_rank(event)
            return wrong or self._wrong_primary(event)
        if attempt is not None and attempt > self._last:
            return f"an event of attempt {attempt}, which has not begun"
        if isinstance(event, ev.WaitsOnHost | ev.WaitsOnHosts | ev.BegunThere):
            return self._wrong_wait(event)
        if isinstance(event, ev.StopRequested) and event.origin:
            known = {n.host.name for layout in self._layouts.values() for n in layout.nodes}
            return "" if event.origin in known else "a stop that arose on a host of no attempt"
        if isinstance(event, ev.StallBegan):
            at = self._last if attempt is None else attempt
            keys = (str(rank["key"]) for rank in event.ranks)
            return next(filter(None, (self._wrong(at, key) for key in keys)), "")
        return ""

    def _wrong_return(self, event: ev.WaitsAgain) -> str:
        """Note the layout of an attempt that the host waits with, if it may: that of the last one."""
        layout = self._layouts.get(self._last)
        hosts = {node.host.name for node in layout.nodes} if layout else set()
        mine = self._host in hosts and len(event.hosts) == len({*event.hosts})
        is_same = {*event.hosts} == hosts or bool(
            layout and _fits(len(event.hosts), layout) and {*event.hosts} < hosts
        )
        if not (self._may_return and layout and mine and is_same):
            return "a return to the queue that is not this run's"
        if event.attempt == self._last + 1:
            self._layouts[event.attempt] = layout.of(event.hosts) if layout.wanted else layout
            self._last = event.attempt
        return (
            "" if event.attempt == self._last else "a return with an attempt that does not follow"
        )

    def _wrong_wait(self, event: ev.WaitsOnHost | ev.WaitsOnHosts | ev.BegunThere) -> str:
        if isinstance(event, ev.WaitsOnHost):
            return "" if self._is_alone() else "a start of its own, of a run that has other hosts"
        if isinstance(event, ev.BegunThere):
            layout = self._layouts.get(event.attempt)
            if layout is None or self._is_spare(layout):
                return "a start of no attempt of its own"
            return "" if self._may_begin(event.hosts, layout) else "a start on hosts of others"
        leads = event.hosts[:1] == (self._host,) != event.hosts and any(
            _may_wait(event.hosts, layout) for layout in self._layouts.values()
        )
        return "" if leads else "a start with hosts that it does not lead"

    def _may_begin(self, hosts: tuple[str, ...], layout: Layout) -> bool:
        """Return whether the host may say that the run has begun on these: it is one of them, or may
        have chosen them."""
        known = [node.host.name for node in layout.nodes]
        mine = not hosts or self._host in (known if layout.wanted else (*hosts, known[0]))
        fits = not hosts or _fits(len(hosts), layout)
        return mine and fits and len({*hosts} & {*known}) == len(hosts)

    def _wrong(self, attempt: int, key: str) -> str:
        if attempt > self._last:
            return f"{key[:80]} of attempt {attempt}, which has not begun"
        try:
            process = ProcessKey.parse(key)
        except ValueError:
            return f"no process: {key[:80]!r}"
        layout = self._layouts.get(attempt)
        owner: str | None
        if process.kind is ProcessKind.SETUP and f"attempt-{attempt}/{key}" in self._known:
            owner = self._known[f"attempt-{attempt}/{key}"]  # its place may have been another
        elif layout is None:
            owner = self._known.get(f"attempt-{attempt}/{key}") or self._unplaced_owner(
                attempt, key
            )
        elif process.kind is ProcessKind.RANK and (self._is_elastic or layout.wanted):
            owner = self._host if process.index < layout.largest.world_size else None
        elif process.kind is ProcessKind.NODE and layout.wanted:  # any of them may be chosen
            owner = self._host if process.index < layout.largest.num_nodes else None
        else:
            own = self._sets_up(layout, process) or self._has_rank(layout, process)
            owner = self._host if own else layout.host_of(key)
        return "" if owner == self._host else f"{key} of attempt {attempt}, which is not there"

    def _unplaced_owner(self, attempt: int, key: str) -> str | None:
        """Return the host, for as many processes of attempts of other layouts as there may have been."""
        if (attempt, key) not in self._unplaced:
            if len(self._unplaced) >= self._unplaced_left:
                return None
            self._unplaced.add((attempt, key))
        return self._host

    def _sets_up(self, layout: Layout, process: ProcessKey) -> bool:
        """Return whether it is the setup of a spare."""
        return process.kind is ProcessKind.SETUP and self._is_spare(layout)

    def _has_rank(self, layout: Layout, process: ProcessKey) -> bool:
        """Return whether it is a rank that a task of the host starts."""
        tasks = [t for node in layout.nodes if node.host.name == self._host for t in node.tasks]
        of_task = any(task.rank <= process.index < task.rank + task.size for task in tasks)
        return process.kind is ProcessKind.RANK and of_task

    def _is_alone(self) -> bool:
        """Return whether the run has no other host in an attempt."""
        every = ({node.host.name for node in layout.nodes} for layout in self._layouts.values())
        return any(hosts == {self._host} for hosts in every)

    def _is_spare(self, layout: Layout) -> bool:
        """Return whether the host has no place yet: its setup runs for one that it will take."""
        return all(node.host.name != self._host for node in layout.nodes)

    def _wrong_primary(self, event: ev.ProcessStarted | ev.ProcessExited) -> str:
        if not isinstance(event, ev.ProcessStarted) or not event.primary:
            return ""
        own = ProcessKey.parse(event.key).role in self._primaries
        return "" if own else f"{event.key} as a primary process"

    def _wrong_rank(self, event: ev.ProcessStarted | ev.ProcessExited) -> str:
        process, rank = ProcessKey.parse(event.key), event.rank
        own: range | tuple[()] = ()
        if process.kind is ProcessKind.RANK:
            own = range(process.index, process.index + 1)
        elif process.kind is ProcessKind.ROLE and (layout := self._layouts.get(event.attempt)):
            tasks = [task for node in layout.nodes for task in node.tasks if task.key == event.key]
            own = range(tasks[0].rank, tasks[0].rank + tasks[0].size) if tasks else ()
        else:
            return ""
        return "" if rank is None or rank in own else f"{event.key} as rank {rank}"


def _fits(hosts: int, layout: Layout) -> bool:
    """Return whether a run of this layout may begin on so many hosts."""
    return layout.num_nodes <= hosts <= layout.largest.num_nodes


def _may_wait(hosts: tuple[str, ...], layout: Layout) -> bool:
    """Return whether a run of this layout may wait on these hosts: where it may choose, some may be out
    of reach."""
    known = tuple(node.host.name for node in layout.nodes)
    return hosts == known or (layout.wanted > 0 and set(hosts) <= set(known))


def _is_output(name: str) -> bool:
    """Return whether it is the name of an output that travels as logs do."""
    path = name.removeprefix(LIVE)
    is_plain = is_inside(path) and posixpath.normpath(path) == path and path.isprintable()
    return name != path and is_plain and is_live(path) and len(path) <= LONGEST
