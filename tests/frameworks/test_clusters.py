"""Dask and Ray over two real hosts: a script uses both, and nothing of them is left."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from support import environments, gpu_tools
from support import lab as labs
from support.command import Launcher
from support.lab import wait_until

pytestmark = pytest.mark.timeout(300)

DASK = """
import socket, sys
from dask.distributed import Client, get_worker

client = Client()
workers = client.scheduler_info(n_workers=-1)["workers"]
names = sorted(client.run(socket.gethostname).values())
print(len(workers), *names, client.submit(sum, [1, 2]).result())
sys.exit(int(sys.argv[1]))
"""
RAY = """
import socket, sys, time
import ray

ray.init(log_to_driver=False)

@ray.remote(num_cpus=2)
def where():
    time.sleep(1)
    return socket.gethostname()

nodes = sum(node["Alive"] for node in ray.nodes())
print(nodes, *sorted(set(ray.get([where.remote() for _ in range(4)]))))
sys.exit(int(sys.argv[1]))
"""
each = pytest.mark.parametrize("of", ["clusters"], indirect=True)


def _run(of: Launcher, framework: str, text: str, code: int) -> tuple[str, dict[str, object]]:
    of.script(text, "use.py")
    words = ("--framework", framework, "--nodes", "2", "--nproc-per-node", "2", "use.py", str(code))
    ran = of.run(*words, timeout=250)
    receipt = ran.receipts[-1]
    assert (ran.code, [host["left"] for host in receipt["hosts"]]) == (code, [0, 0]), ran.err
    return ran.out, receipt


@each
def test_dask(of: Launcher, clean: labs.Lab) -> None:
    out, _ = _run(of, "dask", DASK, 0)
    names = [clean.hosts[name].run("hostname").stdout.decode().strip() for name in ("lab1", "lab2")]
    assert f"4 {' '.join(sorted(2 * names))} 3" in out
    _, receipt = _run(of, "dask", DASK, 5)
    assert receipt["reason"] == "exit-5"


#: Holds the ports that Ray takes by itself, as the head of another user does.
TAKEN = """
import pathlib, signal, socket
held = [socket.create_server(("", port)) for port in (10001, 52365)]
pathlib.Path("/tmp/held").touch()
signal.pause()
"""


@each
def test_ray_beside_another_head(of: Launcher, clean: labs.Lab) -> None:
    holder = clean.hosts["lab1"].spawn("python3", "-c", TAKEN)
    wait_until(lambda: clean.hosts["lab1"].exists("/tmp/held"), "the ports are held")
    out, _ = _run(of, "ray", RAY, 0)
    names = [clean.hosts[name].run("hostname").stdout.decode().strip() for name in ("lab1", "lab2")]
    assert f"2 {' '.join(sorted(names))}" in out
    clean.hosts["lab1"].run("kill", str(holder))


@each
def test_a_cluster_is_kept_until_it_is_stopped(of: Launcher, clean: labs.Lab) -> None:
    words = ("-i", str(of.inventory), "--framework", "ray", "--nodes", "2", "--nproc-per-node", "2")
    up = of.call("up", *words, "--json", timeout=250)
    assert up.returncode == 0, up.stderr
    name = json.loads(up.stdout)["run"]
    address = re.search(r"RAY_ADDRESS=(\S+)", up.stderr)
    assert address, up.stderr
    later = of.work / "later"
    later.mkdir()
    (later / "count.py").write_text(
        "import ray; ray.init(log_to_driver=False); print('nodes', len(ray.nodes()))"
    )
    pushed = of.call(
        "push", str(later), "-i", str(of.inventory), "--hosts", "lab1", "--to", "~/later"
    )
    assert pushed.returncode == 0, pushed.stderr
    asked = of.call(
        *("exec", "--node", "0", name, "--"),
        *("sh", "-c", f"RAY_ADDRESS={address[1]} python ~/later/count.py"),
        timeout=120,
    )
    assert "nodes 2" in asked.stdout, asked.stderr
    receipt = json.loads(of.call("stop", name, "--json").stdout)
    assert (receipt["status"], [host["left"] for host in receipt["hosts"]]) == ("stopped", [0, 0])


@pytest.mark.parametrize(
    ("framework", "page", "says"),
    [("dask", "status", b"Dask Diagnostic UI"), ("ray", "", b"Ray Dashboard")],
)
@each
def test_the_dashboard_of_a_kept_cluster_is_one_command_away(
    of: Launcher, clean: labs.Lab, framework: str, page: str, says: bytes
) -> None:
    words = ("--framework", framework, "--nodes", "2", "--nproc-per-node", "1", "--json")
    up = of.call("up", "-i", str(of.inventory), *words, timeout=250)
    assert up.returncode == 0, up.stderr
    name = json.loads(up.stdout)["run"]
    tunnel = of.start_command("tunnel", name)
    assert tunnel.stderr is not None
    url = re.search(r"http://\S+", tunnel.stderr.readline().decode())
    assert url
    with urllib.request.urlopen(f"{url[0]}/{page}", timeout=60) as answer:
        assert says in answer.read()
    tunnel.send_signal(signal.SIGINT)
    tunnel.communicate(timeout=60)
    assert json.loads(of.call("stop", name, "--json").stdout)["status"] == "stopped"


def test_workers_of_dask_have_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an embedded host, where nvidia-smi is a fake that shows two GPUs."""
    if reason := environments.missing("clusters"):
        pytest.skip(reason)
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(gpu_tools.nvidia_smi([f"GPU-{tmp_path.name}-{n}" for n in range(2)]))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    python = environments.folder("clusters") / "bin" / "python"
    (work / "inventory.yaml").write_text(
        f"sandbox: true\nhosts: [local1]\ndefaults: {{python: {python}}}\n"
    )
    user = Launcher(work / "inventory.yaml", work, tmp_path / "home")
    user.script(
        "import os\nfrom distributed import Client\n"
        "seen = Client().run(lambda: os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "print(sorted(seen.values()))\n",
        "use.py",
    )
    ran = user.run("--framework", "dask", "--gpus", "2", "use.py", timeout=120)
    assert "['0', '1']" in ran.out, ran.err
