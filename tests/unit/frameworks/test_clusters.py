"""dask and ray: what each host starts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.api import clusters, plugins
from launcher.frameworks import get
from launcher.frameworks.base import Place
from launcher.frameworks.cluster import KEEP
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Job, Layout, Meeting, Node, Resources

HOSTS = (Host("a", address="10.0.0.1"), Host("b", address="10.0.0.2"))
MEETING = Meeting(
    "10.0.0.1",
    20000,
    addresses={"a": "10.0.0.1", "b": "10.0.0.2"},
    ports={"a": (20001, 20002, 20003)},
)


def places(
    framework: str, gpus: tuple[int, ...] = (), run: tuple[str, ...] = ("train.py", "--x")
) -> list[Place]:
    nodes = tuple(
        Node(host, rank, 2, 2 * rank, python="/py", root="/r", gpus=gpus)
        for rank, host in enumerate(HOSTS)
    )
    job = Job(run, framework=framework, resources=Resources(nproc_per_node=2))
    layout = Layout("calm-owl", nodes)
    env = {"LAUNCHER_RUN_DIR": "/r/run", "LAUNCHER_ATTEMPT": "0"}
    return [Place(job, layout, node, MEETING, "/agent", env) for node in nodes]


def spec_of(
    framework: str, gpus: tuple[int, ...] = (), **more: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    first, second = (get(framework).processes(place) for place in places(framework, gpus, **more))
    argv = first[0].argv
    at = argv.index("cluster")
    assert "peer" in second[0].argv
    return json.loads(argv[at + 1]), argv[at + 2 :]


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_the_command_is_on_the_first_host_and_workers_are_reached_by_ssh(name: str) -> None:
    spec, command = spec_of(name)
    assert command == ("/py", "train.py", "--x")
    assert spec["ready"].endswith("launcher forward calm-owl 20002")
    assert {argv[2] for host, argv in spec["parts"] if argv[0] == "ssh"} == {"b"}
    assert next(host for host, argv in spec["parts"] if argv[0] != "ssh") == "a"
    assert [get(name).ports(place.node) for place in places(name)] == [
        3 if name == "ray" else 2,
        0,
    ]


def test_dask_has_a_worker_for_each_rank() -> None:
    spec, _ = spec_of("dask")
    assert spec["env"] == {"DASK_SCHEDULER_ADDRESS": "tcp://10.0.0.1:20001"}
    assert spec["joined"][-2:] == ["tcp://10.0.0.1:20001", "4"]
    (remote,) = (argv[-1] for _, argv in spec["parts"] if argv[0] == "ssh")
    assert "--host 10.0.0.2" in remote
    assert "--nworkers 2" in remote


@pytest.mark.parametrize(
    ("gpus", "sees"),
    [
        ((4, 6), ["4", "6"]),
        ((4, 5, 6, 7), ["4,5", "6,7"]),
        ((3,), ["3", "3"]),
    ],
)
def test_each_worker_of_dask_has_gpus_of_its_own(gpus: tuple[int, ...], sees: list[str]) -> None:
    """torch takes the first that a process sees: together, all would take the same one."""
    spec, _ = spec_of("dask", gpus=gpus)
    for host in ("a", "b"):
        words = [
            argv if argv[0] != "ssh" else shlex.split(argv[-1])
            for name, argv in spec["parts"][1:]
            if name == host
        ]
        for argv, one in zip(words, sees, strict=True):
            assert f"CUDA_VISIBLE_DEVICES={one}" in argv
        assert all(argv[argv.index("--nworkers") + 1] == "1" for argv in words)
    assert spec["joined"][-1] == "4"


def test_ray_has_the_gpus_of_each_host() -> None:
    spec, _ = spec_of("ray")
    assert spec["env"] == {"RAY_ADDRESS": "10.0.0.1:20001"}
    (remote,) = (argv[-1] for _, argv in spec["parts"] if argv[0] == "ssh")
    assert "--num-gpus=0 --num-cpus=2" in remote
    spec, _ = spec_of("ray", gpus=(4, 6))
    assert "--num-gpus=2" in spec["parts"][0][1]
    assert "--num-cpus=2" not in spec["parts"][0][1]


def test_ray_takes_no_port_that_another_head_of_the_host_has() -> None:
    """By itself it takes 10001 for its client, 10002 to 19999 for workers, and 52365."""
    spec, _ = spec_of("ray")
    for _, argv in spec["parts"]:
        words = argv if argv[0] != "ssh" else shlex.split(argv[-1])
        assert {*("--min-worker-port=0", "--max-worker-port=0")} <= {*words}
        assert "--dashboard-agent-listen-port=0" in words
        assert "--address=10.0.0.1:20001" in words or "--head" in words
    head = spec["parts"][0][1]
    assert head[head.index("-c") + 2] == "20003"


@pytest.mark.thorough
@pytest.mark.parametrize("has_grpc", [True, False])
def test_ray_gets_a_port_for_its_client_where_it_has_one(has_grpc: bool, tmp_path: Path) -> None:
    """Ray refuses the option without grpc. The Ray here is a fake that prints its arguments."""
    package = tmp_path / "ray" / "scripts"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "scripts.py").write_text("import sys\nprint(*sys.argv[1:])\n")
    (tmp_path / "grpc.py" if has_grpc else tmp_path / "other.py").touch()
    spec, _ = spec_of("ray")
    words = spec["parts"][0][1]
    program = [sys.executable, "-S", "-E", *words[words.index("-c") :]]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("start --block ")
    assert ("--ray-client-server-port=20003" in done.stdout) == has_grpc


@pytest.mark.thorough
def test_a_head_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    """The Ray here is a fake, whose head refuses twice."""
    (tmp_path / "ray.py").write_text(
        "tries = []\n"
        "def is_initialized(): return len(tries) > 2\n"
        "def shutdown(): pass\n"
        "def init(address, log_to_driver):\n"
        "    tries.append(address)\n"
        "    if len(tries) < 3: raise ConnectionError(address)\n"
        "def nodes(): return [{'Alive': True}] * 2\n"
    )
    spec, _ = spec_of("ray")
    words = spec["joined"][spec["joined"].index("-c") :]
    subprocess.run([sys.executable, "-S", "-E", *words], cwd=tmp_path, check=True, timeout=60)


def test_a_cluster_that_is_kept_starts_no_command() -> None:
    spec, command = spec_of("ray", run=KEEP)
    assert command == ()
    assert spec["ready"] == (
        "ray: 2 hosts have joined; RAY_ADDRESS=10.0.0.1:20001; "
        "dashboard: launcher forward calm-owl 20002"
    )


def test_a_cluster_of_another_package_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is a fake, with a framework as an entry point names one."""

    class Spark(plugins.Cluster):
        name, about = "spark", "a Spark master and its workers"

        def parts(self, place: Place) -> plugins.Parts:
            raise NotImplementedError

    monkeypatch.setattr(clusters.frameworks, "get", {"spark": Spark(), "env": get("env")}.get)
    clusters.check(Job(KEEP, framework="spark"))
    with pytest.raises(InputError, match="framework env makes no cluster to keep"):
        clusters.check(Job(KEEP, framework="env"))
