"""Tell a person who is not watching: the end of a run, a stall, a lost host.

Where to is noted beside the run on this machine alone (``notify.json``): a webhook's address is a
secret, and no record that hosts hold may name a command to run here. ``NAME:WHERE`` is for a plug-in, an
entry point of the group ``launcher.notifiers``, and ``apprise:URL`` for apprise: both have a process of
their own, which can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ..records import events as ev
from ..records.record_files import read_as, write_record
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.plugins import Plugins, function_of
from ..spec.version import __version__
from ..transport.child_process import ChildProcess
from . import apprise

NOTE = "notify.json"
DESKTOP, BELL = "desktop", "bell"
#: What ``--notify`` takes, for people.
PLACES = "a URL, desktop, bell, apprise:URL, or a command"
#: Seconds for a notification to be sent.
PATIENCE = 10.0
#: The process in which apprise and plug-ins send, and the variable that tells it where to.
_APART = [sys.executable, "-P", "-m", "launcher.runner.notifier"]
WHERE = "LAUNCHER_NOTIFY"
#: Characters of what a failed command complained of.
COMPLAINT = 300


@frozen
class _Note:
    """The contents of ``notify.json``."""

    to: tuple[str, ...] = ()


@frozen
class News:
    """Something that a person wants to hear: ``event`` is ended, stalled, lost or began."""

    run: str
    event: str
    text: str
    status: str = ""
    reason: str = ""
    host: str = ""


#: Sends news to what stands behind the colon of ``NAME:WHERE``, and raises what goes wrong.
Send = Callable[[News, str], object]


PLUGINS: Plugins[Send] = Plugins("launcher.notifiers", "notifier", function_of("News and a text"))
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FOR_PLUGIN = re.compile(r"([a-z][a-z0-9_-]*):(?!//)(\S.*)?")


def check(to: Sequence[str]) -> None:
    """Raise InputError for what is no place to send to."""
    for one in map(str.strip, to):
        if not one:
            raise InputError("--notify: it is empty", PLACES)
        if (url := _for_apprise(one)) is not None:
            apprise.check(url)
        elif _is_webhook(one):
            _require_address(one)
        elif scheme := _URL.match(one):
            raise InputError(
                f"--notify {scheme[0]}...: news goes to http:// and https:// addresses",
                f"{apprise.PREFIX}{scheme[0]}..., if it is of a service that apprise knows",
            )
        elif (named := _FOR_PLUGIN.fullmatch(one)) and PLUGINS.get(named[1]) is None:
            known = ", ".join(PLUGINS.names())
            raise InputError(
                f'--notify {named[1]}:...: no notifier "{named[1]}" is installed',
                f"{f'installed: {known}; ' if known else ''}without one: {PLACES}",
            )


def _for_apprise(to: str) -> str | None:
    """Return the URL that is for apprise, if one is."""
    is_for_it = to.lower().startswith(apprise.PREFIX)
    return to[len(apprise.PREFIX) :] if is_for_it else None


def _is_webhook(to: str) -> bool:
    scheme = _URL.match(to)
    return scheme is not None and scheme[0].lower() in ("http://", "https://")


def _require_address(url: str) -> None:
    """Raise InputError for what is no address, without showing it: it may be a secret."""
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        scheme = url.partition(":")[0]
        raise InputError(
            f"--notify {scheme}://...: this is no address",
            "a host, perhaps a port, and a path of ASCII without spaces",
        )


def ask(path: Path, to: Sequence[str]) -> None:
    """Note where news of a run goes. Raises RecordError."""
    write_record(path / NOTE, {"to": [one.strip() for one in to]})


def news_of(event: ev.Event, run: str) -> News | None:
    """Return the news in an event; None for most."""
    if isinstance(event, ev.RunEnded):
        why = f" ({event.reason})" if event.status != "succeeded" else ""
        text = f"{run} {event.status}{why}"
        return News(run, "ended", text, event.status, event.reason, event.reason_host or "")
    if isinstance(event, ev.RunStalled):
        return News(run, "stalled", f"{run}: no progress for {event.seconds:.0f} s")
    if isinstance(event, ev.NodeLost):
        text = f"{run}: {event.host} is lost ({event.reason})"
        return News(run, "lost", text, "", event.reason, event.host)
    if isinstance(event, ev.TurnCame | ev.BegunThere):
        seconds = event.seconds
        waited = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
        return News(run, "began", f"{run} begins: it has waited for {waited}")
    return None


class Notifier:
    """Sends the news of one run. What cannot be sent becomes an event, and costs the run nothing."""

    def __init__(
        self, path: Path, add: Callable[[ev.Event], None], now: Callable[[], float]
    ) -> None:
        self._run, self._to = path.name, (read_as(_Note, path / NOTE) or _Note()).to
        self._add, self._now = add, now
        self._sending: set[asyncio.Task[None]] = set()

    def hear(self, event: ev.Event) -> None:
        """Send what is news."""
        news = news_of(event, self._run) if self._to else None
        for to in self._to if news else ():
            assert news
            task = asyncio.ensure_future(self._send(to, news))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def finish(self) -> None:
        """Wait until everything is sent, or has failed."""
        await asyncio.gather(*self._sending)

    async def _send(self, to: str, news: News) -> None:
        if (why := await _failure(to, news)) is not None:
            self._add(ev.NotificationFailed(self._now(), kind_of(to), why))


async def tell(to: Sequence[str], news: News) -> list[str]:
    """Send news to each of these places; return a line for each that did not get it."""
    to = [one.strip() for one in to]
    failures = await asyncio.gather(*(_failure(one, news) for one in to))
    return [
        f"{kind_of(one)}: {why}" for one, why in zip(to, failures, strict=True) if why is not None
    ]


async def _failure(to: str, news: News) -> str | None:
    """Send news; return why that failed, or None."""
    try:
        async with asyncio.timeout(PATIENCE):
            await _send(to, news)
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"
    except (OSError, ValueError) as error:
        return str(error)[:COMPLAINT]
    return None


def kind_of(to: str) -> str:
    """Return how news is sent there, without what may be secret in it."""
    if to in (DESKTOP, BELL):
        return to
    if _is_webhook(to):
        return f"webhook at {urlsplit(to).hostname}"
    if _for_apprise(to) is not None:
        return "apprise"
    if named := _FOR_PLUGIN.fullmatch(to):
        return f"notifier {named[1]}"
    return "command"


async def _send(to: str, news: News) -> None:
    """Send news. Raises OSError or ValueError with the reason."""
    if to == BELL:
        _ring()
        return
    if _is_webhook(to):
        await asyncio.to_thread(_post, to, news)
        return
    argv, called = _argv(to, news)
    values = {f"LAUNCHER_{name.upper()}": str(value) for name, value in vars(news).items()}
    if argv == _APART:
        values[WHERE] = to  # other users see arguments
    process = await ChildProcess.start(argv, env={**os.environ, **values})
    try:
        assert process.stderr
        complaint = await process.stderr.read(1 << 12)
        code = await process.wait()
    finally:
        await process.end(signal.SIGKILL)
    if code != 0:
        said = complaint.decode("utf-8", "replace").strip().splitlines()
        raise OSError(f"{called} exited with {code}" + (f": {said[-1]}" if said else ""))


def _argv(to: str, news: News) -> tuple[list[str], str]:
    """Return the program that sends news, and its name for people."""
    if to == DESKTOP:
        argv = _desktop(news)
        return argv, argv[0]
    if _for_apprise(to) is not None or _FOR_PLUGIN.fullmatch(to):
        return _APART, kind_of(to)
    return ["sh", "-c", to], "sh"


def send_apart(to: str, news: News) -> None:
    """Send news by apprise, or by the plug-in that ``to`` names: what a process of its own is for.

    Raises InputError, and what the plug-in raises.
    """
    if (url := _for_apprise(to)) is not None:
        kinds = {"succeeded": "success", "failed": "failure"}
        kind = kinds.get(news.status, "info" if news.event == "began" else "warning")
        apprise.send(url, news.text, kind)
        return
    name, _, where = to.partition(":")
    if (send := PLUGINS.get(name)) is None:
        raise InputError(f'no notifier "{name}" is installed any more')
    send(news, where)


def _desktop(news: News) -> list[str]:
    if sys.platform == "darwin":
        shown = f"display notification {json.dumps(news.text)} with title {json.dumps('launcher')}"
        return ["osascript", "-e", shown]
    return ["notify-send", "--app-name=launcher", "launcher", news.text]


def _ring() -> None:
    """Ring the bell of the terminal in which this process runs; in the background there is none."""
    with suppress(OSError), open("/dev/tty", "wb", buffering=0) as terminal:
        terminal.write(b"\a")


def _body(url: str, news: News) -> Mapping[str, str]:
    """Return what a webhook gets: some services take nothing but their own keys.

    Sources: https://api.slack.com/messaging/webhooks,
    https://discord.com/developers/docs/resources/webhook#execute-webhook
    """
    host = urlsplit(url).hostname or ""
    if host in ("hooks.slack.com", "hooks.slack-gov.com"):
        return {"text": news.text}
    if host.removeprefix("ptb.").removeprefix("canary.") in ("discord.com", "discordapp.com"):
        return {"content": news.text}
    return vars(news)


def _post(url: str, news: News) -> None:
    data = json.dumps(_body(url, news)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"launcher/{__version__}"}
    import http.client
    import urllib.error  # with http and email: most runs notify nobody
    import urllib.request

    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"it answered {error.code} {error.reason}") from None
    except http.client.HTTPException as error:  # its text may have the address
        raise OSError(f"it gave no answer of HTTP ({type(error).__name__})") from None
