"""What runs recorded, in a real MLflow server."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, console_runs, environments, object_store
from support import lab as labs


class Server:
    """A server of MLflow, and the command that sends to it."""

    def __init__(self, address: str, home: Path) -> None:
        self.address, self._home = address, home

    def post(self, path: str, body: Any) -> Any:
        data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.address}/api/2.0/mlflow/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def run(self, name: str) -> Any:
        """Return the one run there that has the name of ours."""
        (experiment,) = self.post(
            "experiments/search", {"max_results": 9, "filter": "name = 'lab'"}
        )["experiments"]
        wanted = {
            "experiment_ids": [experiment["experiment_id"]],
            "filter": f"tags.`launcher.run` = '{name}'",
        }
        (found,) = self.post("runs/search", wanted)["runs"]
        return found

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of each point of a curve there."""
        path = f"metrics/get-history?run_id={run}&metric_key={metric}"
        address = f"{self.address}/api/2.0/mlflow/{path}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return [(int(one["step"]), one["value"]) for one in json.load(answer)["metrics"]]

    def log(self, *words: str) -> subprocess.CompletedProcess[str]:
        python = environments.folder("mlflow") / "bin" / "python"
        env = {**os.environ, "LAUNCHER_HOME": str(self._home), "PYTHONPATH": str(ROOT)}
        argv = [python, "-m", "launcher", "mlflow", "log", *words, "--to", self.address]
        return subprocess.run(
            argv, env=env, capture_output=True, text=True, check=False, timeout=200
        )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if why := environments.missing("mlflow"):
        pytest.skip(why)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "lab")
    (port,) = object_store.free_ports(1)
    python = environments.folder("mlflow") / "bin" / "python"
    words = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True
        )
    there = Server(f"http://127.0.0.1:{port}", tmp_path / "home")

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            there.post("experiments/search", {"max_results": 1})
        except OSError:
            return False
        return True

    try:
        labs.wait_until(answers, "the server of MLflow", 180)
        yield there
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_runs_are_sent_once_as_far_as_they_have_come(server: Server, tmp_path: Path) -> None:
    running = console_runs.several()
    home = tmp_path / "home"
    done = server.log("baseline", "night", running.name)
    assert done.returncode == 0, done.stderr
    ended = server.run(console_runs.named(home, "baseline"))
    assert ended["info"]["status"] == "FINISHED"
    assert ended["info"]["end_time"] - ended["info"]["start_time"] == 312_000
    params = {one["key"]: one["value"] for one in ended["data"]["params"]}
    assert params == {"batch": "64", "lr": "0.001"}
    tags = {one["key"]: one["value"] for one in ended["data"]["tags"]}
    assert tags["launcher.hosts"] == "gpu1 gpu2"
    assert server.run(console_runs.named(home, "night"))["info"]["status"] == "FAILED"
    key = ended["info"]["run_id"]
    assert len(server.history(key, "val/accuracy")) == 150
    assert [step for step, _ in server.history(key, "loss/rank%200")] == list(range(300))

    there = server.run(running.name)
    assert there["info"]["status"] == "RUNNING"
    console_runs.printed(running, 0, console_runs.steps(120, 130))
    console_runs.succeed(running, console_runs.STARTED + 7200)
    again = server.log(running.name)
    assert again.returncode == 0, again.stderr
    page = f"{server.address}/#/experiments/1/runs/{there['info']['run_id']}"
    assert again.stdout == f"{running.name}  known, 10 points sent  {page}\n"
    there = server.run(running.name)
    assert there["info"]["status"] == "FINISHED"
    steps = [step for step, _ in server.history(there["info"]["run_id"], "loss/rank%200")]
    assert steps == list(range(130))
    assert "0 points sent" in server.log(running.name).stdout


def test_parameters_that_could_not_be_sent_are_sent_later(server: Server, tmp_path: Path) -> None:
    """And a run that cannot be sent holds up no other one."""
    console_runs.several().close()
    other = console_runs.begin("odd", console_runs.STARTED, "--a@b", "1", "--a#b", "2", "--", "/x/")
    console_runs.succeed(other)
    (
        tmp_path / "home/runs" / console_runs.named(tmp_path / "home", "night") / "run.json"
    ).write_text("{")
    done = server.log("night", "odd")
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("night-") and "  not sent: " in done.stderr, done.stderr
    found = server.run(other.name)["data"]["params"]
    assert sorted(one["value"] for one in found) == ["/x/", "1", "2"]


@pytest.mark.parametrize(
    "wrong", ["127.0.0.1:9", "ftp://host", "http://[::1", "postgresql://u:p@h/d"]
)
def test_an_address_that_is_none_is_said(wrong: str, tmp_path: Path, monkeypatch: Any) -> None:
    if why := environments.missing("mlflow"):
        pytest.skip(why)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    console_runs.several().close()
    done = Server(wrong, tmp_path / "home").log("baseline")
    assert done.returncode not in (0, 70) and "internal error" not in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and "u:p@" not in done.stderr, done.stderr


def test_a_server_that_cannot_be_used_is_named(server: Server) -> None:
    console_runs.several().close()
    server.address = "http://ann:hunter22@127.0.0.1:9"
    done = server.log("baseline")
    assert done.returncode != 0
    assert done.stderr.startswith("error: http://127.0.0.1:9: "), done.stderr
    assert "Traceback" not in done.stderr and "hunter22" not in done.stderr, done.stderr
