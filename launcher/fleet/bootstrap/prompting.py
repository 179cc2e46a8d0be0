"""Works on many hosts at once, and asks a person in between: never from a thread, never twice.

A host that needs an answer waits until all others have got as far; then host keys are asked about
first, since no password goes to a host that is not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import paramiko
from invoke import exceptions as invoked

from ...spec import errors
from ...spec.errors import HostError
from ...spec.model import Secret
from .login import Logins, NeedsPassword, NeedsSudo, Question, UnknownKey

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


class Rounds:
    """The threads, and the answers so far. ``sudo`` has passwords by host.

    ``save``: keys that are accepted go into known_hosts.
    """

    def __init__(self, logins: Logins, asker: Asker, tell: Tell, save: bool) -> None:
        self.logins, self.asker, self.tell = logins, asker, tell
        self.sudo: dict[str, Secret] = {}
        self._save = save
        self._pool = ThreadPoolExecutor(AT_ONCE, "bootstrap")
        self._tries: dict[tuple[str, str], int] = {}
        self._typed: dict[tuple[str, str], Secret] = {}

    def close(self) -> None:
        """Ends everything, also what is being done at this moment."""
        self.logins.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def all(self, items: Mapping[str, T], work: Callable[[T], object]) -> dict[str, object]:
        """What came of it on every host: a value or a HostError."""
        found: dict[str, object] = {}
        waiting = list(items)
        while waiting:
            started = {
                name: self._pool.submit(_caught, name, work, items[name]) for name in waiting
            }
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
            refused = isinstance(question, NeedsPassword | NeedsSudo) and question.refused
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
            file = self.logins.trust(name, way, key, save=self._save)
        except HostError as error:
            return error
        if not self._save:
            self.tell(name, f"its host key would be added to {file}")
        else:
            self.tell(name, f"its host key {key.fingerprint} was added to {file}")
        return None

    def _ask_password(
        self, kind: str, user: str, refused: bool, group: Sequence[Question]
    ) -> dict[str, HostError | None]:
        names = [question.subject for question in group]
        given = None if refused else self._typed.get((kind, user))
        worn_out = [n for n in names if self._tries.get((kind, n), 0) >= TRIES]
        left = [name for name in names if name not in worn_out]
        if given is None and left:
            given = self.asker.password(user, left, kind, refused)
        answers: dict[str, HostError | None] = {}
        for name in names:
            self._tries[kind, name] = self._tries.get((kind, name), 0) + 1
            if given is None or name in worn_out:
                answers[name] = _no_password(name, user, kind, refused)
                continue
            self._typed[kind, user] = given
            if kind == "sudo":
                self.sudo[name] = given
            else:
                self.logins.answer(name, given)
            answers[name] = None
        return answers


#: What paramiko, Fabric and the system raise when a connection breaks off.
BROKEN = (paramiko.SSHException, EOFError, OSError, invoked.ThreadException)


def _caught(name: str, work: Callable[[T], object], item: T) -> object:
    """Its value; questions and what a host can be blamed for are values, too."""
    try:
        return work(item)
    except Question as question:
        return question
    except (HostError, *BROKEN) as error:
        return blamed(name, error)


def blamed(name: str, error: BaseException) -> HostError:
    """The error that a host is told with."""
    if isinstance(error, HostError):
        return error
    words = str(error) or type(error).__name__
    if isinstance(error, invoked.ThreadException):
        words = ", ".join(str(inner.value) for inner in error.exceptions)
    return errors.ConnectionLost(name, f"the connection broke off: {words}", "safe to run again")


def _kind(question: Question) -> str:
    return "sudo" if isinstance(question, NeedsSudo) else "login"


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
