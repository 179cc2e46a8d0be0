"""Experiments of Polyaxon and workflows of OSMO: the roles that they become, and that those run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lab as labs
import pytest
from conftest import Launcher
from test_frameworks import TRAIN_DIST

from launcher import import_jobs, planning
from launcher import job as jobs
from launcher.errors import DocumentError
from launcher.model import Facts, Host, Job, Meeting, Plan

TASKS = Path(__file__).parent / "cases" / "tasks"
MIB = 1 << 20


def made(name: str, form: str) -> tuple[Job, str]:
    """The job that a file becomes, and all notes."""
    return job_of((TASKS / f"{name}.yaml").read_text(), form)


def job_of(text: str, form: str) -> tuple[Job, str]:
    ours, notes = import_jobs.read(text, "theirs", form)
    assert all(f"#   {note}\n" in ours for note in notes)
    environment = {"HF_TOKEN": "1", "TOKEN": "2"}
    return jobs.make({"file": jobs.load(ours, "ours")}, environment), "\n".join(notes)


def planned(job: Job, gpus: int) -> Plan:
    hosts = tuple(Host(f"gpu{n}", gpus=gpus, address=f"10.0.0.{n}") for n in (1, 2, 3))
    known = {h.name: Facts(h.name, h.name, "/r", "python3", "3.11", 64) for h in hosts}
    return planning.plan(
        job, planning.layout(job, hosts, known, "r"), Meeting("10.0.0.1", 29500), "a"
    )


def shares(job: Job, role: str) -> list[tuple[int, Any, Any]]:
    found = job.role(role)
    every = [found.at(index).resources for index in range(found.replicas)]
    return [(s.gpus, s.cpus, s.memory and s.memory // MIB) for s in every]


def test_tensorflow_of_polyaxon() -> None:
    """Source: Polyaxon's "Distributed Experiments": 1 master, 7 workers, 3 parameter servers."""
    job, notes = made("polyaxon-tensorflow", "polyaxon")
    assert job.framework == "tensorflow"
    assert shares(job, "chief") == [(1, 2, 1024)]
    assert shares(job, "worker") == [(0 if n == 2 else 1, 2, 1024) for n in range(7)]
    assert shares(job, "ps") == [(0, 1, 512), (0, 1, 256), (0, 1, 256)]
    assert "requests are not carried over" in notes
    assert "does not say what to run" in notes
    keys = {p.key for node in planned(job, 4).nodes for p in node.processes}
    assert keys == {"chief-0", *(f"worker-{n}" for n in range(7)), *(f"ps-{n}" for n in range(3))}


@pytest.mark.parametrize(
    ("name", "framework", "roles"),
    [
        ("mxnet", "mxnet", {"scheduler": 1, "worker": 3, "server": 1}),
        ("pytorch", "torch", {"master": 1, "worker": 3}),
    ],
)
def test_mxnet_and_pytorch_of_polyaxon(name: str, framework: str, roles: dict[str, int]) -> None:
    job, _ = made(f"polyaxon-{name}", "polyaxon")
    assert (job.framework, {r.name: r.replicas for r in job.roles}) == (framework, roles)
    processes = [p for node in planned(job, 0).nodes for p in node.processes]
    assert len(processes) == sum(roles.values())
    if framework == "torch":
        assert {p.env["RANK"]: p.key for p in processes}["0"] == "master-0"


def test_polyaxons_command_and_older_keys() -> None:
    job, notes = job_of(
        "version: 1\nkind: experiment\ntags: [a]\ndeclarations: {lr: 0.1}\n"
        "environment:\n  env_vars: [[A, b c], [WORLD_SIZE, 3]]\n  pytorch:\n    n_workers: 2\n"
        "    default_worker_resources: {gpu: 1, cpu: 2}\n"
        "    worker_resources: [{index: 1, cpu: {limits: 0.5}}]\n"
        "run: {cmd: 'cd x && python train.py --lr={{ lr }} {{ other }}'}\n",
        "polyaxon",
    )
    assert job.run == ("bash", "-ec", "cd x && python train.py --lr=0.1 \\{{ other }}")
    assert job.envs == {"A": "b c"}
    assert shares(job, "worker") == [(1, 2, None), (0, 1, None)]
    for said in ("tags", "WORLD_SIZE", "{{ other }}", "0.5 became 1"):
        assert said in notes
    assert planned(job, 1).nodes[0].processes[0].argv[-1].endswith("--lr=0.1 {{ other }}")


def test_a_pytorchjob_of_polyaxon_2() -> None:
    job, notes = made("polyaxon-pytorchjob", "polyaxon")
    assert {r.name: r.replicas for r in job.roles} == {"master": 1, "worker": 3}
    assert job.role("master").run == (
        *("python", "-u", "train.py", "--lr=0.1"),
        "--name=\\{{ globals.name }}",
    )
    assert shares(job, "master") == [(1, 2, 4096)]
    assert job.role("worker").envs == {"A": "b c"}
    assert list(job.secrets) == ["TOKEN"]
    for said in ("cleanPodPolicy", "image", "RANK", "globals.name"):
        assert said in notes


def test_horovod_of_polyaxon() -> None:
    job, notes = job_of(
        "environment:\n  horovod:\n    n_workers: 3\n    default_worker: {resources: {gpu: 2}}\n"
        "run: python train.py",
        "polyaxon",
    )
    assert (job.framework, job.num_nodes, job.resources.gpus) == ("horovod", 4, 8)
    assert "num_nodes" in notes


def test_osmo() -> None:
    """Source: OSMO's "Using PyTorch Distributed (multi-node)"."""
    job, notes = made("osmo-pytorch", "osmo")
    master, worker = job.roles
    assert (master.lead, worker.lead, job.max_restarts) == (True, False, 3)
    assert master.on_exit == {
        "restart": ((11, 20),),
        "complete": ((3, 3),),
        "fail": ((1, 2), (4, 10), (21, 255)),
    }
    nodes = planned(job, 8).nodes
    texts = {p.key: p.argv[-1] for node in nodes for p in node.processes}
    assert texts["master-0"] == (
        "set +e\nexport MASTER_ADDR=10.0.0.1 OUTPUT=~/.launcher/host/runs/r/outputs\nfalse\n"
        "python3 scripts/train_dist.py --offset 0 --size 8 --world_size 16\n"
    ).replace("~/.launcher/host", "/r")
    assert texts["worker-0"] == (
        "python3 scripts/train_dist.py --offset 8 --size 8 --world_size 16"
        " --data \"${INPUT_0}\"'/a b'\n"
    )
    for said in (
        *("storage", "exec_timeout", "image", "of the workdir", "INPUT_0"),
        *("not fetched", "nothing is sent", "HF_TOKEN", "credential data", "max_restarts"),
    ):
        assert said in notes
    assert "hunter2" not in notes


def test_adding_a_task_of_osmo_changes_no_other() -> None:
    def roles(tasks: int) -> dict[str, Any]:
        lines = ["workflow:", "  name: a", "  resources: {default: {gpu: 8}}", "  groups:"]
        lines += ["  - tasks:"]
        for n in range(tasks):
            words = f"python3 /train_dist.py --offset {8 * n} --size 8 --world_size {8 * tasks}"
            lines.append(f"    - {{name: t{n}, command: [sh, -c, '{words}']}}")
        job, _ = job_of("\n".join(lines), "osmo")
        return {role.name: role for role in job.roles}

    two, three = roles(2), roles(3)
    assert two == {name: role for name, role in three.items() if name != "t2"}
    assert "--offset {{rank_offset}} --size {{local_world_size}}" in three["t2"].run[0]


def test_numbers_that_are_not_the_plans_stay() -> None:
    text = (
        "workflow:\n  tasks:\n  - {name: node, command: [a, --size, '4', --world-size=1, --sizes, '1'],"
        ' files: [{path: /etc/x y, contents: "it\'s $A\\n"}, {path: /b}], extra: 1}\n'
    )
    job, notes = job_of(text, "osmo")
    (role,) = job.roles
    assert role.name == "task-node"
    assert role.run[0].endswith("a --size 4 --world-size={{world_size}} --sizes 1\n")
    assert "cat > '/etc/x y' <<'END_OF_FILE'\nit's $A\nEND_OF_FILE\n" in role.run[0]
    for said in (
        "--size 4 stays",
        "/b has no contents",
        "/etc/x y is written",
        "extra",
        "task-node",
    ):
        assert said in notes


@pytest.mark.parametrize(
    ("form", "text", "error"),
    [
        ("osmo", "name: a", 'x:1: there is no "workflow"'),
        ("osmo", "workflow:\n  tasks: [{name: a}]", "x:2: the task a has no command"),
        ("osmo", "workflow:\n  groups: [{tasks: []}, {tasks: []}]", "x:2: only a workflow of one"),
        (
            "osmo",
            "workflow:\n  tasks: [{name: a, command: [b], resource: big}]",
            "x:2: there are no resources 'big'",
        ),
        ("polyaxon", "environment: {pytorch: {n_workers: x}}", "x:1: n_workers is a whole"),
        (
            "polyaxon",
            "environment:\n  pytorch:\n    n_workers: 1\n    worker: [{index: 1}]",
            "x:4: worker has no process 1: its indices are 0 to 0",
        ),
        ("polyaxon", "run: {kind: ray}", "x:1: a run of kind 'ray'"),
        ("polyaxon", "environment: {mxnet: {}, pytorch: {}}", "x:1: mxnet and pytorch"),
        ("polyaxon", "environment: {resources: {memory: much}}", "x:1: not an amount of memory"),
    ],
)
def test_bad_files(form: str, text: str, error: str) -> None:
    with pytest.raises(DocumentError) as caught:
        import_jobs.read(text, "x", form)
    assert str(caught.value).startswith(error)


def test_a_workflow_of_osmo_trains_on_two_hosts(clean: labs.Lab, launcher: Launcher) -> None:
    """Its document's command, a GPU a task; the script stands where that of its image would be."""
    text = (TASKS / "osmo-pytorch.yaml").read_text()
    text = text.replace("gpu: 8, cpu: 16, memory: 30Gi", "gpu: 1").replace("size 16", "size 2")
    text = text.replace("--size 8", "--size 1").replace('--size, "8"', '--size, "1"')
    text = text.replace('--offset, "8"', '--offset, "1"').replace('--world_size, "16"', '--world_size, "2"')  # fmt: skip
    text = text.replace(', --data, "{{input:0}}/a b"', "")
    launcher.script(TRAIN_DIST, "scripts/train_dist.py")
    launcher.script(text, "workflow.yaml")
    launcher.inventory.write_text(launcher.inventory.read_text().replace("{}", "{gpus: 1}"))
    done = launcher.call("import", "osmo", "workflow.yaml", "-o", "job.yaml")
    assert done.returncode == 0, done.stderr
    launcher.env |= {"HF_TOKEN": "x"}
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    said = ran.log("master-0.out") + ran.log("worker-0.out")
    lines = sorted(line.decode() for line in said.splitlines())
    assert lines == [f"rank {r} sees [0, 1] on ['lab1', 'lab2']" for r in range(2)]
