"""Starts processes on hosts: supervisors, the job's setup, and the ranks at their meeting point."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from .. import frameworks
from ..jobs import planner, shares
from ..jobs.host_entries import host_entries
from ..jobs.preparation import for_setup
from ..records import events as ev
from ..records import packages
from ..records.reasons import Cold
from ..records.state import ProcessState, is_setup
from ..spec.containers import Container
from ..spec.errors import AgentError, PortTaken, SetupFailed
from ..spec.frozen import frozen
from ..spec.model import Job, Layout, Meeting, Node, NodePlan, Plan, Process, Task
from ..spec.process_key import ProcessKey
from ..transport import certificates
from ..transport.agent_bundle import agent_name
from .concurrency import together
from .context import RunContext
from .host_session import HostSession
from .images.inside import container_there, in_image
from .policy.restart import PORT_TRIES, may_follow, preloaded
from .rendezvous import meet
from .requirements import Requirements

#: What each host needs to know of the others, by host: added to its start request.
Peers = Mapping[str, Mapping[str, Any]]


@frozen
class Launch:
    """One attempt on some hosts of a layout: all of them, or a spare that will join."""

    context: RunContext
    sessions: Sequence[HostSession]
    layout: Layout
    attempt: int

    async def supervise(self, warm: bool = False) -> None:
        """Start a supervisor on every host, and follow it. Raises HostError.

        ``warm``: it will be asked to import modules, and may use what an earlier run has left, if this
        one leaves it, too.
        """
        record = self.context.describe(self.layout)
        requests = self._preload_requests() if warm and self.context.job.keep_warm else {}

        async def one(session: HostSession) -> None:
            asked = requests.get(session.name)
            stayed = await session.supervise(self.layout, self.attempt, record, asked)
            before = session.keeps_warm
            if before is not None and before < self.attempt:
                session.keeps_warm = None
                if not stayed and session.name in preloaded(self.context.events, before):
                    self._note_loss(session)
            await session.follow(self.context.request.lost_after)

        await together(
            one(session)
            for session in self.sessions
            if not session.has_supervisor(self.attempt, record)
        )

    # -- the job's setup

    async def setup(self, done: Mapping[str, Collection[str]] = MappingProxyType({})) -> None:
        """Run the job's setup once on every host, and those of its roles; without those that are
        ``done`` by host, "" being the job's. Raises SetupFailed."""
        requests = [
            self._setup_requests(session, done.get(session.name, ())) for session in self.sessions
        ]
        asked = 0
        for turn in range(max(map(len, requests), default=0)):
            due = [
                (session, its[turn])
                for session, its in zip(self.sessions, requests, strict=True)
                if turn < len(its)
            ]
            asked += len(due)
            await self._set_up(due, asked)

    async def _set_up(
        self, due: Sequence[tuple[HostSession, Mapping[str, Any]]], asked: int
    ) -> None:
        """Make hosts run their next setup, and wait until all have exited that were ``asked`` for so
        far. Raises SetupFailed."""
        await together(session.insist(**request) for session, request in due)
        await self.context.event_log.until(lambda: self._is_set_up(asked))
        failure = self._setup_failure()
        if failure:
            raise SetupFailed(
                failure.host,
                f"setup {failure.meaning}",
                "the last lines of its log are below; the command ran under `bash -e`",
                failure.exit_code,
            )
        for session in self.sessions:
            if session.is_over:
                raise AgentError(session.name, "its supervisor exited during setup")

    def _setup_requests(self, session: HostSession, done: Collection[str]) -> list[dict[str, Any]]:
        """Return what a host is to run before its processes, one after the other: in images, and outside
        of them. Mostly that is one script, or none."""
        job, node = self.context.job, self._node(session)
        found: list[dict[str, Any]] = []
        for role, argv in _setups(job, node, done):
            process = {
                "key": str(ProcessKey.of_setup(node.node_rank)),
                "argv": argv,
                "env": planner.early_environment(job, self.layout, node, self.attempt, role=role),
                **self._in_image(session, role),
            }
            stage = f"setup-{len(found) + 1}" if found else "setup"
            found.append(self._request(stage, session, [process]))
        return found

    def _in_image(self, session: HostSession, role: str) -> dict[str, Any]:
        """Return what a host is told of the image in which a role's processes start, if any."""
        node, own_hosts = self._node(session), session.facts.has_own_hosts
        return in_image(self.context.job, self.layout, node, role, own_hosts)

    def _setups(self) -> list[ProcessState]:
        names = [session.name for session in self.sessions]
        known = self.context.state.processes.values()
        return [p for p in known if is_setup(p.key) and p.host in names]

    def _is_set_up(self, count: int) -> bool:
        """Return whether all setups have exited, one has failed, or a host is gone."""
        names = {session.name for session in self.sessions}
        exits = [
            event
            for event in self.context.events
            if isinstance(event, ev.ProcessExited)
            and is_setup(event.key)
            and event.host in names
            and event.attempt == self.attempt
        ]
        return (
            any(map(_is_bad, self._setups()))
            or len(exits) >= count
            or any(session.is_over for session in self.sessions)
        )

    def _setup_failure(self) -> ev.Failure | None:
        """Return the run's first failure if it is that of a setup, else any setup's; None for none."""
        bad = [process for process in self._setups() if _is_bad(process)]
        first = self.context.state.failure
        if first and (first.host, first.key) in {(process.host, process.key) for process in bad}:
            return first
        for process in bad:
            code = process.code or 0
            return ev.Failure(process.host, process.key, process.rank, code, False, 0.0)
        return None

    # -- what is imported ahead of the ranks

    async def preload(self) -> None:
        """Have every host import the job's modules, ahead of its ranks. Raises HostError."""
        known = self._preloaded()
        if not self.context.job.preload:
            return
        requests, asked = self._preload_requests(), []
        for session in self.sessions:
            if session.name in known:
                continue
            if self._is_prepared(session):
                self.context.add(
                    ev.Preloaded(time.time(), session.name, 0.0, Cold.PREPARE, attempt=self.attempt)
                )
            elif (request := requests.get(session.name)) and not session.was_asked_to_preload:
                asked.append(self._ask_to_preload(session, request))
        await together(asked)

    async def _ask_to_preload(self, session: HostSession, request: Mapping[str, Any]) -> None:
        session.keeps_warm = self.attempt
        await session.insist(**request)
        session.was_asked_to_preload = True

    def _is_prepared(self, session: HostSession) -> bool:
        return bool(self.context.job.prepare or session.host.prepare)

    def _preload_requests(self) -> dict[str, dict[str, Any]]:
        """Return what each host is sent to import modules, if it can. It contains secrets."""
        if not self.context.job.preload:
            return {}
        plan = self.plan(self.layout, planner.NOWHERE)
        return {
            session.name: self._preload_request(session, processes[0])
            for session in self.sessions
            if not self._is_prepared(session) and (processes := _part_of(session, plan).processes)
        }

    def _preload_request(self, session: HostSession, process: Process) -> dict[str, Any]:
        """Return what a host is sent to import modules. It contains secrets."""
        spec = {"key": process.key, "argv": list(process.argv), "env": dict(process.env)}
        request = self._request("run", session, [spec])
        (spec,) = request.pop("processes")
        del request["stage"]
        modules = list(self.context.job.preload)
        return {**request, "op": "preload", "modules": modules, "process": spec}

    async def until_preloaded(self) -> None:
        """Wait until every host has imported the job's modules, or said why not."""
        if self.context.job.preload:
            await self.context.event_log.until(self._is_preloaded)

    def _is_preloaded(self) -> bool:
        known = self._preloaded()
        return all(one.name in known or one.is_over for one in self.sessions)

    def _preloaded(self) -> set[str]:
        """Return the hosts that have imported the modules for this attempt, or said why not."""
        known = (event for event in self.context.events if isinstance(event, ev.Preloaded))
        return {event.host for event in known if event.attempt == self.attempt}

    def _note_loss(self, session: HostSession) -> None:
        """Note that a host has nothing left of what the attempt before has imported."""
        self.context.add(
            ev.ImportedAnew(time.time(), session.name, Cold.GONE, attempt=self.attempt)
        )

    # -- the processes

    async def claim(self) -> None:
        """Lock the GPUs of all hosts, or none, before anything is started on any. Raises HostError:
        GpuBusy where somebody else has one. A single host does so as it starts."""
        asked = [(one, gpus) for one in self.sessions if (gpus := self._gpus(one))]
        if len(asked) < 2:
            return
        claims = (self._claim(one, gpus) for one, gpus in asked)
        found = await asyncio.gather(*claims, return_exceptions=True)
        errors = [error for error in found if error is not None]
        if errors:
            await self.release([one for one, _ in asked])
            raise errors[0]

    async def release(self, sessions: Sequence[HostSession]) -> None:
        """Unlock the GPUs of hosts on which nothing was started."""
        releasing = (one.agent.ask("release", run=self.layout.run_id) for one in sessions)
        await asyncio.gather(*releasing, return_exceptions=True)

    async def _claim(self, session: HostSession, gpus: list[int]) -> None:
        await session.insist(op="claim", run=self.layout.run_id, gpus=gpus)

    @property
    def gpus(self) -> dict[HostSession, list[int]]:
        """The GPUs that the run locks, by host; without hosts where it locks none."""
        return {one: gpus for one in self.sessions if (gpus := self._gpus(one))}

    def _gpus(self, session: HostSession) -> list[int]:
        """Return the GPUs that the run locks on a host."""
        has_gpus = session.facts.gpus or session.host.gpus
        return list(self._node(session).gpus) if has_gpus else []

    async def start(self) -> Plan:
        """Find a meeting point and start everything.

        The first host starts first, because it has the port that all need: if that is taken, nothing
        runs yet and another one is chosen.

        Raises MeetingError, HostError; PortTaken when another host's port is taken, or too many were;
        FrameworkMissing unless the request turns checks off.
        """
        job, key = self.context.job, secrets.token_hex(16)
        requirements = await self._search()
        await self.until_preloaded()
        certified = self.certified()
        for last in [False] * (PORT_TRIES - 1) + [True]:
            meeting = await meet(job, self.sessions, planner.ports_needed(job, self.layout))
            meeting = planner.with_share_port(job, self.layout, meeting)
            await self._note_packages(requirements)
            plan = self.plan(self.layout, meeting)
            peers = self.peers(plan, certified, key)
            try:
                await self._start(self.sessions[0], plan, peers)
            except PortTaken as taken:
                self.context.add(ev.PortReplaced(time.time(), taken.host, taken.port))
                if last:
                    raise
                continue
            address, port = meeting.master_addr, int(meeting.master_port)
            self.context.add(ev.HostsMet(time.time(), address, port, meeting.interfaces))
            await together(self._start(session, plan, peers) for session in self.sessions[1:])
            return plan
        raise AssertionError("the last try returns or raises")

    async def require(self) -> None:
        """Make sure that all hosts have what the framework needs. Raises FrameworkMissing, HostError."""
        await self._note_packages(await self._search())

    async def _search(self) -> Requirements:
        checked = self.sessions if self.context.request.check else ()
        requirements = Requirements(checked, self.layout, self.context.job)
        await requirements.start()
        return requirements

    async def _note_packages(self, requirements: Requirements) -> None:
        await requirements.check()
        if requirements.packages:
            self.context.event_log.note(packages.FILE, packages.folded(requirements.packages))
        if self.attempt == 0 and (differ := requirements.differing()):
            named = dict(islice(differ.items(), packages.MOST_NAMED))
            more = len(differ) - len(named)
            self.context.add(ev.PackagesDiffered(time.time(), named, more))

    def plan(self, layout: Layout, meeting: Meeting) -> Plan:
        """Return argv and environment of every process of this attempt."""
        columns = self.context.request.columns
        return planner.plan(self.context.job, layout, meeting, agent_name(), self.attempt, columns)

    def certified(self) -> Peers:
        """Return certificates of all hosts, if the framework's own launcher connects them by TLS."""
        job = self.context.job
        if not frameworks.get(job.framework).joins_hosts:
            return {}
        known = certificates.introduce([session.name for session in self.sessions], job)
        return {name: {"peer": peer} for name, peer in known.items()}

    def peers(self, plan: Plan, certified: Peers, key: str) -> Peers:
        """Return what each host needs to know of the others: to join them with certificates, or to
        broadcast with a key; and to share folders."""
        known = certified or _broadcast(plan, key)  # joined hosts have connections of their own
        return _with_shares(self.context.job, plan, known)

    async def _start(self, session: HostSession, plan: Plan, peers: Peers) -> None:
        request = self.start_request(session, plan, peers)
        await session.insist(**request)
        has_warm = "stay" in request and session.name in preloaded(
            self.context.events, self.attempt
        )
        session.keeps_warm = self.attempt if has_warm else None

    def start_request(self, session: HostSession, plan: Plan, peers: Peers) -> dict[str, Any]:
        """Return what a host is sent to start its part of a plan. It contains secrets."""
        job, part = self.context.job, _part_of(session, plan)
        processes = [
            {
                "key": p.key,
                "rank": p.rank,
                "argv": list(p.argv),
                "env": dict(p.env),
                **(_of_role(job, p.task) if p.task else {}),
                **self._in_image(session, p.task.role if p.task else ""),
            }
            for p in part.processes
        ]
        request = self._request("run", session, processes)
        is_first = part.node.node_rank == 0
        if is_first:
            request["port"] = plan.meeting.master_port
            library = frameworks.get(job.framework).meets_by
            if library and plan.layout.world_size > 1 and not job.roles and job.elastic is None:
                request["meets_by"] = library
        if is_first and self.context.request.stdin:
            request["stdin"] = self.context.request.lost_after
            if (reader := planner.reader_of_stdin(part)) is not None:
                request["processes"][reader]["stdin"] = 1
        request["ports"] = list(plan.meeting.ports.get(session.name, ()))
        if job.elastic is not None:
            request["elastic"] = "head" if is_first else "member"
        request["gpus"] = list(part.node.gpus) if self._gpus(session) else []
        if (seconds := self._time_left()) is not None:
            request["seconds"] = seconds
        if job.preload and may_follow(self.context.request, self.context.events):
            request["stay"] = 1
        request["gpu_uuids"] = {gpu.uuid or str(gpu.index): gpu.index for gpu in session.facts.gpus}
        request["gpu_vendor"] = part.node.vendor
        if session.facts.has_own_hosts:
            names = {one.name: one.facts.hostname for one in self.sessions}
            request["own_hosts"] = host_entries(plan.layout, plan.meeting, names)
        return {**request, **peers.get(session.name, {})}

    def _time_left(self) -> float | None:
        """Return how long the run may last from now; None: for ever."""
        limit = self.context.request.time_limit
        began = next((e.time for e in self.context.events if isinstance(e, ev.AllStarted)), None)
        if limit is None or began is None:
            return limit
        return max(1.0, limit - (time.time() - began))

    def _request(
        self, stage: str, session: HostSession, processes: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return a start request. It contains secrets, and travels over stdin only."""
        job, layout, node = self.context.job, self.layout, self._node(session)
        code = posixpath.join(planner.run_dir(node.root, layout.run_id), "code")
        own_path = {**node.host.env, **job.envs}.get("PATH")
        return {
            "op": "start",
            "run": layout.run_id,
            "stage": stage,
            "attempt": self.attempt,
            "path": list(planner.search_path(job, node, layout.run_id)),
            "secrets": {name: secret.reveal() for name, secret in job.secrets.items()},
            "processes": [{**process, "cwd": code} for process in processes],
            **({"own_path": own_path} if own_path else {}),
        }

    def _node(self, session: HostSession) -> Node:
        return next(node for node in self.layout.nodes if node.host.name == session.name)


#: A script that runs each of its arguments as a script; the first is $0.
_EACH = 'for script in "$0" "$@"; do bash -ec "$script"; done'


def _setups(job: Job, node: Node, done: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """Return what runs the job's setup, then those of the roles with a process on the node, with the
    first role: for each image, and for all that is in none. Those that are ``done`` are left out. Raises
    NoEnvironment."""
    there = {task.role for task in node.tasks}
    own = {role.name: role.setup for role in job.roles if role.name in there}
    groups: dict[Container | None, dict[str, str]] = {}
    for role, script in {"": job.setup, **own}.items():
        if script and role not in done:
            groups.setdefault(container_there(job, node, role), {})[role] = script
    return [(next(iter(its)), _setup_argv(job, node, its)) for its in groups.values()]


def _setup_argv(job: Job, node: Node, scripts: Mapping[str, str]) -> list[str]:
    """Return what runs scripts of the job ("") and of roles, each in its environment."""
    in_front = {role: for_setup(job, node, role) for role in scripts}
    if len({*in_front.values()}) == 1:
        several = list(scripts.values())
        script = _EACH if len(several) > 1 else several[0]
        return [*next(iter(in_front.values())), "bash", "-ec", script, *several]
    each = (
        shlex.join([*in_front[role], "bash", "-ec", script]) for role, script in scripts.items()
    )
    return ["bash", "-ec", _EACH, *each]


def _is_bad(process: ProcessState) -> bool:
    return bool(process.code) and not process.stopped


def _part_of(session: HostSession, plan: Plan) -> NodePlan:
    return next(part for part in plan.nodes if part.node.host.name == session.name)


def _broadcast(plan: Plan, key: str) -> Peers:
    """Return how the supervisors of this attempt broadcast that it is over; the first one listens."""
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


def _with_shares(job: Job, plan: Plan, peers: Peers) -> Peers:
    """Return the same with what each host needs to share folders with the others; the first listens."""
    port = plan.meeting.share_port
    if port is None:
        return peers
    hub = plan.layout.nodes[0].host
    line = {"hub": hub.name, "address": plan.meeting.address_of(hub), "port": port}
    known = certificates.introduce([node.host.name for node in plan.layout.nodes], job)
    folders = shares.on_host(job)
    return {
        host: {**peers.get(host, {}), "share": {**spec, **line, "folders": folders}}
        for host, spec in known.items()
    }


def _of_role(job: Job, task: Task) -> dict[str, Any]:
    """Return what a host needs to know of a role: its limits, and what to do when a process exits."""
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
