"""Prepare bare hosts for jobs: inspect all, ask what is needed, install what is missing.

A failure on one host does not affect the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import fabric

from ...spec.environments import conda_name
from ...spec.errors import HostError, InputError
from ...spec.frozen import frozen
from ...spec.model import Host, Node, Secret
from ..fanout import Visited, visit_hosts
from . import interfaces, plan
from .inspection import Look
from .login import Logins, NeedsSudo
from .prompting import BROKEN, Asker, Rounds, Tell, blamed
from .request import BootstrapRequest
from .scripts import CHANGE_TIME, LOOK_TIME, look_at, run, upload

BUILD_HOROVOD = Path(__file__).parent / "build-horovod.sh"


@frozen
class HostOutcome:
    """The result for one host. ``changes`` were made, or would be with ``dry_run``."""

    host: str
    changes: tuple[plan.Change, ...] = ()
    problems: tuple[plan.Problem, ...] = ()
    notes: tuple[str, ...] = ()
    error: HostError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is None and not self.problems


@frozen
class _Seen:
    """An inspected host. ``sudo`` is the command to become root; None: not possible."""

    host: Host
    look: Look
    goal: plan.Goal
    decision: plan.Decision
    sudo: str | None = None


def bootstrap(request: BootstrapRequest, asker: Asker, tell: Tell) -> list[HostOutcome]:
    """Bootstrap all hosts; return the outcomes in the order of the hosts.

    ``tell(host, message)`` is called from several threads.
    """
    logins = Logins(request.inventory, [h.name for h in request.hosts], request.login_keys)
    rounds = Rounds(logins, asker, tell, save=not request.dry_run)
    try:
        return _Work(request, rounds, tell).outcomes()
    finally:
        rounds.close()


class _Work:
    def __init__(self, request: BootstrapRequest, rounds: Rounds, tell: Tell) -> None:
        self.request, self.rounds, self.tell = request, rounds, tell
        self.logins = rounds.logins

    def outcomes(self) -> list[HostOutcome]:
        hosts = {host.name: host for host in self.request.hosts}
        seen = self.rounds.all(hosts, self._look)
        looked = {name: found for name, found in seen.items() if isinstance(found, _Seen)}
        rights = self.rounds.all(looked, self._rights)
        changed = self.rounds.all(
            {name: _without(looked[name], found) for name, found in rights.items()},
            self._dry if self.request.dry_run else self._change,
        )
        found = {**seen, **rights, **changed}
        outcomes = [_outcome(name, found[name]) for name in hosts]
        if not self.request.dry_run:
            outcomes = self._verified(outcomes)
        return self._connected(outcomes) if "interface" in self.request.steps else outcomes

    # -- on one host

    def _look(self, host: Host) -> _Seen:
        connection = self.logins.connect(host.name)
        needs_key = (
            self.request.force_key or self.request.login_keys or self.logins.password(host.name)
        )
        key = self.request.keys(self.logins.endpoint(host.name).named_keys) if needs_key else None
        request = self.request
        build = BUILD_HOROVOD.read_text() if "horovod" in request.steps else ""
        if name := conda_name(host.python):
            raise InputError(
                f"{host.name}: bootstrap makes no conda environment, and python: names {name}",
                "make it there with conda, and leave the host out; or set python: to another one",
            )
        goal = plan.Goal(request.steps, host.python, key, request.requirements, request.venv, build)
        look = look_at(host, connection, goal)
        decision = plan.decide(look, goal)
        if needs_key and key is None and "key" in self.request.steps:
            problem = plan.Problem(
                "key",
                "you have no public key on this machine",
                "create one with ssh-keygen -t ed25519, or name one with --key FILE",
            )
            decision = replace(decision, problems=(problem, *decision.problems))
        return _Seen(host, look, goal, decision)

    def _rights(self, seen: _Seen) -> _Seen:
        """Find out how to become root, if any change needs it."""
        if not seen.decision.needs_root or seen.look.is_root:
            return replace(seen, sudo="")
        name = seen.host.name
        connection = self.logins.connect(name)
        outcome = run(name, connection, "command -v sudo >/dev/null && sudo -n true", LOOK_TIME)
        if outcome.ok:
            return replace(seen, sudo="sudo -n")
        why = f"{seen.look.user} is not root, and there is no sudo"
        if run(name, connection, "command -v sudo", LOOK_TIME).ok:
            if self.request.dry_run:
                note = f"sudo will ask for the password of {seen.look.user}"
                return replace(seen, decision=_noted(seen.decision, note))
            password = self.rounds.sudo.get(name) or self.logins.password(name)
            if password is None:
                raise NeedsSudo(name, self.logins.endpoint(name), refused=False)
            outcome = run(name, connection, "", LOOK_TIME, root=("sudo", password))
            if outcome.ok:
                self.rounds.sudo[name] = password
                return replace(seen, sudo="sudo")
            if outcome.refused:
                raise NeedsSudo(name, self.logins.endpoint(name), refused=True)
            why = outcome.message
        return replace(seen, decision=plan.without_root(seen.decision, why))

    def _dry(self, seen: _Seen) -> HostOutcome:
        decision = seen.decision
        return HostOutcome(seen.host.name, decision.changes, decision.problems, decision.notes)

    def _change(self, seen: _Seen) -> HostOutcome:
        problems = list(seen.decision.problems)
        made: list[plan.Change] = []
        error: HostError | None = None
        try:
            self._make(seen, made, problems)
        except (HostError, *BROKEN) as broken:  # changes made so far are still reported
            error = blamed(seen.host.name, broken)
        return HostOutcome(seen.host.name, tuple(made), tuple(problems), seen.decision.notes, error)

    def _make(self, seen: _Seen, made: list[plan.Change], problems: list[plan.Problem]) -> None:
        host = seen.host
        connection = self.logins.connect(host.name)
        for change in seen.decision.changes:
            failed = [problem.step for problem in problems]
            if change.step in failed:
                continue
            if before := plan.blocked(change.step, failed):
                message = f"not tried, because {before} failed"
                problems.append(plan.Problem(change.step, message, ""))
                continue
            self.tell(host.name, f"{change.what} ...")
            if problem := self._apply(seen, connection, change):
                problems.append(problem)
            else:
                made.append(change)
        if made:  # verify it
            left = plan.decide(look_at(host, connection, seen.goal), seen.goal).changes
            for step in {c.step for c in made} - {problem.step for problem in problems}:
                problems += [
                    plan.Problem(step, f"no error, but it had no effect: {change.what}", "")
                    for change in left
                    if change.step == step
                ]

    def _apply(
        self, seen: _Seen, connection: fabric.Connection, change: plan.Change
    ) -> plan.Problem | None:
        name = seen.host.name
        wrong = upload(connection, change.upload_to, change.upload) if change.upload else ""
        if wrong:
            return plan.Problem(change.step, wrong, "safe to run again")
        root = None
        if change.root and seen.sudo:
            root = (seen.sudo, self.rounds.sudo.get(name, Secret("")))
        outcome = run(name, connection, change.script, CHANGE_TIME, root)
        if outcome.ok:
            return None
        message = f"could not {change.what}: {outcome.message}"
        return plan.Problem(change.step, message, outcome.hint)

    # -- verification

    def _verified(self, outcomes: list[HostOutcome]) -> list[HostOutcome]:
        """Check that the agent answers, over the connection that runs use.

        With steps left out it may not, which is a note and no error.
        """
        fine = {outcome.host for outcome in outcomes if outcome.ok}
        nodes = [Node(h, 0, 0, 0, root=h.workdir) for h in self.request.hosts if h.name in fine]
        whole = self.request.steps >= plan.USUAL

        async def greet(visited: Visited) -> None:
            await (await visited.agent()).close()

        ask = self.request.ask_passphrase
        greeted = asyncio.run(visit_hosts(self.request.inventory, "", nodes, greet, ask))
        verified = []
        for outcome in outcomes:
            error = greeted.get(outcome.host)
            if error and whole:
                outcome = replace(outcome, error=error)
            elif error:
                outcome = replace(
                    outcome, notes=(*outcome.notes, f"not ready yet: {error.message}")
                )
            verified.append(outcome)
        return verified

    # -- interfaces

    def _connected(self, outcomes: list[HostOutcome]) -> list[HostOutcome]:
        """Set the interfaces by which the ready hosts reach each other."""
        request = self.request
        fine = {o.host for o in outcomes if o.ok and not (request.dry_run and o.changes)}
        if request.dry_run and len(outcomes) > 1:  # no agent runs where something is missing
            later = "its interface is checked once the host is ready"
            outcomes = [
                replace(o, notes=(*o.notes, later)) if o.ok and o.changes else o for o in outcomes
            ]
        hosts = [host for host in request.hosts if host.name in fine]
        changes, wrong = interfaces.interfaces(request, hosts)
        for host, change in changes.items():
            self.tell(host, f"{change.what} ...")
        return [_with(outcome, changes.get(outcome.host), wrong) for outcome in outcomes]


def _with(outcome: HostOutcome, change: plan.Change | None, wrong: str) -> HostOutcome:
    """Add a change, or a note why it could not be written; the host is ready without it."""
    if change is None:
        return outcome
    if wrong:
        return replace(outcome, notes=(*outcome.notes, f"could not {change.what}: {wrong}"))
    return replace(outcome, changes=(*outcome.changes, change))


def _outcome(name: str, found: object) -> HostOutcome:
    if isinstance(found, HostOutcome):
        return found
    assert isinstance(found, HostError)
    return HostOutcome(name, error=found)


def _without(seen: _Seen, found: object) -> _Seen:
    """Return what can be done on a host without root."""
    if isinstance(found, _Seen):
        return found
    assert isinstance(found, HostError)
    return replace(seen, decision=plan.without_root(seen.decision, found.message))


def _noted(decision: plan.Decision, note: str) -> plan.Decision:
    return replace(decision, notes=(*decision.notes, note))
