"""Work on many hosts at once, and ask a person between rounds: never from a thread, never twice.

A host that needs an answer waits until the round is over. Host keys come first: no password goes to
an untrusted host.
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

#: The most hosts to work on at once.
AT_ONCE = 16
#: How often a password may be wrong on one host.
TRIES = 3

T = TypeVar("T")
Tell = Callable[[str, str], None]


class Asker(Protocol):
    """A person, or a stand-in for one. None and False mean "no"."""

    def trust(self, subject: str, where: str, kind: str, fingerprint: str) -> bool:
        """Return whether a host's key is the right one."""

    def password(self, user: str, hosts: Sequence[str], what: str, again: bool) -> Secret | None:
        """Return the password of a user on hosts; ``what`` is "login" or "sudo"."""


class Rounds:
    """The threads and the answers so far. ``sudo`` has passwords by host.

    With ``save``, accepted keys are added to known_hosts.
    """

    def __init__(self, logins: Logins, asker: Asker, tell: Tell, save: bool) -> None:
        self.logins, self.asker, self.tell = logins, asker, tell
        self.sudo: dict[str, Secret] = {}
        self._save = save
        self._pool = ThreadPoolExecutor(AT_ONCE, "bootstrap")
        self._tries: dict[tuple[str, str], int] = {}
        self._typed: dict[tuple[str, str], Secret] = {}

    def close(self) -> None:
        """Stop everything, including work in progress."""
        self.logins.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def all(self, items: Mapping[str, T], work: Callable[[T], object]) -> dict[str, object]:
        """Do the work on every host; return a value or a HostError for each."""
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
        """Ask the questions; return an error by subject, or None to continue. Keys come first."""
        by_subject = {question.subject: question for question in questions}
        unknown = {n: q for n, q in by_subject.items() if isinstance(q, UnknownKey)}
        if unknown:
            others: dict[str, HostError | None] = dict.fromkeys(by_subject)
            return others | {name: self._ask_trust(q) for name, q in unknown.items()}
        answers: dict[str, HostError | None] = {}
        groups: dict[tuple[str, str, bool], list[Question]] = {}
        for question in by_subject.values():
            refused = isinstance(question, NeedsPassword | NeedsSudo) and question.refused
            groups.setdefault((_kind(question), question.endpoint.user, refused), []).append(
                question
            )
        for (kind, user, refused), group in groups.items():
            answers |= self._ask_password(kind, user, refused, group)
        return answers

    def _ask_trust(self, question: UnknownKey) -> HostError | None:
        name, endpoint, key = question.subject, question.endpoint, question.key
        where = f"{endpoint.host} port {endpoint.port}"
        if not self.asker.trust(name, where, key.get_name(), key.fingerprint):
            return errors.UnknownHostKey(
                name,
                f"the host key {key.fingerprint} is not in known_hosts and was not accepted",
                "compare it on the machine's console: ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub; in scripts: --accept-new",
            )
        try:
            file = self.logins.trust(name, endpoint, key, save=self._save)
        except HostError as error:
            return error
        if not self._save:
            self.tell(name, f"would add the host key to {file}")
        else:
            self.tell(name, f"added the host key {key.fingerprint} to {file}")
        return None

    def _ask_password(
        self, kind: str, user: str, refused: bool, group: Sequence[Question]
    ) -> dict[str, HostError | None]:
        names = [question.subject for question in group]
        given = None if refused else self._typed.get((kind, user))
        exhausted = [n for n in names if self._tries.get((kind, n), 0) >= TRIES]
        left = [name for name in names if name not in exhausted]
        if given is None and left:
            given = self.asker.password(user, left, kind, refused)
        answers: dict[str, HostError | None] = {}
        for name in names:
            self._tries[kind, name] = self._tries.get((kind, name), 0) + 1
            if given is None or name in exhausted:
                answers[name] = _no_password(name, user, kind, refused)
                continue
            self._typed[kind, user] = given
            if kind == "sudo":
                self.sudo[name] = given
            else:
                self.logins.answer(name, given)
            answers[name] = None
        return answers


#: What paramiko, Fabric and the system raise when a connection drops.
BROKEN = (paramiko.SSHException, EOFError, OSError, invoked.ThreadException)


def _caught(name: str, work: Callable[[T], object], item: T) -> object:
    """Return the value of the work; questions and a host's errors are values, too."""
    try:
        return work(item)
    except Question as question:
        return question
    except (HostError, *BROKEN) as error:
        return blamed(name, error)


def blamed(name: str, error: BaseException) -> HostError:
    """Return an exception as an error of the host."""
    if isinstance(error, HostError):
        return error
    message = str(error) or type(error).__name__
    if isinstance(error, invoked.ThreadException):
        message = ", ".join(str(inner.value) for inner in error.exceptions)
    return errors.ConnectionLost(name, f"the connection dropped: {message}", "safe to run again")


def _kind(question: Question) -> str:
    return "sudo" if isinstance(question, NeedsSudo) else "login"


def _about(name: str, error: HostError) -> HostError:
    """Return an error of a jump host as one of the host behind it."""
    if error.host == name:
        return error
    return type(error)(name, f"jump host {error.host}: {error.message}", error.hint)


def _no_password(name: str, user: str, kind: str, refused: bool) -> HostError:
    if refused:
        return errors.AuthenticationFailed(
            name,
            f"wrong {'sudo ' if kind == 'sudo' else ''}password for {user}",
            "run it again with the right one; what is done stays done",
        )
    if kind == "sudo":
        what = f"sudo needs the password of {user}"
    else:
        what = f"login as {user} needs a password"
    return errors.AuthenticationFailed(
        name, f"{what}, and none was given", "run it in a terminal, where launcher can ask"
    )
