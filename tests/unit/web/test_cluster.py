"""Pages share one watch of the hosts, which is let go when no page looks any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.api.client import AsyncClient
from launcher.fleet import last_check
from launcher.fleet.findings import Finding
from launcher.fleet.last_check import LastCheck
from launcher.runner.cluster import Cluster, HostNow
from launcher.runner.project_list import ProjectShare
from launcher.runner.queue import Queue
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Inventory, Project
from launcher.web import cluster
from launcher.web.cluster import ClusterPages

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Hosts:
    """Stands for a client: hosts that answer."""

    def __init__(self) -> None:
        self.watches = self.closed = 0
        self.left = asyncio.Event()

    async def watch_cluster(self, every: float, seconds: float) -> AsyncGenerator[Cluster, None]:
        self.watches += 1
        try:
            while True:
                yield Cluster(0.0, (HostNow("gpu1"),), Queue((), (), 0, 0))
                await asyncio.sleep(0)
        finally:
            self.closed += 1
            self.left.set()


async def test_all_pages_share_one_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts()
    pages = ClusterPages(cast(AsyncClient, hosts))
    found: list[dict[str, Any]] = await asyncio.gather(*(pages.now() for _ in range(5)))
    assert [one["hosts"][0]["host"] for one in found] == ["gpu1"] * 5
    assert (hosts.watches, hosts.closed) == (1, 0)
    monkeypatch.setattr(cluster, "IDLE", -1.0)
    await hosts.left.wait()
    monkeypatch.undo()
    await pages.now()
    assert hosts.watches == 2
    await pages.close()
    assert hosts.closed == 2


async def test_what_the_last_check_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    inventory = Inventory((Host("gpu1"), Host("gpu2")))
    pages = ClusterPages(AsyncClient(inventory))
    assert pages.checked() == {"check": None}
    found = Finding("PAIR-SLOW", "warning", ("gpu1", "gpu2"), "slow", "a cable", ("gpu3",))
    last_check.keep(inventory, LastCheck(7.0, ("gpu1", "gpu2"), (found,)))
    told = pages.checked()["check"]
    assert (told["time"], told["hosts"]) == (7.0, "gpu[1-2]")
    assert told["findings"] == [
        {
            "code": "PAIR-SLOW",
            "level": "warning",
            "hosts": "gpu[1-2]",
            "there": "gpu3",
            "evidence": "slow",
            "fix": "a cable",
            "value": "",
        }
    ]


async def test_without_an_inventory_it_says_so_each_time() -> None:
    pages = ClusterPages(AsyncClient())
    for _ in range(2):
        with pytest.raises(InputError, match="no inventory"):
            await pages.now()
    await pages.close()


async def test_what_projects_have_is_asked_for_once_for_all_pages() -> None:
    asked = []

    class Sharing:
        inventory = Inventory(
            hosts=(Host(name="gpu1", address="10.0.0.1"),),
            projects=(Project("vision", 4, users=("ann",)),),
        )

        async def projects(self) -> tuple[tuple[ProjectShare, ...], tuple[str, ...]]:
            asked.append(self)
            await asyncio.sleep(0)
            return (ProjectShare("vision", 4, None, ("ann",), 0.0, 3, 0, (), 1),), ("gpu2",)

    pages = ClusterPages(cast(AsyncClient, Sharing()))
    found = await asyncio.gather(*(pages.projects() for _ in range(5)))
    assert [(one["projects"][0]["used"], one["silent"]) for one in found] == [(3, ["gpu2"])] * 5
    assert len(asked) == 1
    Sharing.inventory = Inventory(hosts=Sharing.inventory.hosts)
    assert await pages.projects() == {"projects": [], "silent": []}
