"""Check hosts before anything is launched: each on its own, then together.

A host that fails does not stop the check: its error is a finding.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...jobs.environments import (
    all_of,
    is_in_image,
    is_needed,
    modules_on,
    needed_on,
    roles_with,
)
from ...jobs.image_requests import image_request
from ...jobs.preparation import on_trial
from ...spec.environments import Environment
from ...spec.errors import BadAnswer, HostError, LauncherError, NoPython, PythonTooOld
from ...spec.frozen import frozen
from ...spec.model import Host, Inventory, Job, Layout, Node
from ...spec.typed_json import from_json, to_json
from ...transport import rsync
from ...transport.agent_client import Agent
from ...transport.answers.environments import Environment as EnvironmentThere
from ...transport.answers.environments import Missing
from ...transport.answers.facts import Ended, Surveyed, read_facts
from ...transport.answers.images import Image
from ...transport.answers.reading import read
from ...transport.answers.runs import Clock
from ...transport.connection import Connection
from ...transport.ssh import AskPassphrase, Dialler
from .. import builders, cleanup
from ..findings import ERROR, WARNING, Finding, fold, found, of_error
from ..findings.group import of_group, one_machine, rsync_here
from ..findings.host import few_sessions, of_host
from ..findings.images import of_image, of_runtimes
from ..findings.job import of_builders, of_job
from ..findings.pair import of_pairs
from ..findings.plugins import PLUGINS, of_plugins
from ..findings.survey import PairTest, Questions, Survey, survey_of
from .job_needs import questions_of
from .pairs import Pairs, ports_of

#: Round trips to measure a clock by; the shortest is the most exact.
CLOCK_TRIPS = 5

#: Findings whose processes `--fix` kills.
ENDED_BY_FIX = ("LEFT-ORPHANS", "LEFT-UNFINISHED")

Progress = Callable[[str], None]


#: The ID of no image.
_NO_IMAGE = "0" * 64


@frozen
class ImageOfJob:
    """What is known of an image of a job before hosts are asked: of a file, its ID and machine; of a
    run that is repeated, the ID. One that ``is_unbuilt`` is on no host."""

    id: str = ""
    machine: str = ""
    is_unbuilt: bool = False


@frozen
class Report:
    """The result of a check."""

    surveys: tuple[Survey, ...]
    tests: tuple[PairTest, ...]
    findings: tuple[Finding, ...]
    seconds: float
    chosen: tuple[str, ...] = ()  # hosts that the job would get now

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.level == ERROR for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "ok": not self.failed,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_json() for finding in self.findings],
            "chosen": list(self.chosen),
            "hosts": {survey.host: asdict(survey) for survey in self.surveys},
            "pairs": [asdict(test) for test in self.tests],
        }


class Visitor:
    """Connections to many hosts, with an agent on each; collects ``findings``."""

    def __init__(
        self,
        inventory: Inventory,
        hosts: Sequence[Host],
        ask: AskPassphrase | None = None,
        progress: Progress = lambda doing: None,
    ) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.agents: dict[str, Agent] = {}
        self.surveys: dict[str, Survey] = {}
        self.findings: list[Finding] = []
        self.progress = progress
        self._dialler = Dialler(inventory, ask)
        self._connections: list[Connection] = []

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(agent.close() for agent in self.agents.values()))
        for connection in self._connections:
            connection.close()
        await self._dialler.close()

    async def survey(self, questions: Questions) -> None:
        """Connect to all hosts at once, and survey each."""
        self.progress(f"surveying {len(self.hosts)} host{'s' if len(self.hosts) != 1 else ''}")
        asked = (self._findings(host, questions) for host in self.hosts.values())
        for findings in await asyncio.gather(*asked):
            self.findings += findings
        self.surveys = {name: self.surveys[name] for name in self.hosts if name in self.surveys}

    async def here(self) -> None:
        """Check what runs need on this machine."""
        self.findings += await asyncio.to_thread(_rsync_here)

    async def _findings(self, host: Host, questions: Questions) -> list[Finding]:
        try:
            connection = await self._dialler.connect(host.name)
            self._connections.append(connection)
            survey = await self._survey(connection, host, questions)
            refuses_more = await connection.refuses_more()
        except HostError as error:
            return [of_error(_of_inventory(error, host))]
        self.surveys[host.name] = survey
        findings = of_host(survey, host)
        if refuses_more:
            findings.append(few_sessions(host.name))
        try:
            rsync.require_there(host.name, survey.facts.rsync)
        except HostError as error:
            findings.append(of_error(error))
        return findings

    async def _survey(self, connection: Connection, host: Host, questions: Questions) -> Survey:
        agent = self.agents[host.name] = await Agent.open(host, connection)
        latency, offset = await _clock(agent)
        answer = await agent.ask(
            "survey",
            modules=list(questions.modules),
            env={**host.env, **questions.env},
            paths=list(questions.paths),
        )
        described = read(Surveyed, host.name, "survey", answer).facts
        facts = read_facts(host.name, "survey", described, offset)
        try:
            survey = survey_of(answer, facts, latency, tuple(cleanup.unfinished(host.name)))
            return from_json(Survey, to_json(survey))  # each field has the type that rules expect
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise BadAnswer(host.name, f"its answer to survey: {error}") from None

    async def environments(self, job: Job) -> None:
        """Find out which of the environments of a job's roles hosts have."""

        async def one(name: str, survey: Survey) -> Survey:
            wanted = {e.key: e for e in needed_on(job, self.hosts[name]) if e.python}
            try:
                found = await self.agents[name].pythons(list(wanted)) if wanted else {}
            except HostError as error:
                self.findings.append(of_error(error))
                return survey
            there = {key: its[0] for key, its in found.items() if isinstance(its, tuple)}
            return replace(survey, facts=replace(survey.facts, pythons=there))

        surveyed = await asyncio.gather(*(one(*known) for known in self.surveys.items()))
        self.surveys = {survey.host: survey for survey in surveyed}

    async def modules(self, job: Job, chosen: Iterable[str] | None) -> None:
        """Have hosts load the modules of a job, as its run would. It is a warning where a host cannot
        that the job would not get."""
        without = replace(
            job,
            environment=None,
            roles=tuple(replace(role, environment=None) for role in job.roles),
        )
        on = None if chosen is None else frozenset(chosen)

        async def one(name: str) -> None:
            host = replace(self.hosts[name], environment=None)
            names = [role.name for role in job.roles] or [""]
            roles = [role for role in names if not is_in_image(job, host, role)]
            wanted = {modules_on(without, host, role): role for role in roles}
            for modules, role in wanted.items():
                if modules and (said := await self._cannot_load(without, host, role)):
                    level = ERROR if on is None or name in on else WARNING
                    hint = f"launcher exec --hosts {name} -- bash -lc 'module avail' lists them"
                    self.findings.append(found("JOB-MODULES", name, said, hint, level=level))

        await asyncio.gather(*(one(name) for name in self.surveys))

    async def _cannot_load(self, job: Job, host: Host, role: str) -> str:
        """Return why a host cannot load the modules of a job, or ""."""
        agent, node = self.agents[host.name], Node(host, 0, 0, 0, root=host.workdir)
        try:
            env = {**host.env, **job.envs}
            behind = on_trial(job, node, role)
            await agent.ask("search", modules=[], env=env, folder="/", behind=behind)
            return (await agent.answer(Missing, "found")).trouble
        except HostError as error:
            self.findings.append(of_error(error))
            return ""

    async def builders(self, job: Job, chosen: Iterable[str] | None) -> None:
        """Have hosts look for what builds the environments of a job there."""
        on = None if chosen is None else frozenset(chosen)
        for wanted in all_of(job):
            if wanted.recipe and not wanted.uv:
                there = await self._builders_of(wanted.builder)
                self.findings += of_builders(wanted, there, on)

    async def _builders_of(self, kind: str) -> dict[str, EnvironmentThere]:
        self.progress("looking for what builds the job's environment")
        there: dict[str, EnvironmentThere] = {}
        request = {"look": True, "builder": kind, "finder": builders.finder(kind)}

        async def one(name: str) -> None:
            try:
                there[name] = await self.agents[name].answer(
                    EnvironmentThere, "environment", **request
                )
            except HostError as error:
                self.findings.append(of_error(error))

        await asyncio.gather(*(one(name) for name in self.surveys))
        return {name: there[name] for name in self.surveys if name in there}

    def plugins(self) -> None:
        """Have checks of other packages look at what was measured."""
        checks = PLUGINS.each()
        for name, survey in self.surveys.items():
            self.findings += of_plugins(checks, survey, self.hosts[name])

    def fits(self, job: Job) -> Layout | None:
        """Return the layout that a job would get now, and add its findings."""
        layout, findings = of_job(job, list(self.hosts.values()), self.surveys)
        without = {name for f in findings if f.code == "JOB-FRAMEWORK" for name in f.hosts}
        self.findings = [
            f for f in self.findings if f.code != "TORCH-MISSING" or not without & set(f.hosts)
        ]
        self.findings += findings
        return layout

    async def images(
        self, job: Job, known: Sequence[tuple[Environment, ImageOfJob]], layout: Layout | None
    ) -> None:
        """Have surveyed hosts look for the images of a job as its run would: those that would run a role
        look for its image; where nobody knows which these are, all look for all."""
        self.progress("looking for the job's image")
        for wanted, file in known:
            names = list(self.surveys)
            on = frozenset(node.host.name for node in layout.nodes) if layout else None
            if layout and on is not None and job.has_several_environments:
                names = [
                    name for name in names if name in on and is_needed(job, layout, name, wanted)
                ]
            there = await self._images(job, wanted, file, names)
            roles = roles_with(job, wanted) if job.has_several_environments else ()
            self.findings += of_image(wanted.image, there, on, roles)

    async def _images(
        self, job: Job, wanted: Environment, file: ImageOfJob, names: Sequence[str]
    ) -> dict[str, Image]:
        there: dict[str, Image] = {}

        async def one(name: str) -> None:
            request = {
                **image_request(
                    job, wanted, self.surveys[name].facts, self.hosts[name].data_folder
                ),
                "pinned": _NO_IMAGE if file.is_unbuilt else file.id,
                "machine": file.machine,
            }
            try:
                while True:
                    there[name] = await self.agents[name].answer(
                        Image, "image", do="look", **request
                    )
                    if there[name].state != "working":
                        break
                    self.progress(f"image on {name}: {there[name].said}")
            except HostError as error:
                self.findings.append(of_error(error))

        await asyncio.gather(*map(one, names))
        return {name: there[name] for name in names if name in there}

    def runtimes(self) -> None:
        """Add what is wrong with the container runtimes of hosts."""
        for survey in self.surveys.values():
            self.findings += of_runtimes(survey)

    async def pairs(
        self, port_range: tuple[int, int], bandwidth: bool = True
    ) -> tuple[PairTest, ...]:
        """Have all pairs of surveyed hosts test their network."""
        if len(self.surveys) < 2:
            return ()
        pairs = Pairs(self.hosts, self.surveys, self.agents, self.progress)
        tests = await pairs.explore(ports_of(*port_range), bandwidth)
        self.findings += of_pairs(tests, self.surveys, self.hosts, port_range)
        return tests

    async def fix(self) -> list[str]:
        """Kill what earlier runs left on hosts, and drop those findings; return what was done."""
        done: list[str] = []
        left = [finding for finding in self.findings if finding.code in ENDED_BY_FIX]
        for name in dict.fromkeys(name for finding in left for name in finding.hosts):
            agent = self.agents[name]
            try:
                done += [
                    f"{name}: cleaned up leftovers of {run}"
                    for run in await cleanup.finish(agent, name)
                ]
                killed = (await agent.answer(Ended, "end_orphans")).ended
            except HostError:
                continue  # the finding stays
            if killed:
                processes = "1 process" if killed == 1 else f"{killed} processes"
                done.append(f"{name}: killed {processes} of earlier runs")
            self.findings = [f for f in self.findings if f not in left or name not in f.hosts]
        return done


def _of_inventory(error: HostError, host: Host) -> HostError:
    """Return the error; that the host's own environment is missing names where it was said."""
    own = host.environment and host.environment.python == host.python
    if not own or not isinstance(error, NoPython | PythonTooOld):
        return error
    hint = f"environment: of {host.name} in the inventory names it; {error.hint}"
    return type(error)(host.name, error.message, hint)


def _rsync_here() -> list[Finding]:
    try:
        version = rsync.require_here()
    except LauncherError as error:
        return rsync_here("", error, False)
    return rsync_here(version, None, rsync.rejects_extras(version))


async def _clock(agent: Agent) -> tuple[float, float]:
    """Return the shortest of some round trips, and the host's clock minus this machine's."""
    best = (float("inf"), 0.0)
    for _ in range(CLOCK_TRIPS):
        before, started = time.time(), time.monotonic()
        there = (await agent.answer(Clock, "clock")).time
        trip = time.monotonic() - started
        best = min(best, (trip, there - before - trip / 2))
    return best


async def check(
    visitor: Visitor,
    job: Job | None = None,
    fix: bool = False,
    pairs: bool = True,
    images: Sequence[tuple[Environment, ImageOfJob]] = (),
) -> tuple[Report, list[str]]:
    """Run the whole check; return its report and what was fixed. Connections stay open."""
    started = time.monotonic()
    await asyncio.gather(visitor.survey(questions_of(job) if job else Questions()), visitor.here())
    visitor.plugins()
    done = await visitor.fix() if fix else []
    visitor.findings += of_group(list(visitor.surveys.values()))
    facts = {name: survey.facts for name, survey in visitor.surveys.items()}
    visitor.findings += one_machine(list(visitor.hosts.values()), facts)
    if job and job.has_several_environments:
        await visitor.environments(job)
    layout = visitor.fits(job) if job else None
    chosen = [node.host.name for node in layout.nodes] if layout else None
    if job:
        await visitor.modules(job, chosen)
        await visitor.builders(job, chosen)
    if job and images:
        await visitor.images(job, images, layout)
    else:
        visitor.runtimes()
    ports = job.master_port if job else Job.master_port
    tests = await visitor.pairs(ports) if pairs else ()
    report = Report(
        tuple(visitor.surveys.values()),
        tests,
        fold(visitor.findings),
        time.monotonic() - started,
        tuple(node.host.name for node in layout.nodes) if layout else (),
    )
    return report, done
