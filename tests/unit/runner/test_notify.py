"""News of a run go to people who are not watching."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.records import events as ev
from launcher.runner import notify
from launcher.runner.notify import Notifier
from launcher.spec.errors import InputError
from support.terminal import Terminal

ENDED = ev.RunEnded(5.0, "failed", "exit-3", "gpu1")


def told(folder: Path, to: list[str], *events: ev.Event) -> list[ev.Event]:
    """Send news of events; return what failed."""
    notify.ask(folder, to)
    failed: list[ev.Event] = []

    async def send() -> None:
        notifier = Notifier(folder, failed.append, lambda: 7.0)
        for event in events:
            notifier.hear(event)
        await notifier.finish()

    asyncio.run(send())
    return failed


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers 200, and 500 below /broken; its address and what it got."""
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhooks_get_json_and_their_errors_tell_no_secrets(
    tmp_path: Path, webhook: tuple[str, list[bytes]]
) -> None:
    url, got = webhook
    failed = told(tmp_path, [f"{url}/hook?token=s3cret", f"{url}/broken"], ENDED)
    first = json.loads(got[0])
    assert (first["event"], first["status"], first["reason"]) == ("ended", "failed", "exit-3")
    assert first["text"] == f"{tmp_path.name} failed (exit-3)"
    assert failed == [
        ev.NotificationFailed(7.0, "webhook at 127.0.0.1", "it answered 500 Internal Server Error")
    ]


def test_commands_get_the_news_in_their_environment(tmp_path: Path) -> None:
    file = tmp_path / "news"
    command = f"echo \"$LAUNCHER_EVENT|$LAUNCHER_TEXT|$LAUNCHER_HOST\" >> '{file}'"
    lost = ev.NodeLost(1.0, "gpu2", "host-unreachable")
    stalled = ev.RunStalled(2.0, 600.0)
    quiet = ev.HostFinished(3.0, "gpu1")
    assert told(tmp_path, [command], lost, stalled, quiet) == []
    assert sorted(file.read_text().splitlines()) == [
        f"lost|{tmp_path.name}: gpu2 is lost (host-unreachable)|gpu2",
        f"stalled|{tmp_path.name}: no progress for 600 s|",
    ]


def test_a_command_that_fails_is_an_event(tmp_path: Path) -> None:
    (failed,) = told(tmp_path, ["echo no such thing >&2; exit 3"], ENDED)
    assert failed == ev.NotificationFailed(7.0, "command", "sh exited with 3: no such thing")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("http://hooks.slack.com/services/T/B/x", "text"),
        ("http://discord.com/api/webhooks/1/x", "content"),
        (" HTTP://canary.discord.com/api/webhooks/1/x", "content"),
    ],
)
def test_services_that_take_their_own_keys_alone(
    tmp_path: Path,
    webhook: tuple[str, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    key: str,
) -> None:
    proxy, got = webhook
    monkeypatch.setenv("http_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # it keeps the proxies of its first request
    assert told(tmp_path, [address], ENDED) == []
    assert [json.loads(body) for body in got] == [{key: f"{tmp_path.name} failed (exit-3)"}]


#: Rings for the end of a run.
RING = """
import asyncio
from launcher.runner import notify
print(asyncio.run(notify.tell([" bell "], notify.News("run-1", "ended", ""))), flush=True)
"""


def test_the_bell_rings_where_there_is_a_terminal(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RING]
    with Terminal(argv, tmp_path, {**os.environ}) as shown:
        shown.expect("\a[]")
        assert shown.end() == 0
    done = subprocess.run(argv, capture_output=True, text=True, start_new_session=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("tgram://hunter22/1", "--notify tgram://...: news goes to"),
        ("slack:x", 'no notifier "slack" is installed'),
        ("apprise:tgram://hunter22/1", "--notify apprise:...: this needs apprise"),
        (" Apprise:tgram://hunter22/1", "--notify apprise:...: this needs apprise"),
        ("TGRAM://hunter22/1", "--notify TGRAM://...: news goes to"),
        ("https://ann:hunter22@host:x/", "--notify https://...: this is no address"),
        ("HTTPS://[::1/hunter22", "--notify HTTPS://...: this is no address"),
        ("http:///hunter22", "--notify http://...: this is no address"),
        ("http://host/hunter22 x", "--notify http://...: this is no address"),
    ],
)
def test_what_cannot_be_sent_to_is_said_before_the_start(
    to: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as where the extra is missing
    with pytest.raises(InputError) as caught:
        notify.check([to])
    assert says in caught.value.message
    assert "hunter22" not in f"{caught.value.message} {caught.value.hint}"


def test_nobody_asked(tmp_path: Path) -> None:
    assert told(tmp_path, [], ENDED) == []
    with pytest.raises(InputError, match="--notify"):
        notify.check([" "])


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ev.TurnCame(1.0, 45.0), "run-1 begins: it has waited for 45 s"),
        (
            ev.BegunThere(1.0, "gpu1", 0, 7200.0, (0,), ()),
            "run-1 begins: it has waited for 120 min",
        ),
    ],
)
def test_a_turn_that_has_come_is_news(event: ev.Event, text: str) -> None:
    """Also of a run that its host has started."""
    news = notify.news_of(event, "run-1")
    assert news
    assert (news.event, news.text) == ("began", text)
