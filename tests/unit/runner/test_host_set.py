"""Which hosts take part in a run, and which stand aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.runner.context import RunContext
from launcher.runner.event_log import EventLog
from launcher.runner.host_session import HostSession, Phase
from launcher.runner.host_set import HostSet
from launcher.runner.listeners import ignore_event, ignore_log
from launcher.runner.stop import StopSwitch
from launcher.spec.inventory import Inventory
from launcher.spec.model import Host, Job, Layout, Node, Request

NAMES = ("a", "b", "c")


def _layout(*names: str) -> Layout:
    return Layout("run", tuple(Node(Host(name), i, 1, i) for i, name in enumerate(names)))


def _with_hosts(
    folder: Path, test: Callable[[HostSet], Coroutine[Any, Any, None]], *told: ev.Event
) -> None:
    async def inside() -> None:
        record = RunFolder(folder)
        for event in told:
            record.record(event)
        log = EventLog(record, ignore_event)
        request = Request(Job(run=("x",)), Inventory(tuple(map(Host, NAMES))), ())
        context = RunContext(request, record, log, StopSwitch(log.wake), 0.0)
        hosts = HostSet(context, ignore_log)
        await test(hosts)
        await hosts.close()

    asyncio.run(inside())


def _names(sessions: tuple[HostSession, ...]) -> list[str]:
    return [session.name for session in sessions]


def test_a_layout_says_who_takes_part_and_in_which_order(tmp_path: Path) -> None:
    async def test(hosts: HostSet) -> None:
        for name in NAMES:
            hosts.join(hosts.new(Host(name)))
        hosts.settle(_layout("c", "a"))
        assert (_names(hosts.active), _names(hosts.aside)) == (["c", "a"], ["b"])

    _with_hosts(tmp_path, test)


def test_a_spare_takes_the_place_of_a_host_which_then_stands_aside(tmp_path: Path) -> None:
    async def test(hosts: HostSet) -> None:
        for name in ("a", "b"):
            hosts.join(hosts.new(Host(name)))
        hosts.settle(_layout("a", "b"))
        before = hosts.active
        hosts.put_aside(hosts.new(Host("c")))
        hosts.settle(_layout("a", "c"))
        assert (_names(hosts.active), _names(hosts.aside)) == (["a", "c"], ["b"])
        assert _names(before) == ["a", "b"], "nobody's list changes under him"

    _with_hosts(tmp_path, test)


def test_only_hosts_where_something_was_started_have_to_be_stopped(tmp_path: Path) -> None:
    async def test(hosts: HostSet) -> None:
        hosts.join(hosts.new(Host("a")))
        idle, gone = hosts.new(Host("b")), hosts.new(Host("c"))
        gone.part("host-unreachable", [])
        for session in (idle, gone):
            hosts.put_aside(session)
        assert _names(hosts.touched) == ["a", "c"]
        await hosts.dismiss(gone)
        assert _names(hosts.touched) == ["a"]

    _with_hosts(tmp_path, test)


def test_a_run_that_is_taken_up_knows_who_left_it_and_which_spare_was_tried(
    tmp_path: Path,
) -> None:
    async def test(hosts: HostSet) -> None:
        hosts.rejoin(_layout("a"))
        assert _names(hosts.active) == ["a"]
        assert [(one.name, one.phase) for one in hosts.aside] == [
            ("b", Phase.LOST),
            ("c", Phase.FOLLOWED),
        ]

    synced = (ev.CodeSynced(1.0, name, "v", 0, 0, 0, 0.0) for name in NAMES)
    reduced = ev.NodesReduced(2.0, "b", 1, 1, "host-unreachable")
    _with_hosts(tmp_path, test, *synced, reduced)
