"""Brings processes to life on all hosts at once: supervisors, setup, meeting point, start."""

from __future__ import annotations

import posixpath
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .. import frameworks
from ..jobs import planner
from ..records import codec
from ..records import events as ev
from ..records.state import ProcessState, is_setup
from ..spec.errors import AgentError, PortTaken, SetupFailed
from ..spec.model import Job, Layout, Node, NodePlan, Plan, Request, Task
from ..spec.process_key import ProcessKey
from ..transport import certificates
from ..transport.agent_bundle import agent_name
from .concurrency import together
from .event_log import Ledger
from .host_session import Link
from .policy.restart import PORT_TRIES
from .rendezvous import meet
from .requirements import Wanted


async def supervise(
    links: Sequence[Link], layout: Layout, request: Request, started: float, attempt: int = 0
) -> None:
    """A supervisor on every host, which also keeps what is known of the run, and an ear on each.
    Raises HostError."""
    known = {**codec.describe_run(request, layout, started), "attempt": attempt}

    async def one(link: Link) -> None:
        await link.supervise(layout, request, known, attempt)
        await link.follow(layout.run_id, request.lost_after)

    await together(one(link) for link in links)


async def setup(
    links: Sequence[Link], layout: Layout, job: Job, ledger: Ledger, attempt: int = 0
) -> None:
    """Runs the job's setup once on every one of these hosts. Raises SetupFailed."""
    meeting = planner.NOWHERE
    requests = []
    names = [link.name for link in links]
    nodes = [node for node in layout.nodes if node.host.name in names]
    for link, node in zip(links, nodes, strict=True):
        scripts = _setup_scripts(job, node)
        if not scripts:
            continue
        process = {
            "key": str(ProcessKey.of_setup(node.node_rank)),
            "argv": ["bash", "-ec", _EACH if len(scripts) > 1 else scripts[0], *scripts],
            "env": planner.environment(job, layout, node, meeting, attempt),
        }
        requests.append(link.insist(**_request("setup", attempt, job, layout, link, [process])))
    if not requests:
        return
    await together(requests)

    def processes() -> list[ProcessState]:
        known = ledger.state.processes.values()
        return [p for p in known if is_setup(p.key) and p.host in names]

    def over() -> bool:
        done = [p for p in processes() if p.code is not None]
        return (
            any(p.code and not p.stopped for p in done)
            or len(done) == len(requests)
            or any(link.ended.is_set() for link in links)
        )

    await ledger.until(over)
    failure = _first_of(processes(), ledger)
    if failure:
        raise SetupFailed(
            failure.host,
            f"setup {failure.meaning}",
            "the last lines of its log are below; the command ran with `bash -e`",
            failure.exit_code,
        )
    for link in links:
        if link.ended.is_set():
            raise AgentError(link.name, "its supervisor went away during setup")


#: Runs each of its arguments as a script, $0 being the first.
_EACH = 'for script in "$0" "$@"; do bash -ec "$script"; done'


def _setup_scripts(job: Job, node: Node) -> list[str]:
    """The job's setup, then those of the roles that have a process there."""
    there = {task.role for task in node.tasks}
    own = (role.setup for role in job.roles if role.name in there)
    return [script for script in (job.setup, *own) if script]


def _first_of(processes: Sequence[ProcessState], ledger: Ledger) -> ev.Failure | None:
    """The failure among these: the run's first one, unless something else had failed before."""
    bad = [process for process in processes if process.code and not process.stopped]
    first = ledger.state.failure
    if first and (first.host, first.key) in {(process.host, process.key) for process in bad}:
        return first
    for process in bad:
        return ev.Failure(process.host, process.key, process.rank, process.code or 0, False, 0.0)
    return None


async def meet_and_start(
    links: Sequence[Link], layout: Layout, request: Request, attempt: int, ledger: Ledger
) -> Plan:
    """Finds a meeting point and starts everything. Raises MeetingError, HostError; FrameworkMissing
    unless the request says that nothing is to be checked.

    The master starts first, because it has the port that all need; where that is taken nothing runs
    yet, and another one is chosen. Raises PortTaken where another host's own port is.
    """
    job, key, peered = request.job, secrets.token_hex(16), {}
    wanted = Wanted(links if request.check else (), layout, job)
    await wanted.begin()
    if frameworks.get(job.framework).joins_hosts:
        known = certificates.introduce([link.name for link in links], job)
        peered = {name: {"peer": peer} for name, peer in known.items()}
    for last in [False] * (PORT_TRIES - 1) + [True]:
        meeting = await meet(job, links, planner.ports_needed(job, layout))
        await wanted.require()
        plan = planner.plan(job, layout, meeting, agent_name(), attempt)
        told = peered or _news(plan, key)  # joined hosts have lines of their own
        try:
            await _start(links[0], plan, plan.nodes[0], job, attempt, told)
        except PortTaken as taken:
            ledger.add(ev.PortReplaced(time.time(), links[0].name, taken.port))
            if last:
                raise
            continue
        ledger.add(
            ev.HostsMet(
                time.time(), meeting.master_addr, int(meeting.master_port), meeting.interfaces
            )
        )
        others = zip(links[1:], plan.nodes[1:], strict=True)
        await together(_start(link, plan, node, job, attempt, told) for link, node in others)
        return plan
    raise AssertionError("the last try returns or raises")


async def _start(
    link: Link,
    plan: Plan,
    node: NodePlan,
    job: Job,
    attempt: int,
    told: Mapping[str, Mapping[str, Any]],
) -> None:
    """``told``: what each host is told of the others."""
    processes = [
        {
            "key": p.key,
            "rank": p.rank,
            "argv": list(p.argv),
            "env": dict(p.env),
            **(_of_role(job, p.task) if p.task else {}),
        }
        for p in node.processes
    ]
    request = _request("run", attempt, job, plan.layout, link, processes)
    if node.node.node_rank == 0:
        request["port"] = plan.meeting.master_port
    request["ports"] = list(plan.meeting.ports.get(link.name, ()))
    if job.elastic is not None:
        request["elastic"] = "head" if node.node.node_rank == 0 else "member"
    request["gpus"] = list(node.node.gpus) if link.facts.gpus or link.host.gpus else []
    request["gpu_uuids"] = {gpu.uuid: gpu.index for gpu in link.facts.gpus}
    await link.insist(**request, **told.get(link.name, {}))


def _news(plan: Plan, key: str) -> dict[str, dict[str, Any]]:
    """How the supervisors of this attempt tell each other that it is over; the first one listens."""
    if not plan.meeting.news_port:
        return {}
    hub = plan.layout.nodes[0].host
    line = {
        "hub": hub.name,
        "address": plan.meeting.address_of(hub),
        "port": plan.meeting.news_port,
        "key": key,
        "hosts": plan.layout.num_nodes,
    }
    return {node.host.name: {"news": line} for node in plan.layout.nodes}


def _of_role(job: Job, task: Task) -> dict[str, Any]:
    """What a host has to know of a role: its limits, and what its processes' ends mean."""
    role = job.role(task.role).at(task.index)
    share = role.resources
    primaries = sum(other.replicas for other in job.roles if other.primary)
    return {
        "role": task.role,
        "index": task.index,
        "primary": primaries if role.primary else 0,
        "primaries": primaries,
        "on_exit": {action: list(codes) for action, codes in role.on_exit.items()},
        "limits": {"cpus": share.cpus, "memory": share.memory},
    }


def _request(
    stage: str,
    attempt: int,
    job: Job,
    layout: Layout,
    link: Link,
    processes: list[dict[str, Any]],
) -> dict[str, Any]:
    """What every start says. Secrets are here and nowhere else: this goes through stdin only."""
    node = next(node for node in layout.nodes if node.host.name == link.name)
    code = posixpath.join(planner.run_dir(node.root, layout.run_id), "code")
    own_path = {**node.host.env, **job.envs}.get("PATH")
    return {
        "op": "start",
        "run": layout.run_id,
        "stage": stage,
        "attempt": attempt,
        "path": list(planner.search_path(node, layout.run_id)),
        "secrets": {name: secret.reveal() for name, secret in job.secrets.items()},
        "processes": [{**process, "cwd": code} for process in processes],
        **({"own_path": own_path} if own_path else {}),
    }
