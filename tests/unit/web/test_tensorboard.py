"""TensorBoard over the outputs of runs: real, in a process as users start it, and for its user alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tensorboard.summary import Writer

from launcher.records.live_files import LiveFiles

COMMAND = (sys.executable, "-m", "launcher", "tensorboard", "--no-browser", "--port")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has brought back scalars, and one that has not."""
    path = tmp_path_factory.mktemp("home")
    for name in ("calm-owl-1", "young-fox-2"):
        (path / "runs" / name).mkdir(parents=True)
        (path / "runs" / name / "events.jsonl").write_text("")
    writer = Writer(str(path / "runs" / "calm-owl-1" / "outputs" / "board"))
    writer.add_scalar("loss", 0.5, 1)
    writer.close()
    return path


def start(home: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, *COMMAND, *words],
        env={**os.environ, "LAUNCHER_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def board(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, without a slash at the end."""
    with start(home, "0") as process:
        assert process.stdout
        yield process, process.stdout.readline().strip().rstrip("/")
        process.kill()


@pytest.mark.thorough
def test_it_shows_scalars_to_who_has_the_address(
    board: tuple[subprocess.Popen[str], str],
) -> None:
    """Others learn nothing: without the secret, by another name of this machine, or as another user."""
    process, address = board
    base, _, secret = address.rpartition("/")
    assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()
    with httpx.Client(timeout=60) as client:
        page = client.get(f"{address}/")
        assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
        deadline = time.monotonic() + 180
        while not (found := client.get(f"{address}/data/plugin/scalars/tags").json()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert list(found) == ["calm-owl-1/board"]
        for path in (
            "",
            "/",
            "/data/plugin/scalars/tags",
            f"/x{secret}/",
            "//",
            f"/{secret[:-1]}/",
        ):
            assert client.get(base + path).status_code == 404, path
        other = {"host": f"evil.example:{base.rpartition(':')[2]}"}
        assert client.get(f"{address}/", headers=other).status_code == 421


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_another_user_gets_nothing(board: tuple[subprocess.Popen[str], str]) -> None:
    _, address = board
    program = f"import urllib.request; print(urllib.request.urlopen('{address}/').status)"
    python = os.path.realpath("/usr/bin/python3")
    done = subprocess.run(
        [python, "-c", program],
        user=65534, group=65534, extra_groups=[], cwd="/", env={},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "Remote end closed connection" in done.stderr or "reset by peer" in done.stderr


@pytest.mark.thorough
def test_it_ends_and_leaves_nothing(home: Path) -> None:
    before = set(home.iterdir())
    with start(home, "0", "calm-owl-1", before=("nohup",)) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        assert set(home.iterdir()) - before
        process.send_signal(signal.SIGHUP)
        assert httpx.get(address, timeout=60).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert set(home.iterdir()) == before


@pytest.mark.thorough
def test_bad_input_is_named(home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for words, where, said in (
            ((port,), home, f"error: TensorBoard cannot use port {port}"),
            (("0", "no-such-run"), home, "no-such-run"),
            (("0",), tmp_path, "error: no run of this machine has brought back any output"),
        ):
            with start(where, *words) as process:
                _, err = process.communicate(timeout=60)
                assert process.returncode == 2
                assert said in err


@pytest.mark.thorough
def test_scalars_of_a_run_that_goes_on_are_shown_as_they_come(home: Path, tmp_path: Path) -> None:
    """Before any pull, and in a run that has none at all."""
    run = tmp_path / "runs" / "brave-elk-3"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text("")
    live = LiveFiles(run, "gpu1")
    writer = Writer(str(tmp_path / "host"))
    sent = 0

    def add(step: int) -> None:
        nonlocal sent
        writer.add_scalar("loss", 1 / step, step)
        writer.flush()
        (file,) = (tmp_path / "host").iterdir()
        data = file.read_bytes()
        live.take("board/" + file.name, sent, data[sent:])
        sent = len(data)

    with start(tmp_path, "0", "brave-elk-3") as process, httpx.Client(timeout=60) as client:
        assert process.stdout
        address = process.stdout.readline().strip().rstrip("/")
        for step in (1, 2):
            add(step)
            deadline = time.monotonic() + 180
            while len(points := _points(client, address)) < step:
                assert time.monotonic() < deadline, points
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not list(tmp_path.glob("tensorboard-*"))


def _points(client: httpx.Client, address: str) -> list[list[float]]:
    where = {"run": "brave-elk-3/board", "tag": "loss"}
    found = client.get(f"{address}/data/plugin/scalars/scalars", params=where)
    return found.json() if found.status_code == 200 else []  # type: ignore[no-any-return]
