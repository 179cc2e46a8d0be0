"""Explain what ssh(1) printed when it did not get in, in the words of asyncssh's logins. Pure."""

from __future__ import annotations

import shlex

from ..spec import errors
from ..spec.patterns import pattern
from .connection import FROZEN

#: How ssh names a peer behind a jump host or a ProxyCommand: nobody knows which of them was silent.
_THROUGH_PROXY = "UNKNOWN port"
_DIALLED = pattern(r"connect to host (\S+) port (\d+): (.+)")
_UNKNOWN_KEY = pattern(r"No (\S+) host key is known for (\S+)")
_CHANGED_KEY = pattern(r"Host key for (\S+) has changed")
_FINGERPRINT = pattern(r"\b(?:SHA256:|MD5:)\S*[^\s.]")
_UNREACHABLE = ("timed out", "No route", "resolve hostname", "unreachable")


def explained(host: str, text: str) -> errors.ConnectError:
    """Return the error for what ssh(1) printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].removeprefix("ssh: ") if lines else "ssh gave no reason"
    hint = f"does `ssh {host}` work without a question?"
    if "Host key verification failed" in text:
        return _bad_host_key(host, text)
    if "Permission denied" in text or "Too many authentication" in text:
        return errors.AuthenticationFailed(host, f"ssh: {last}", hint)
    if "timed out during banner exchange" in text:
        return _silent(host, text)
    if dialled := _DIALLED.search(text):
        return _not_dialled(host, *dialled.groups())
    if any(words in text for words in _UNREACHABLE):
        hint = f"does `ssh {host}` work from this machine?"
        return errors.Unreachable(host, f"cannot reach it: {last}", hint)
    return errors.ConnectError(host, f"ssh: {last}", hint)


def _not_dialled(host: str, address: str, port: str, why: str) -> errors.ConnectError:
    where, why = f"{address} port {port}", why.strip()
    if why == "Connection refused":
        hint = "is sshd running there, and is the port right?"
        return errors.Refused(host, f"nothing listens on {where}", hint)
    if why == "Connection timed out":
        hint = "is the host on, and is the address right? or does a firewall drop packets?"
        return errors.Unreachable(host, f"cannot reach {where}: no answer", hint)
    hint = f"does `ssh {host}` work from this machine?"
    return errors.Unreachable(host, f"cannot reach {where}: {why}", hint)


def _silent(host: str, text: str) -> errors.ConnectError:
    if _THROUGH_PROXY in text:
        hint = f"does `ssh {host}` work from this machine?"
        why = "no answer through its jump host or ProxyCommand"
        return errors.Unreachable(host, why, hint)
    why = "it accepts connections, but its SSH server does not answer (greeting)"
    return errors.NoBanner(host, why, FROZEN)


def _bad_host_key(host: str, text: str) -> errors.ConnectError:
    if changed := _CHANGED_KEY.search(text):
        found = _FINGERPRINT.search(text)
        to = f" to {found.group()}" if found else ""
        return errors.HostKeyMismatch(
            host,
            f"the host key changed{to} (the host was reinstalled, or somebody intercepts the "
            "connection)",
            "ask the admin for the fingerprint; if it is right, run "
            f"ssh-keygen -R {shlex.quote(changed.group(1))}, then ssh {host}",
        )
    kind = (
        f"the {unknown.group(1)} host key"
        if (unknown := _UNKNOWN_KEY.search(text))
        else "the host key"
    )
    return errors.UnknownHostKey(
        host,
        f"{kind} is not in known_hosts",
        f"ask the admin for the fingerprint and compare; then accept it once with ssh {host}",
    )
