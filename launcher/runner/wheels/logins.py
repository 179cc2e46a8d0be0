"""Logins for the files of indexes: those that are written somewhere, else what uv's own store and a
keyring have.

uv keeps logins (``uv auth login``), and asks ``keyring`` where it is told to. Both are asked by their
programs: no argument, variable or message has a password. Each server is asked for once.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...fleet import builders
from ...transport import index_logins
from ...transport.child_process import ChildProcess
from ..policy.wheels import Wheel

#: Seconds for uv to answer, which may have to refresh a token; and for somebody to unlock a keyring.
ANSWERING, UNLOCKING = 30.0, 120.0


class Logins:
    """The logins of a run. ``folder`` is where uv finds its settings; ``say`` hears who is asked."""

    def __init__(
        self,
        indexes: index_logins.Indexes,
        folder: Path,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._indexes, self._folder, self._environ, self._say = indexes, folder, environ, say
        self._asked: dict[tuple[object, str], str] = {}
        self._silent: set[str] = set()  # programs that have not answered

    async def learn(self, wheels: Sequence[Wheel]) -> None:
        """Ask for the logins of wheels for which none is written."""
        for one in wheels:
            if urllib.parse.urlsplit(one.source).scheme in ("http", "https"):
                key, login = _key(one), self._written(one)
                if not (login.is_whole or self.gets_none(one) or key in self._asked):
                    self._asked[key] = await self._ask(one, login.user)

    def of(self, one: Wheel) -> str:
        """Return the header for a wheel; "" for none."""
        if self.gets_none(one):
            return ""
        return self._asked.get(_key(one), "") or self._written(one).header

    def gets_none(self, one: Wheel) -> bool:
        """Return whether settings say that the server of a wheel is told no login, whoever has one."""
        return self._indexes.policy(one.source, one.index) == "never"

    def _written(self, one: Wheel) -> index_logins.Login:
        return index_logins.login(one.source, self._environ, self._indexes.named, one.index)

    async def _ask(self, one: Wheel, user: str) -> str:
        server = index_logins.server(one.source)
        urls = [one.index, *(url for _, url in self._indexes.named)]
        indexes = [index_logins.without(url) for url in urls if index_logins.server(url) == server]
        source = index_logins.without(one.source)
        places = dict.fromkeys([*indexes, source])
        for address in places:
            if found := await self._of_uv(address, user):
                return found
        is_wanted = "always" in (self._indexes.policies.get(url.rstrip("/")) for url in indexes)
        if not self._indexes.has_keyring or not (user or is_wanted):
            return ""
        for service in (*places, urllib.parse.urlsplit(source).netloc):
            if found := await self._of_keyring(service, user):
                return found
        return ""

    async def _of_uv(self, address: str, user: str) -> str:
        """Return what uv's store has; "" from one that cannot be asked."""
        if user:
            address = address.replace("://", f"://{urllib.parse.quote(user, safe='')}@", 1)
        argv = [builders.own("uv"), "auth", "helper", "--protocol", "bazel", "get"]
        said = await self._said(argv, ANSWERING, json.dumps({"uri": address}).encode())
        try:
            headers = json.loads(said)["headers"]
            return _one_line(next(iter(headers.get("Authorization", ())), ""))
        except (ValueError, LookupError, TypeError, AttributeError):
            return ""

    async def _of_keyring(self, service: str, user: str) -> str:
        """Return what the keyring has for a service, as uv asks it."""
        program = shutil.which("keyring", path=self._environ.get("PATH"))
        if not program:
            return ""
        self._say(f"asks keyring for the login of {service}")
        words = [service, user] if user else [service, "--mode", "creds"]
        lines = (await self._said([program, "get", *words], UNLOCKING)).splitlines()
        if not user and lines:
            user = lines.pop(0)
        return index_logins.basic(user, lines[0].rstrip()) if user and lines else ""

    async def _said(self, argv: Sequence[str], patience: float, asked: bytes = b"") -> str:
        """Return what a program prints; "" if it fails. What it says on stderr may be anything. Who says
        nothing for too long is not asked again: each file would wait as long."""
        if argv[0] in self._silent:
            return ""
        try:
            running = await ChildProcess.start(
                argv,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return ""
        try:
            async with asyncio.timeout(patience):
                return await _answer(running, asked)
        except TimeoutError:
            self._silent.add(argv[0])
            return ""
        finally:
            await running.end(signal.SIGKILL)  # with whom it asks in its turn


async def _answer(running: ChildProcess, asked: bytes) -> str:
    assert running.stdin
    assert running.stdout
    running.stdin.write(asked)
    running.stdin.close()
    out = await running.stdout.read()
    return "" if await running.wait() else out.decode("utf-8", "replace")


def _key(one: Wheel) -> tuple[object, str]:
    return index_logins.server(one.source), one.index


def _one_line(header: object) -> str:
    return header if isinstance(header, str) and header.isprintable() else ""
