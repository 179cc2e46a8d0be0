"""What each framework's processes are given, without the frameworks: pure plans of jobs with roles."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.errors import DocumentError, PlanError
from launcher.spec.model import Host, Meeting, Plan, Process
from support.jobs import job_of

#: Polyaxon's cluster for TensorFlow, of its document on distributed experiments.
TENSORFLOW = """
framework: tensorflow
run: train.py
roles:
  master: {resources: {gpus: 1, cpus: 2, memory: 1024MB}}
  worker:
    replicas: 7
    resources: {gpus: 1, cpus: 2, memory: 1024MB}
    overrides: {2: {resources: {gpus: 0}}}
  ps:
    replicas: 3
    resources: {cpus: 1, memory: 256MB}
    overrides: {0: {resources: {memory: 512MB}}}
"""
MXNET = """
framework: mxnet
run: train.py
roles:
  worker: {replicas: 3, spread: true, resources: {gpus: 1}}
  server: {}
  scheduler: {}
"""


def planned(
    text: str, gpus: tuple[int, ...] = (4, 4), network: str = "10.0.0."
) -> tuple[Plan, dict[str, Process]]:
    job = job_of(text)
    hosts = [Host(f"h{n}", gpus=count, address=f"{network}{n}") for n, count in enumerate(gpus)]
    layout = make_layout(job, hosts, {}, "r")
    counts = planner.ports_needed(job, layout)
    ports: dict[str, tuple[int | str, ...]] = {
        name: tuple(range(100 * at, 100 * at + count))
        for at, (name, count) in enumerate(counts.items(), 1)
    }
    interfaces = {host.name: "eth0" for host in hosts}
    meeting = Meeting(
        f"{network}0", 29500, interfaces, {h.name: h.address or "" for h in hosts}, ports
    )
    plan = planner.plan(job, layout, meeting, "agent")
    return plan, {process.key: process for node in plan.nodes for process in node.processes}


def config(process: Process) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.env["TF_CONFIG"])
    return found


def test_tensorflow_names_every_task_at_its_place() -> None:
    plan, processes = planned(TENSORFLOW)
    cluster = config(processes["master-0"])["cluster"]
    assert {kind: len(addresses) for kind, addresses in cluster.items()} == {
        "master": 1,
        "worker": 7,
        "ps": 3,
    }
    everyone = [address for addresses in cluster.values() for address in addresses]
    assert len(set(everyone)) == 11, "each listens at a place of its own"
    for key, process in processes.items():
        kind, index = key.split("-")
        found = config(process)
        assert found["cluster"] == cluster
        assert found["task"] == {"type": kind, "index": int(index)}
        mine = cluster[kind][int(index)]
        host = plan.layout.host_of(key)
        assert mine.split(":")[0] == next(
            n.host.address for n in plan.layout.nodes if n.host.name == host
        )
    assert processes["worker-2"].env["CUDA_VISIBLE_DEVICES"] == ""
    seen = [p.env["CUDA_VISIBLE_DEVICES"] for p in plan.nodes[0].processes]
    assert sorted(filter(None, seen)) == ["0", "1", "2", "3"], "TensorFlow takes all that it sees"


@pytest.mark.parametrize(
    ("said", "cpus", "threads"),
    [("", 1, "2"), ("", 2, None), ("envs: {TF_NUM_INTEROP_THREADS: '3'}\n", 1, "3")],
)
def test_a_task_of_tensorflow_with_one_core_has_two_threads(
    said: str, cpus: int, threads: str | None
) -> None:
    """Its workers hang with a pool of one."""
    roles = f"roles: {{worker: {{resources: {{cpus: {cpus}}}}}}}"
    _, processes = planned(f"framework: tensorflow\nrun: x.py\n{said}{roles}", (0,))
    assert processes["worker-0"].env.get("TF_NUM_INTEROP_THREADS") == threads


def test_polyaxons_master_of_pytorch_is_rank_0() -> None:
    roles = "{worker: {replicas: 3, spread: true}, master: {primary: true}}"
    plan, processes = planned(f"run: x.py\nroles: {roles}", (0, 0))
    assert [processes[key].env["RANK"] for key in ("master-0", "worker-0")] == ["0", "1"]
    assert plan.layout.nodes[0].tasks[0].key == "master-0"
    assert processes["worker-2"].env["WORLD_SIZE"] == "4"


@pytest.mark.parametrize(
    ("roles", "primaries"),
    [
        ("{chief: {}, worker: {}, ps: {}}", {"chief"}),
        ("{chief: {}, worker: {}, evaluator: {}}", {"chief", "worker"}),
        ("{worker: {}}", {"worker"}),
        ("{worker: {}, chief: {primary: true}}", {"chief"}),
        ("{worker: {}, ps: {}}", {"worker"}),
    ],
)
def test_who_ends_a_run_of_tensorflow(roles: str, primaries: set[str]) -> None:
    job = job_of(f"framework: tensorflow\nrun: x.py\nroles: {roles}")
    assert {role.name for role in job.roles if role.primary} == primaries


def test_an_evaluator_looks_from_outside() -> None:
    _, processes = planned("framework: tensorflow\nrun: x.py\nroles: {chief: {}, evaluator: {}}")
    assert "evaluator" not in config(processes["chief-0"])["cluster"]
    assert config(processes["evaluator-0"])["task"] == {"type": "evaluator", "index": 0}


def test_mxnets_scheduler_is_at_the_meeting_point() -> None:
    plan, processes = planned(MXNET, (1, 1, 1))
    assert plan.layout.host_of("scheduler-0") == plan.layout.nodes[0].host.name
    env = processes["worker-2"].env
    assert {name: env[name] for name in env if name.startswith("DMLC_")} == {
        "DMLC_ROLE": "worker",
        "DMLC_PS_ROOT_URI": "10.0.0.0",
        "DMLC_PS_ROOT_PORT": "29500",
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "3",
        "DMLC_INTERFACE": "eth0",
    }


@pytest.mark.parametrize(
    ("roles", "error", "hint"),
    [
        ("tensorflow\nroles: {cheif: {}}", '2: tensorflow has no role "cheif"', '"chief"?'),
        ("tensorflow\nroles: {chief: {replicas: 2}}", "2: tensorflow has at most 1 chief", ""),
        ("mxnet\nroles: {worker: {}}", "2: mxnet needs a role scheduler and a role server", ""),
        ("mxnet", "1: mxnet needs a role scheduler and a role server and a role worker", ""),
    ],
)
def test_bad_casts(roles: str, error: str, hint: str) -> None:
    with pytest.raises(DocumentError) as caught:
        job_of(f"framework: {roles}\nrun: x.py\n")
    assert error in str(caught.value)
    assert hint in caught.value.hint


def test_jax_knows_who_it_is_and_sees_its_own_gpus() -> None:
    _, processes = planned("framework: jax\nrun: x.py {{rank}}\nresources: {gpus: 3}", (2, 1))
    env = processes["rank-1"].env
    assert (env["JAX_COORDINATOR_ADDRESS"], env["JAX_NUM_PROCESSES"]) == ("10.0.0.0:29500", "3")
    assert (env["JAX_PROCESS_ID"], env["CUDA_VISIBLE_DEVICES"]) == ("1", "1")
    assert processes["rank-2"].argv[-1] == "2"


def test_an_ipv6_address_has_brackets_before_a_port() -> None:
    _, processes = planned("framework: jax\nrun: x.py", network="fd81::")
    assert processes["rank-0"].env["JAX_COORDINATOR_ADDRESS"] == "[fd81::0]:29500"
    _, processes = planned("framework: tensorflow\nrun: x.py\nnum_nodes: 2", (1, 1), "fd81::")
    assert config(processes["rank-0"])["cluster"]["worker"] == ["[fd81::0]:100", "[fd81::1]:200"]


@pytest.mark.parametrize("name", ["lightning", "accelerate", "deepspeed"])
def test_who_wants_equal_hosts(name: str) -> None:
    with pytest.raises(PlanError, match="the same number of processes on every host: h0 2, h1 1"):
        planned(f"framework: {name}\nrun: x.py\nresources: {{gpus: 3}}", (2, 1))


def test_deepspeed_and_accelerate_are_told_who_they_are() -> None:
    text = "run: x.py\nresources: {gpus: 4}\nframework: "
    _, of_deepspeed = planned(text + "deepspeed", (2, 2))
    argv = of_deepspeed["node-1"].argv
    told = next(word for word in argv if word.startswith("--world_info=")).partition("=")[2]
    assert json.loads(base64.urlsafe_b64decode(told)) == {"h0": ["0", "1"], "h1": ["0", "1"]}
    _, of_accelerate = planned(text + "accelerate", (2, 2))
    argv = of_accelerate["node-1"].argv
    assert argv[argv.index("--machine_rank") + 1] == "1"
    assert "ACCELERATE_USE_CPU" not in of_accelerate["node-1"].env
    for process in (of_deepspeed["node-1"], of_accelerate["node-1"]):
        assert process.argv[-3:] == ("--", "python3", "x.py"), "ranks go through the shim"


@pytest.mark.parametrize(
    ("addresses", "folders"),
    [(("127.0.0.1", "127.0.0.1"), 2), (("10.0.0.0", "10.0.0.1"), 0)],
)
def test_hosts_that_are_one_machine_share_no_session_of_mpi(
    addresses: tuple[str, str], folders: int
) -> None:
    """Open MPI's daemons would share a folder there, and the first to end would remove it."""
    job = job_of("framework: mpi\nrun: x.py\nnum_nodes: 2\nresources: {nproc_per_node: 2}")
    hosts = [Host(f"h{n}", address=ip, workdir=f"/home/{n}") for n, ip in enumerate(addresses)]
    layout = make_layout(job, hosts, {}, "r")
    names = {host.name: host.address or "" for host in hosts}
    plan = planner.plan(job, layout, Meeting(addresses[0], 29500, {}, names, {}), "agent")
    found = [p.env.get("OMPI_MCA_orte_tmpdir_base") for node in plan.nodes for p in node.processes]
    assert len({folder for folder in found if folder}) == folders
