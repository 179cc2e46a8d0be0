"""Task files of other systems: the job that each becomes, and the notes."""

from __future__ import annotations

import pytest
import yaml

from launcher.api import formats
from launcher.interop import tasks
from launcher.interop.inventories import export
from launcher.spec.environments import Environment
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Resources
from support.task_files import SKYPILOT, TASKS, job_of, loaded, planned

DSTACK = """\
type: task
name: ddp
nodes: 2
python: "3.12"
env: [NCCL_DEBUG=INFO, HF_TOKEN]
commands:
  - pip install -r requirements.txt
  - |
    torchrun --node-rank=$DSTACK_NODE_RANK \\
      --nproc-per-node=$DSTACK_GPUS_PER_NODE --master-addr=$DSTACK_MASTER_NODE_IP train.py
resources: {gpu: "24GB:1..2", shm_size: 24GB}
priority: 50
"""


def test_skypilot() -> None:
    job, notes = loaded(SKYPILOT, "skypilot")
    script = yaml.safe_load(SKYPILOT)["run"]
    assert job.pop("run")[0] == (
        "set +e\n"
        "export SKYPILOT_NODE_RANK=$NODE_RANK\n"
        "export SKYPILOT_NUM_NODES=$NUM_NODES\n"
        "export SKYPILOT_NODE_IPS=\"$(printf '%s\\n' {{host:node.0}} {{host:node.1}})\"\n" + script
    )
    assert job == {
        "framework": "env",
        "name": "minGPT-ddp",
        "num_nodes": 2,
        "workdir": "~/code",
        "hosts": "my-cluster",
        "resources": Resources(gpus=16, gpu_model="A100"),
        "envs": {"LR": "0.1"},
        "secrets": {"WANDB": None, "HF_TOKEN": None, "OTHER": None},
        "setup": "pip install -r req.txt\n\ntrue\n",
    }
    assert [note.partition(":")[0] for note in notes] == [
        "line 1",
        "line 3",
        "line 4",
        "line 5",
        "line 8",
        "line 9",
        "line 10",
    ]
    assert "abc123" not in str(notes)


def test_dstack() -> None:
    job, notes = loaded(DSTACK, "dstack")
    assert job == {
        "framework": "env",
        "name": "ddp",
        "num_nodes": 2,
        "resources": Resources(gpus=2),
        "envs": {"NCCL_DEBUG": "INFO"},
        "secrets": {"HF_TOKEN": None},
        "run": (
            "export DSTACK_NODE_RANK=$NODE_RANK\n"
            "export DSTACK_MASTER_NODE_IP=$MASTER_ADDR\n"
            "export DSTACK_GPUS_PER_NODE=$NUM_TRAINERS\n"
            "pip install -r requirements.txt\n"
            "torchrun --node-rank=$DSTACK_NODE_RANK \\\n"
            "  --nproc-per-node=$DSTACK_GPUS_PER_NODE --master-addr=$DSTACK_MASTER_NODE_IP train.py\n",
        ),
    }
    said = " ".join(notes)
    for word in (
        "python of the task",
        "the GPU range, 1, is used",
        "shm_size",
        "priority",
        "the GPU type (24GB)",
    ):
        assert word in said


@pytest.mark.parametrize(
    ("gpu", "each"),
    [("8", 8), ("A100:2", 2), ("{name: H100, count: 4}", 4), ("2..", 2), ("80GB", 1)],
)
def test_gpus_of_dstack(gpu: str, each: int) -> None:
    job, _ = loaded(f"type: task\ncommands: [a]\nresources: {{gpu: {gpu}}}", "dstack")
    assert job["resources"] == Resources(gpus=each)


def test_whose_end_ends_a_task_of_dstack() -> None:
    job, notes = job_of((TASKS / "dstack-distributed.yaml").read_text(), "dstack")
    assert [(role.name, role.replicas, role.primary) for role in job.roles] == [
        ("master", 1, True),
        ("worker", 1, False),
    ]
    assert job.needs == ("/mnt/datasets",)
    nodes = planned(job, 8).nodes
    assert [[process.key for process in node.processes] for node in nodes] == [
        ["master-0"],
        ["worker-0"],
    ]
    for node in nodes:
        (process,) = node.processes
        assert "DSTACK_NODES_IPS=\"$(printf '%s\\n' 10.0.0.1 10.0.0.2)\"" in process.argv[-1]
        assert process.env["NUM_TRAINERS"] == "8"
    assert "dstack secret wandb" in notes
    assert "counted together" not in notes


def test_what_looks_like_a_token_is_passed_on() -> None:
    text = "type: task\ncommands: [\"echo '{{ user }}' '{{.Names}}'\"]"
    job, notes = job_of(text, "dstack")
    assert planned(job, 1).nodes[0].processes[0].argv[-1] == "echo '{{ user }}' '{{.Names}}'"
    assert "{{ user }} is unknown and stays as it is" in notes


@pytest.mark.parametrize(
    ("form", "text", "error"),
    [
        ("skypilot", "name: a", "x:1: it has no command to run"),
        ("skypilot", "run: a\nnum_nodes: many", "x:2: num_nodes is a whole number"),
        ("skypilot", "run: a\nenvs: {'A B': 1}", "x:2: 'A B' cannot be the name of a variable"),
        (
            "skypilot",
            "run: !!python/object:os.system a",
            "x:1: the YAML tag '!!python/object:os.system'",
        ),
        ("skypilot", "run: a\n---\nrun: b", "x:1: a pipeline of several tasks"),
        ("skypilot", "- a", "x:1: expected a task, found a list"),
        ("dstack", "type: service\ncommands: [a]", "x:1: only type: task"),
        ("dstack", "type: task\ncommands: [[a]]", "x:2: commands[0] must be text, not a list"),
        ("dstack", "[" * 9999, "x:1: nested more than 100 levels deep"),
        ("osmo", "name: a", 'x:1: the file has no "workflow"'),
        ("osmo", "workflow:\n  tasks: [{name: a}]", "x:2: the task a has no command"),
        ("osmo", "workflow:\n  groups: [{tasks: []}, {tasks: []}]", "x:2: only a workflow of one"),
        (
            "osmo",
            "workflow:\n  tasks: [{name: a, command: [b], resource: big}]",
            "x:2: the workflow has no resources 'big'",
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
def test_bad_tasks(form: str, text: str, error: str) -> None:
    with pytest.raises(DocumentError) as caught:
        tasks.read(text, "x", form)
    assert str(caught.value).startswith(error)


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(InputError) as caught:
        tasks.read("run: a", "x", "skypilt")
    assert caught.value.hint == 'did you mean "skypilot"?'


@pytest.mark.parametrize("value", ["a\nb: c", "x\n", "x\n\n", "a\nb\n", "\nx", "a\n\nb", " a\nb"])
def test_values_of_several_lines_stay_as_they_are(value: str) -> None:
    text = yaml.safe_dump({"run": "a", "envs": {"V": value}})
    assert loaded(text, "skypilot")[0]["envs"]["V"] == value


def test_completion_knows_all_formats() -> None:
    """They stand there once more, so that Tab imports no reader."""
    assert set(formats.TASKS) == set(tasks.FORMATS)
    assert set(formats.EXPORTS) == set(export.FORMATS)


OF_SEVERAL = """
workflow:
  groups:
  - ignoreNonleadStatus: false
    tasks:
    - {name: head, image: "x/head:1", command: [a], lead: true}
    - {name: worker, image: "%s", command: [b]}
"""
REPLICAS = """
version: 1.1
kind: component
run:
  kind: pytorchjob
  master: {container: {image: "x/head:1", command: [a]}}
  worker: {replicas: 2, container: {image: "%s", command: [b]}}
"""


@pytest.mark.parametrize(
    ("form", "text", "head"), [("osmo", OF_SEVERAL, "head"), ("polyaxon", REPLICAS, "master")]
)
def test_each_task_keeps_its_image(form: str, text: str, head: str) -> None:
    job, notes = job_of(text % "x/worker:1", form)
    assert job.environment is None
    named = {role.name: role.environment for role in job.roles}
    assert named == {head: Environment(image="x/head:1"), "worker": Environment(image="x/worker:1")}
    assert "carried over" not in notes
    job, _ = job_of(text % "x/head:1", form)
    assert job.environment == Environment(image="x/head:1"), "the only one is that of the job"
    assert not any(role.environment for role in job.roles)
    job, notes = job_of(text % "x/$TAG", form)
    assert "the image is not carried over: its name holds variables" in notes
    named = {role.name: role.environment for role in job.roles}
    assert named == {head: Environment(image="x/head:1"), "worker": Environment()}


def test_a_job_whose_image_has_variables_is_in_none() -> None:
    text = (
        'version: 1.1\nkind: component\nrun: {kind: job, container: {image: "%s", command: [a]}}\n'
    )
    job, notes = job_of(text % "{{ image }}", "polyaxon")
    assert "the image is not carried over" in notes
    assert job.environment is None
    job, _ = job_of(text % "x/y:1", "polyaxon")
    assert job.environment == Environment(image="x/y:1")


def test_images_are_carried_over() -> None:
    task = "resources: {{image_id: {}}}\nrun: python train.py\n"
    job, _ = loaded(task.format("docker:nvcr.io/x/y:1"), "skypilot")
    assert job["environment"] == {"image": "nvcr.io/x/y:1"}
    job, notes = loaded(task.format("ami-1"), "skypilot")
    assert "environment" not in job
    assert any("disk of a machine" in note for note in notes)
    job, notes = loaded(
        "type: task\nimage: x/y:1\nvolumes: ['/mnt/sets:/sets', 'named:/other']\ncommands: [true]\n",
        "dstack",
    )
    assert job["environment"] == {"image": "x/y:1", "mounts": ("/mnt/sets:/sets",)}
    assert job["needs"] == ("/mnt/sets",)
    assert not any("nothing is mounted" in note for note in notes)
