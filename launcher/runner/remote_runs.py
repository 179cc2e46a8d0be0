"""Runs that another machine started: ask the hosts of an inventory for them, and adopt one here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..fleet.fanout import Visited, visit_hosts
from ..records import codec
from ..records import events as ev
from ..records.run_folder import RunFolder, make_home, write_json
from ..spec.errors import HostError, InputError
from ..spec.frozen import frozen
from ..spec.model import Inventory, Node


@frozen
class HostRuns:
    """The report of one host: this user's runs there, and the running ones of all users."""

    runs: tuple[Mapping[str, Any], ...]
    running: tuple[Mapping[str, Any], ...]


async def ask_hosts(inventory: Inventory) -> dict[str, HostRuns | HostError]:
    """Return the runs on every host of an inventory, or why the host could not be asked."""

    async def one(visited: Visited) -> HostRuns:
        agent = await visited.agent()
        try:
            answer = await agent.ask("runs")
        finally:
            await agent.close()
        return HostRuns(tuple(answer["runs"]), tuple(answer["going_on"]))

    nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in inventory.hosts]
    return await visit_hosts(inventory, "", nodes, one)


async def adopt(word: str, inventory: Inventory) -> str:
    """Make a folder here for a run that the hosts know, and return its name. Raises InputError."""
    answers = await ask_hosts(inventory)
    known: dict[str, dict[str, Mapping[str, Any]]] = {}
    for host, answer in answers.items():
        for run in answer.runs if isinstance(answer, HostRuns) else ():
            if run["record"] and (run["run"] == word or run["run"].startswith(word)):
                known.setdefault(run["run"], {})[host] = run
    if len(known) != 1:
        silent = [str(answer) for answer in answers.values() if isinstance(answer, HostError)]
        what = "several runs start" if known else "no run starts"
        raise InputError(
            f'{what} with "{word}" on the hosts of {inventory.source}',
            ", ".join(sorted(known)) or "; ".join(silent) or "launcher ls --all-users",
        )
    ((name, by_host),) = known.items()
    _make_folder(name, by_host, inventory)
    return name


def _make_folder(name: str, by_host: Mapping[str, Mapping[str, Any]], inventory: Inventory) -> None:
    """Make the folder as the run's own launcher would have left it, with our inventory's hosts."""
    records = [host["record"] for host in by_host.values()]
    # A host that was lost and is back still reports the nodes of an older attempt.
    value = dict(max(records, key=lambda record: int(dict(record).get("attempt", 0))))
    request, layout = codec.read_run(value, f"run.json of {name} on its hosts")
    ours = {host.name: host for host in inventory.hosts}
    nodes = tuple(replace(node, host=ours.get(node.host.name, node.host)) for node in layout.nodes)
    request = replace(request, inventory=inventory, hosts=tuple(node.host for node in nodes))
    described = codec.describe_run(request, replace(layout, nodes=nodes), value["started"])
    described["job"]["secrets"] = value["job"].get("secrets", [])
    path = make_home() / "runs" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700)
    folder = RunFolder(path)
    folder.write("run.json", described)
    folder.record(ev.StageStarted(value["started"], "run"))
    if all(by_host.get(node.host.name, {}).get("started") for node in nodes):
        folder.record(ev.AllStarted(time.time(), 0))
    folder.close()
    write_json(path / "shown.json", {})
