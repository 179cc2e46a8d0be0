"""The console as a process: it listens on loopback, shows its code in no argument, and ends at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from launcher.web import browser

COMMAND = (sys.executable, "-m", "launcher", "console", "--no-browser", "--port")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "0"],
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.thorough
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_serves_its_owner_and_ends_while_a_page_is_open(
    console: subprocess.Popen[str], tmp_path: Path, how: signal.Signals
) -> None:
    assert console.stdout
    base, code = console.stdout.readline().strip().split("/#")
    assert base.startswith("http://127.0.0.1:")
    assert code not in Path(f"/proc/{console.pid}/cmdline").read_text()
    port = int(base.rpartition(":")[2])
    for elsewhere in ("127.0.0.2", "::1"):  # loopback, and of that one address alone
        with pytest.raises(OSError, match=r"refused|Cannot assign|not supported"):
            socket.create_connection((elsewhere, port), 60)
    with httpx.Client(base_url=base, timeout=60) as client:
        assert client.get("/api/runs").status_code == 401
        file = tmp_path / f"console-{base.rpartition(':')[2]}.header"
        assert file.stat().st_mode & 0o077 == 0
        token = dict([file.read_text().strip().split(": ")])
        assert client.get("/api/runs", headers=token).json() == {"runs": []}
        assert client.post("/session", json={"code": code}).status_code == 204
        assert client.get("/api/runs").json() == {"runs": []}
        with client.stream("GET", "/api/events") as news:
            lines = news.iter_lines()  # it closes the stream when it is let go
            assert next(lines).startswith("retry")
            console.send_signal(how)
            _, told = console.communicate(timeout=60)
    assert told == "The address opens the console once, for you alone. Ctrl-C ends it.\n"
    assert (console.returncode, file.exists()) == (0, False)


@pytest.mark.thorough
def test_it_leaves_the_token_of_the_next_console(
    console: subprocess.Popen[str], tmp_path: Path
) -> None:
    """That one may have the port while this one still ends."""
    assert console.stdout
    port = console.stdout.readline().partition("/#")[0].rpartition(":")[2]
    file = tmp_path / f"console-{port}.header"
    file.write_text("Authorization: Bearer other\n")
    console.terminate()
    assert console.wait(60) == 0
    assert file.exists()


@pytest.mark.thorough
def test_under_nohup_it_outlives_the_terminal(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", *COMMAND, "0"],
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        process.send_signal(signal.SIGHUP)
        assert httpx.get(address, timeout=60).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.thorough
def test_without_room_for_its_token_it_serves_pages(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = subprocess.Popen(
        [*COMMAND, "0"],
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path / "file")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        base, code = process.stdout.readline().strip().split("/#")
        with httpx.Client(base_url=base, timeout=60) as client:
            assert client.post("/session", json={"code": code}).status_code == 204
            assert client.get("/api/runs").json() == {"runs": []}
    finally:
        process.terminate()
        process.communicate(timeout=60)


#: What another user of the machine can do: connect many times, ask, and keep the connections.
STRANGER = """
import socket, sys
kept = []
for _ in range(300):
    kept.append(socket.create_connection((sys.argv[2], int(sys.argv[1]))))
got = b""
for one in kept:
    try:
        one.sendall(b"GET / HTTP/1.1\\r\\nhost: 127.0.0.1:%d\\r\\n\\r\\n" % int(sys.argv[1]))
        got += one.recv(100)
    except OSError:
        pass
print(got, flush=True)
sys.stdin.read()
"""


@pytest.mark.thorough
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_another_user_gets_nothing_and_keeps_nobody_out(
    console: subprocess.Popen[str], address: str
) -> None:
    assert console.stdout and console.stderr
    base, code = console.stdout.readline().strip().split("/#")
    python = os.path.realpath("/usr/bin/python3")
    stranger = subprocess.Popen(
        [python, "-c", STRANGER, base.rpartition(":")[2], address],
        user=65534, group=65534, extra_groups=[], cwd="/", env={},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert stranger.stdout
        assert stranger.stdout.readline() == "b''\n"
        with httpx.Client(base_url=base, timeout=60) as client:
            assert client.post("/session", json={"code": code}).status_code == 204
            assert client.get("/api/runs").json() == {"runs": []}
    finally:
        stranger.communicate("", timeout=60)
    console.terminate()
    told = console.stderr.read()
    assert told.count("refused a connection of nobody") == 1


@pytest.mark.thorough
def test_a_slow_client_harms_nobody(console: subprocess.Popen[str], tmp_path: Path) -> None:
    """One never ends its request, one never reads its answer: others get theirs."""
    assert console.stdout
    base, code = console.stdout.readline().strip().split("/#")
    port = int(base.rpartition(":")[2])
    outputs = tmp_path / "runs" / "calm-owl-0001" / "outputs"
    outputs.mkdir(parents=True)
    (outputs.parent / "events.jsonl").write_text("\n")
    with (outputs / "large").open("wb") as file:
        file.truncate(1 << 30)
    with httpx.Client(base_url=base, timeout=60) as client, ExitStack() as stack:
        assert client.post("/session", json={"code": code}).status_code == 204
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        asking = f"GET /api/runs/calm-owl-0001/outputs/large HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        for end in ("", f"cookie: {cookie}\r\n\r\n"):
            for _ in range(20):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                one.sendall((asking + end).encode())
        assert client.get("/api/runs").status_code == 200
        assert client.get("/api/runs/calm-owl-0001/outputs").json()["entries"][0]["size"] == 1 << 30
        status = Path(f"/proc/{console.pid}/status").read_text()
        memory = int(status.partition("VmRSS:")[2].split()[0])
        assert memory < 300_000, "it holds what nobody reads"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr and "--port 0" in done.stderr


def test_a_browser_is_opened_on_a_file_of_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    came = threading.Event()

    def opens(address: str) -> bool:
        opened.append(address)
        came.set()
        return True

    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(browser.webbrowser, "open", opens)
    page = tmp_path / "home" / "console-1.html"
    browser.show("http://127.0.0.1:1/#the-code", page.name)
    assert came.wait(60)
    assert page.stat().st_mode & 0o077 == 0 and page.parent.stat().st_mode & 0o077 == 0
    assert "the-code" in page.read_text() and "the-code" not in opened[0]
    browser.remove(page.name, "the-code-of-the-next-console")
    assert page.exists()
    browser.remove(page.name, "the-code")
    assert not page.exists()
