"""Makes bare hosts ready for jobs: looks at all of them, asks what it has to, changes what is missing.

Not responsible for what to change (:mod:`launcher.bootstrap_plan`), nor for how a question is put
to a person (:class:`Asker`). Hosts are worked on at once; what goes wrong on one stays there.
Nobody is asked from a thread: a host that needs an answer waits until all others have got as far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import fabric
import paramiko
from invoke import exceptions as invoked

from . import bootstrap_plan as plan
from . import errors
from .errors import HostError
from .login import Logins, NeedsPassword, Question, UnknownKey
from .look import Look
from .model import Host, Inventory, Node, Secret
from .scripts import CHANGE_TIME, LOOK_TIME, look_at, run, upload
from .ssh import AskPassphrase
from .visit import Place, visit_hosts

#: Hosts that are worked on at once.
AT_ONCE = 16
#: How often a password may be wrong on a host.
TRIES = 3

T = TypeVar("T")
Tell = Callable[[str, str], None]


class Asker(Protocol):
    """A person, or what stands for one. None and False are "no"."""

    def trust(self, subject: str, where: str, kind: str, fingerprint: str) -> bool:
        """Whether a host's key is the right one."""

    def password(self, user: str, hosts: Sequence[str], what: str, again: bool) -> Secret | None:
        """The password of a user there; ``what`` is "login" or "sudo"."""


@dataclass(frozen=True)
class Request:
    """What to do, and where. ``keys`` has a line of authorized_keys for each host, or None.

    ``force_key``: install it also where logging in needs no password.
    """

    inventory: Inventory
    hosts: tuple[Host, ...]
    steps: frozenset[str]
    keys: Callable[[tuple[str, ...]], str | None]
    force_key: bool = False
    login_keys: tuple[str, ...] = ()
    requirements: str | None = None
    venv: str | None = None
    dry_run: bool = False
    ask_passphrase: AskPassphrase | None = None


@dataclass(frozen=True)
class Outcome:
    """How one host stands. ``changes`` were made, or would be with ``dry_run``."""

    host: str
    changes: tuple[plan.Change, ...] = ()
    problems: tuple[plan.Problem, ...] = ()
    notes: tuple[str, ...] = ()
    error: HostError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is left to do there."""
        return self.error is None and not self.problems


@dataclass(frozen=True)
class _Seen:
    """A host that was looked at, and the way to become root there: None for "not at all"."""

    host: Host
    look: Look
    wish: plan.Wish
    decision: plan.Decision
    sudo: str | None = None


class _AskSudo(Question):
    """A sudo that wants a password."""

    def __init__(self, seen: _Seen, logins: Logins, refused: bool) -> None:
        super().__init__(seen.host.name, logins.way(seen.host.name))
        self.seen = seen
        self.refused = refused


def bootstrap(request: Request, asker: Asker, tell: Tell) -> list[Outcome]:
    """Does all of it and returns how every host stands, in their order.

    ``tell(host, words)`` is called from several threads.
    """
    logins = Logins(request.inventory, [h.name for h in request.hosts], request.login_keys)
    try:
        return _Work(request, asker, tell, logins).outcomes()
    finally:
        logins.close()


class _Work:
    def __init__(self, request: Request, asker: Asker, tell: Tell, logins: Logins) -> None:
        self.request, self.asker, self.tell, self.logins = request, asker, tell, logins
        self.pool = ThreadPoolExecutor(AT_ONCE, "bootstrap")
        self.tries: dict[tuple[str, str], int] = {}
        self.sudo: dict[str, Secret] = {}
        self.typed: dict[tuple[str, str], Secret] = {}

    def outcomes(self) -> list[Outcome]:
        hosts = {host.name: host for host in self.request.hosts}
        try:
            seen = self._all(hosts, self._look)
            looked = {name: found for name, found in seen.items() if isinstance(found, _Seen)}
            rights = self._all(looked, self._rights)
            changed = self._all(
                {name: found for name, found in rights.items() if isinstance(found, _Seen)},
                self._dry if self.request.dry_run else self._change,
            )
        finally:
            self.pool.shutdown(wait=False, cancel_futures=True)
        found = {**seen, **rights, **changed}
        outcomes = [_outcome(name, found[name]) for name in hosts]
        return outcomes if self.request.dry_run else self._proved(outcomes)

    # -- all hosts at once, and questions in between

    def _all(self, items: Mapping[str, T], work: Callable[[T], object]) -> dict[str, object]:
        """What came of it on every host: a value or a HostError."""
        found: dict[str, object] = {}
        waiting = list(items)
        while waiting:
            started = {name: self.pool.submit(_caught, name, work, items[name]) for name in waiting}
            found |= {name: task.result() for name, task in started.items()}
            asked = {name: found[name] for name in waiting if isinstance(found[name], Question)}
            answers = self._ask([q for q in asked.values() if isinstance(q, Question)])
            waiting = []
            for name, question in asked.items():
                assert isinstance(question, Question)
                refusal = answers[question.subject]
                if refusal is None:
                    waiting.append(name)
                else:
                    found[name] = _about(name, refusal)
        return found

    def _ask(self, questions: Sequence[Question]) -> dict[str, HostError | None]:
        """Answers, by subject: None to go on, or why not. Keys first, as no password goes before."""
        by_subject = {question.subject: question for question in questions}
        unknown = {n: q for n, q in by_subject.items() if isinstance(q, UnknownKey)}
        if unknown:
            others: dict[str, HostError | None] = dict.fromkeys(by_subject)
            return others | {name: self._ask_trust(q) for name, q in unknown.items()}
        answers: dict[str, HostError | None] = {}
        groups: dict[tuple[str, str, bool], list[Question]] = {}
        for question in by_subject.values():
            refused = isinstance(question, NeedsPassword | _AskSudo) and question.refused
            groups.setdefault((_kind(question), question.way.user, refused), []).append(question)
        for (kind, user, refused), group in groups.items():
            answers |= self._ask_password(kind, user, refused, group)
        return answers

    def _ask_trust(self, question: UnknownKey) -> HostError | None:
        name, way, key = question.subject, question.way, question.key
        where = f"{way.host} port {way.port}"
        if not self.asker.trust(name, where, key.get_name(), key.fingerprint):
            return errors.UnknownHostKey(
                name,
                f"its host key ({key.fingerprint}) is not in known_hosts, and was not accepted",
                "compare it with what the machine's console says: ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub; for scripts: --accept-new",
            )
        try:
            file = self.logins.trust(name, way, key, save=not self.request.dry_run)
        except HostError as error:
            return error
        if self.request.dry_run:
            self.tell(name, f"its host key would be added to {file}")
        else:
            self.tell(name, f"its host key {key.fingerprint} was added to {file}")
        return None

    def _ask_password(
        self, kind: str, user: str, refused: bool, group: Sequence[Question]
    ) -> dict[str, HostError | None]:
        names = [question.subject for question in group]
        given = None if refused else self.typed.get((kind, user))
        worn_out = [n for n in names if self.tries.get((kind, n), 0) >= TRIES]
        left = [name for name in names if name not in worn_out]
        if given is None and left:
            given = self.asker.password(user, left, kind, refused)
        answers: dict[str, HostError | None] = {}
        for name in names:
            self.tries[kind, name] = self.tries.get((kind, name), 0) + 1
            if given is None or name in worn_out:
                answers[name] = _no_password(name, user, kind, refused)
                continue
            self.typed[kind, user] = given
            if kind == "sudo":
                self.sudo[name] = given
            else:
                self.logins.answer(name, given)
            answers[name] = None
        return answers

    # -- what is done on one host

    def _look(self, host: Host) -> _Seen:
        connection = self.logins.connect(host.name)
        needs_key = (
            self.request.force_key or self.request.login_keys or self.logins.password(host.name)
        )
        key = self.request.keys(self.logins.way(host.name).keys) if needs_key else None
        wish = plan.Wish(
            self.request.steps, host.python, key, self.request.requirements, self.request.venv
        )
        look = look_at(host, connection, wish)
        decision = plan.decide(look, wish)
        if needs_key and key is None and "key" in self.request.steps:
            problem = plan.Problem(
                "key",
                "there is no public key of yours on this machine",
                "ssh-keygen -t ed25519, or --key FILE",
            )
            decision = replace(decision, problems=(problem, *decision.problems))
        return _Seen(host, look, wish, decision)

    def _rights(self, seen: _Seen) -> _Seen:
        """Finds out how to become root, where that is needed."""
        if not seen.decision.needs_root or seen.look.is_root:
            return replace(seen, sudo="")
        name = seen.host.name
        connection = self.logins.connect(name)
        told = run(name, connection, "command -v sudo >/dev/null && sudo -n true", LOOK_TIME)
        if told.ok:
            return replace(seen, sudo="sudo -n")
        if run(name, connection, "command -v sudo", LOOK_TIME).ok:
            password = self.sudo.get(name) or self.logins.password(name)
            if password is None:
                raise _AskSudo(seen, self.logins, refused=False)
            told = run(name, connection, "", LOOK_TIME, root=("sudo", password))
            if told.ok:
                self.sudo[name] = password
                return replace(seen, sudo="sudo")
            if told.refused:
                raise _AskSudo(seen, self.logins, refused=name in self.sudo)
        return replace(seen, decision=plan.without_root(seen.decision, seen.look))

    def _dry(self, seen: _Seen) -> Outcome:
        decision = seen.decision
        return Outcome(seen.host.name, decision.changes, decision.problems, decision.notes)

    def _change(self, seen: _Seen) -> Outcome:
        problems = list(seen.decision.problems)
        made: list[plan.Change] = []
        error: HostError | None = None
        try:
            self._make(seen, made, problems)
        except (HostError, *_BROKEN) as broken:  # what was done is told all the same
            error = _blamed(seen.host.name, broken)
        return Outcome(seen.host.name, tuple(made), tuple(problems), seen.decision.notes, error)

    def _make(self, seen: _Seen, made: list[plan.Change], problems: list[plan.Problem]) -> None:
        host = seen.host
        connection = self.logins.connect(host.name)
        for change in seen.decision.changes:
            failed = [problem.step for problem in problems]
            if change.step in failed:
                continue
            if before := plan.blocked(change.step, failed):
                problems.append(plan.Problem(change.step, f"not tried, for want of {before}", ""))
                continue
            self.tell(host.name, f"{change.what} ...")
            if problem := self._apply(seen, connection, change):
                problems.append(problem)
            else:
                made.append(change)
        if made:  # what was done must be seen
            left = plan.decide(look_at(host, connection, seen.wish), seen.wish).changes
            for step in {c.step for c in made} - {problem.step for problem in problems}:
                problems += [
                    plan.Problem(step, f"no error, and yet it did not help: {change.what}", "")
                    for change in left
                    if change.step == step
                ]

    def _apply(
        self, seen: _Seen, connection: fabric.Connection, change: plan.Change
    ) -> plan.Problem | None:
        name = seen.host.name
        wrong = upload(connection, change.place, change.upload) if change.upload else ""
        if wrong:
            return plan.Problem(change.step, wrong, "safe to run again")
        root = None
        if change.root and seen.sudo:
            root = (seen.sudo, self.sudo.get(name, Secret("")))
        told = run(name, connection, change.script, CHANGE_TIME, root)
        if told.ok:
            return None
        return plan.Problem(change.step, f"could not {change.what}: {told.said}", told.hint)

    # -- whether it is enough

    def _proved(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The agent answers over the connection that runs use. Where steps were left out it may not."""
        fine = {outcome.host for outcome in outcomes if outcome.ok}
        nodes = [Node(h, 0, 0, 0, root=h.workdir) for h in self.request.hosts if h.name in fine]
        whole = {step.name for step in plan.STEPS if not step.optional} <= self.request.steps

        async def greet(place: Place) -> None:
            await (await place.agent()).close()

        ask = self.request.ask_passphrase
        told = asyncio.run(visit_hosts(self.request.inventory, "", nodes, greet, ask))
        proved = []
        for outcome in outcomes:
            error = told.get(outcome.host)
            if error and whole:
                outcome = replace(outcome, error=error)
            elif error:
                outcome = replace(
                    outcome, notes=(*outcome.notes, f"not ready yet: {error.message}")
                )
            proved.append(outcome)
        return proved


#: What paramiko, Fabric and the system raise when a connection breaks off.
_BROKEN = (paramiko.SSHException, EOFError, OSError, invoked.ThreadException)


def _caught(name: str, work: Callable[[T], object], item: T) -> object:
    """Its value; questions and what a host can be blamed for are values, too."""
    try:
        return work(item)
    except Question as question:
        return question
    except (HostError, *_BROKEN) as error:
        return _blamed(name, error)


def _blamed(name: str, error: BaseException) -> HostError:
    if isinstance(error, HostError):
        return error
    words = str(error) or type(error).__name__
    if isinstance(error, invoked.ThreadException):
        words = ", ".join(str(inner.value) for inner in error.exceptions)
    return errors.ConnectionLost(name, f"the connection broke off: {words}", "safe to run again")


def _outcome(name: str, found: object) -> Outcome:
    if isinstance(found, Outcome):
        return found
    assert isinstance(found, HostError)
    return Outcome(name, error=found)


def _kind(question: Question) -> str:
    return "sudo" if isinstance(question, _AskSudo) else "login"


def _about(name: str, error: HostError) -> HostError:
    """An error of a jump host, as that of the host behind it."""
    if error.host == name:
        return error
    return type(error)(name, f"its jump host {error.host}: {error.message}", error.hint)


def _no_password(name: str, user: str, kind: str, refused: bool) -> HostError:
    if refused:
        return errors.AuthenticationFailed(
            name,
            f"it does not take that {'sudo ' if kind == 'sudo' else ''}password of {user}",
            "again with the right one; what was done stays done",
        )
    what = "sudo wants a password" if kind == "sudo" else f"it lets {user} in by password only"
    return errors.AuthenticationFailed(
        name, f"{what}, and none was given", "run it in a terminal, where it can be asked for"
    )
