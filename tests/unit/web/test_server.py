"""The console as a process: it listens on loopback, shows its code in no argument, and ends at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

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


def test_it_serves_its_owner_and_ends_while_a_page_is_open(console: subprocess.Popen[str]) -> None:
    assert console.stdout
    base, code = console.stdout.readline().strip().split("/#")
    assert base.startswith("http://127.0.0.1:")
    assert code not in Path(f"/proc/{console.pid}/cmdline").read_text()
    with httpx.Client(base_url=base, timeout=60) as client:
        assert client.get("/api/runs").status_code == 401
        assert client.post("/session", json={"code": code}).status_code == 204
        assert client.get("/api/runs").json() == {"runs": []}
        with client.stream("GET", "/api/events") as news:
            assert next(news.iter_lines()).startswith("retry")
            console.send_signal(signal.SIGTERM)
            console.wait(timeout=60)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr and "--port 0" in done.stderr
