"""Plug-ins of ours in the real tools: a small program of each, on embedded hosts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import ROOT, entry_points, environments, gpu_tools

Program = Callable[..., subprocess.CompletedProcess[str]]

SUBMITIT = r"""
import os, pickle, sys, warnings
import submitit

def work(x, fails=False):
    print("rank", os.environ["RANK"])
    if fails:
        raise ValueError("bad data")
    here = submitit.JobEnvironment()
    return x * 2, here.global_rank, here.num_tasks

executor = submitit.AutoExecutor(folder="logs/%j", cluster="launcher")
executor.update_parameters(name="my job", timeout_min=5, nodes=2, tasks_per_node=1, launcher_envs={"A": "b"})
job = pickle.loads(pickle.dumps(executor.submit(work, 4)))
assert job.job_id.startswith("my-job-"), job.job_id
assert job.results() == [(8, 0, 2), (8, 1, 2)], job.results()
assert (job.state, job.done(), job.task(1).stdout()) == ("SUCCEEDED", True, "rank 1\n")
executor.update_parameters(nodes=1)
assert [one.result() for one in executor.map_array(work, [1, 2])] == [(2, 0, 1), (4, 0, 1)]
failed = executor.submit(work, 1, fails=True).exception()
assert isinstance(failed, submitit.core.utils.FailedJobError), failed
assert "ValueError: bad data" in str(failed)
executor.update_parameters(gpus_per_node=2, tasks_per_node=3)
try:
    executor.submit(work, 1)
except Exception as error:
    assert "launcher starts a task for each GPU" in str(error)
else:
    raise AssertionError
"""
HYDRA = """
import os
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    with open("made.txt", "w") as file:
        file.write(f"{cfg.lr} {cfg.size} {os.environ.get('A')} {os.environ.get('TOKEN')}")
    if cfg.lr > 0.4:
        raise ValueError(f"diverged at {cfg.lr}")
    return cfg.lr * 2

if __name__ == "__main__":
    main()
"""
TORCHX = r"""
from torchx import specs
from torchx.runner import get_runner

def app(code):
    text = 'echo rank ${replica_id} of ${app_id} costs $$1; echo "it\'s"; exit ' + str(code)
    resource = specs.Resource(cpu=1, gpu=0, memMB=1)
    role = specs.Role(name="trainer", image="", entrypoint="sh", args=["-c", text], num_replicas=2,
                      resource=resource)
    return specs.AppDef(name="my app", roles=[role])

with get_runner() as runner:
    handle = runner.run(app(0), scheduler="launcher", cfg={"inventory": "inventory.yaml"})
    name = handle.rpartition("/")[2]
    assert name.startswith("my-app-"), handle
    assert runner.wait(handle, wait_interval=1).state == specs.AppState.SUCCEEDED
    lines = list(runner.log_lines(handle, "trainer", k=1))
    assert lines[0].startswith(f"rank 1 of {name} costs"), lines
    assert lines[1] == "it's\n", lines
    assert list(runner.log_lines(handle, "trainer", k=0, regex="it")) == ["it's\n"]
    assert name in [one.app_id for one in runner.list("launcher")]
    handle = runner.run(app(3), scheduler="launcher", cfg={"inventory": "inventory.yaml"})
    assert runner.wait(handle, wait_interval=1).state == specs.AppState.FAILED
    handle = runner.run(app("$(sleep 600)"), scheduler="launcher", cfg={"inventory": "inventory.yaml"})
    runner.cancel(handle)
    assert runner.wait(handle, wait_interval=1).state == specs.AppState.CANCELLED
    assert runner.describe("launcher://x/nothing") is None
"""
NOTEBOOK = r"""
import asyncio
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
asyncio.set_event_loop(asyncio.new_event_loop())
shell.run_line_magic("load_ext", "launcher.integrations.notebook")

async def in_a_notebook():
    cell = "import os, sys\nprint('cell of', os.environ['RANK'], *sys.argv[1:])\nsys.exit(int(sys.argv[1]))"
    words = "--nodes 2 --nproc-per-node 1 --framework torch"
    shell.run_cell(f"%%launcher {words} 0\n{cell}").raise_error()
    return shell.run_cell(f"%%launcher {words} 3\n{cell}")

failed = asyncio.run(in_a_notebook())
assert "failed (exit-3)" in str(failed.error_in_exec), failed
"""

#: A job whose news go to a service, which looks for the words of the address in the arguments of all programs.
APPRISE = r"""
import http.server, json, pathlib, subprocess, sys, threading

got = []
seen = []

class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes()
            except OSError:
                continue
            if b"launcher.runner.notifier" in words:
                seen.append(words)
        got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

def run(code):
    job = {"name": "news", "framework": "env", "num_nodes": 1, "run": f"sh -c 'exit {code}'", "notify": url}
    pathlib.Path("job.yaml").write_text(json.dumps(job))
    command = [sys.executable, "-m", "launcher"]
    subprocess.run([*command, "config", "allow", "job.yaml"], check=True)
    argv = [*command, "run", "-i", "inventory.yaml", "job.yaml"]
    return subprocess.run(argv, capture_output=True, text=True)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"apprise:json://ann:hunter22@127.0.0.1:{server.server_address[1]}/secret-path"
ran = run(3)
assert ran.returncode == 3, ran.stderr
(path, news), = got
assert path == "/secret-path", path
assert news["type"] == "failure" and news["message"].endswith(" failed (exit-3)"), news
assert seen and not any(b"hunter22" in words or b"secret-path" in words for words in seen), seen
server.shutdown()
server.server_close()
ran = run(0)
assert ran.returncode == 0, ran.stderr
assert "could not notify (apprise): " in ran.stderr, ran.stderr
assert "hunter22" not in ran.stderr and "secret-path" not in ran.stderr, ran.stderr
url = "apprise:tgram://hunter22"
ran = run(0)
assert ran.returncode == 2, ran.stderr
assert "--notify apprise:tgram://...: apprise cannot read this URL" in ran.stderr, ran.stderr
assert "hunter22" not in ran.stderr, ran.stderr
"""


@pytest.fixture
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    """Run a program where all tools are, or in the environment of a parameter; launcher is as if
    installed."""
    environment = getattr(request, "param", "plugins")
    if reason := environments.missing(environment):
        pytest.skip(reason)
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    (work / "inventory.yaml").write_text("sandbox: true\nhosts: ['local[1-2]']\n")
    installed = entry_points.write(tmp_path / "installed")
    namespaces = ROOT / "launcher" / "integrations" / "namespaces"
    path = os.pathsep.join(map(str, (installed, ROOT, namespaces)))
    env = {**os.environ, "LAUNCHER_HOME": str(tmp_path / "home"), "PYTHONPATH": path}
    env["TORCHX_PLUGINS_SOURCE"] = "1"  # of the nightly build: the namespace, and no entry points

    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (work / "program.py").write_text(text)
        argv = [environments.folder(environment) / "bin" / "python", "program.py", *arguments]
        return subprocess.run(
            argv, cwd=work, env=env, capture_output=True, text=True, check=False, timeout=110
        )

    return run


@pytest.mark.parametrize("text", [SUBMITIT, TORCHX, APPRISE], ids=["submitit", "torchx", "apprise"])
def test_a_program_of_its_users(program: Program, text: str) -> None:
    ran = program(text)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("program", ["torchx-nightly"], indirect=True)
def test_torchx_finds_it_in_its_namespace(program: Program) -> None:
    """As its versions after 0.7 do, which look at no entry points."""
    ran = program(TORCHX)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_cell_of_a_notebook_runs_on_ranks(program: Program) -> None:
    ran = program(NOTEBOOK)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "local1 [0] cell of 0 0\n" in ran.stdout
    assert "local2 [1] cell of 1 0\n" in ran.stdout
    assert "\nsucceeded  cell-" in ran.stdout
    assert "launcher show cell-" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_hydra_runs_its_jobs_on_hosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    conf = tmp_path / "work" / "conf"
    conf.mkdir(parents=True)
    (conf / "config.yaml").write_text("lr: 1\nsize: 3\n")
    monkeypatch.setenv("TOKEN", "hidden")
    job = {"secrets": "[TOKEN]", "max_restarts": "1"}
    job |= {"time_limit": "1h", "priority": "high", "max_workers": "2"}
    words = ["-m", "hydra/launcher=launcher", "size=5"]
    words += ["+hydra.launcher.envs.A=b"]
    words += [f"hydra.launcher.{name}={value}" for name, value in job.items()]
    program = request.getfixturevalue("program")
    ran = program(HYDRA, *words, "lr=0.1,0.2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    made = sorted(path.read_text() for path in tmp_path.glob("home/runs/*/outputs/*/made.txt"))
    assert made == ["0.1 5 b hidden", "0.2 5 b hidden"]
    for record in tmp_path.glob("home/runs/*/run.json"):
        asked = json.loads(record.read_text())
        names = ("max_restarts", "time_limit", "priority")
        found = {k: v for part in asked.values() if isinstance(part, dict) for k, v in part.items()}
        assert [(found | asked)[name] for name in names] == [1, 3600, 1]
    failed = program(HYDRA, *words, "lr=0.5,0.3")
    assert failed.returncode == 1
    assert "rank-0 on local1: ValueError: diverged at 0.5" in failed.stderr
    assert len(list(tmp_path.glob("home/runs/*/outputs/*/made.txt"))) == 4, "the other one ran"


#: Takes both GPUs until there is a file GO.
HOLD = r"""
import os, threading, time
import launcher

GO = os.path.abspath("GO")
client = launcher.Client("inventory.yaml")
holder = client.run(f"sh -c 'while [ ! -e {GO} ]; do sleep 0.1; done'", gpus=2, framework="env", name="first")
assert holder.wait_until_started() is None

def let_go():
    while not any(one.status == "waiting" for one in client.list()):
        time.sleep(0.1)
    open(GO, "w").close()

threading.Thread(target=let_go, daemon=True).start()
"""
TORCHX_WAITS = r"""
from torchx import specs
from torchx.runner import get_runner

os.environ["TOKEN"] = "hidden"
role = specs.Role(name="trainer", image="", entrypoint="sh", args=["-c", "echo my turn $$A $$TOKEN"],
                  resource=specs.Resource(cpu=1, gpu=2, memMB=1))
with get_runner() as runner:
    words = "envs=A:b,secrets=TOKEN,max_restarts=1,time_limit=1h,priority=high"
    cfg = runner.scheduler_run_opts("launcher").cfg_from_str(words)
    handle = runner.run(specs.AppDef(name="second", roles=[role]), scheduler="launcher", cfg=cfg)
    assert runner.wait(handle, wait_interval=1).state == specs.AppState.SUCCEEDED
    print(*runner.log_lines(handle, "trainer"))
    asked = client.attach(handle.rpartition("/")[2]).request
    assert (asked.max_restarts, asked.time_limit, asked.priority) == (1, 3600, 1), asked
"""
NOTEBOOK_WAITS = r"""
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "launcher.integrations.notebook")
shell.run_cell("%%launcher --gpus 2 --framework env\nprint('my turn')").raise_error()
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [(TORCHX_WAITS, "my turn b hidden"), (NOTEBOOK_WAITS, "waits for GPUs: launcher queue")],
    ids=["torchx", "notebook"],
)
def test_it_waits_for_gpus_that_are_in_use(
    text: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """nvidia-smi is a fake, which shows two GPUs."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(gpu_tools.nvidia_smi([f"GPU-{tmp_path.name}-{n}" for n in range(2)]))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    program = request.getfixturevalue("program")
    (tmp_path / "work" / "inventory.yaml").write_text("sandbox: true\nhosts: [local1]\n")
    ran = program(HOLD + text + "\nclient.close()\n")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert says in ran.stdout
    assert "my turn" in ran.stdout
