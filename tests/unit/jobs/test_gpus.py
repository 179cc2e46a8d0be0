"""Which GPUs of a host a run may use: by inventory, environment and job, and what it sees of them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from launcher.jobs import gpus, job_file, planner
from launcher.jobs.gpus import with_foreign_held
from launcher.jobs.layout import make_layout
from launcher.spec import inventory as inventories
from launcher.spec.errors import GpusInUse, InputError, PlanError
from launcher.spec.inventory_writer import inventory_text
from launcher.spec.model import Facts, Gpu, GpuUser, Host, Layout, Meeting, holder_text

A, B = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"
MIG = [
    Gpu(0, uuid=A),
    Gpu(1010, uuid="MIG-1111-0"),
    Gpu(1011, uuid="MIG-2222-0"),
]
PLAIN = [Gpu(index, uuid=f"GPU-{index}{index}{index}{index}") for index in range(4)]


def facts(*listed: Gpu, host: str = "gpu1", **known: Any) -> Facts:
    return Facts(host, host, "/r", "/usr/bin/python3", "3.11.2", 8, gpus=tuple(listed), **known)


def laid_out(inventory: str, known: dict[str, Facts], **values: Any) -> Layout:
    job = job_file.make({"file": {"run": ("train.py",), **values}}, {})
    hosts = inventories.load(inventory, "i.yaml")
    return make_layout(job, inventories.select(hosts, job.hosts), known)


def env_of(layout: Layout, number: int = 0, **values: Any) -> dict[str, str]:
    job = job_file.make({"file": {"run": ("train.py",), **values}}, {})
    node = layout.nodes[number]
    return planner.environment(job, layout, node, Meeting("a", 1), 0)


def test_an_inventory_says_which_gpus() -> None:
    layout = laid_out("hosts: {gpu1: {gpus: [2, GPU-0000]}}", {"gpu1": facts(*PLAIN)})
    assert layout.nodes[0].gpus == (2, 0)
    env = env_of(layout)
    assert (env["CUDA_VISIBLE_DEVICES"], env["CUDA_DEVICE_ORDER"]) == ("2,0", "PCI_BUS_ID")
    text = inventory_text(inventories.load("hosts: {gpu1: {gpus: [2, '1:0']}}", "i.yaml"))
    assert inventories.load(text, "").hosts[0].gpu_ids == ("2", "1:0")


@pytest.mark.parametrize(
    ("inventory", "visible", "expected"),
    [
        ("gpu1: {}", "2,3", (2, 3)),
        ("gpu1: {}", "3,GPU-1111,9,0", (3, 1)),  # as for CUDA, what does not exist ends the list
        ("gpu1: {}", "", ()),
        ("gpu1: {env: {CUDA_VISIBLE_DEVICES: '1'}}", "2,3", (1,)),
        ("gpu1: {gpus: 1}", "2,3", (2,)),
        ("gpu1: {gpus: [3]}", "2,3", (3,)),
    ],
)
def test_the_environment_bounds_what_is_used(
    inventory: str, visible: str, expected: tuple[int, ...]
) -> None:
    host = inventories.load(f"hosts: {{{inventory}}}", "i.yaml").hosts[0]
    there = gpus.usable(host, facts(*PLAIN, visible={"CUDA_VISIBLE_DEVICES": visible}))
    assert there.indices == expected
    assert "CUDA_VISIBLE_DEVICES=" in there.bound
    assert set(there.outside).isdisjoint(expected)


def test_a_gpu_that_the_environment_leaves_out_is_no_silent_choice() -> None:
    known = {"gpu1": facts(*PLAIN, visible={"CUDA_VISIBLE_DEVICES": "2,3"})}
    with pytest.raises(PlanError, match="leaves it out") as caught:
        laid_out("hosts: {gpu1: {gpus: [0]}}", known)
    assert "CUDA_VISIBLE_DEVICES=2,3 (environment of the host)" in str(caught.value)
    with pytest.raises(PlanError, match="nvidia-smi finds GPU 0-3"):
        laid_out("hosts: {gpu1: {gpus: [7]}}", known)


def test_a_dry_run_knows_the_inventory() -> None:
    layout = laid_out("hosts: {gpu1: {env: {CUDA_VISIBLE_DEVICES: '2,3'}, gpus: 4}}", {})
    assert layout.nodes[0].gpus == (2, 3)
    named = laid_out("hosts: {gpu1: {gpus: [1, GPU-aaaa]}}", {}).nodes[0]
    assert (named.gpus, named.gpu_labels) == ((1, 0), ("1", "GPU-aaaa"))
    assert laid_out("hosts: [gpu1]", {}, resources={"gpu_ids": "2-3"}).nodes[0].gpus == (2, 3)


def test_a_job_says_which_gpus_and_gets_all_of_them_or_none() -> None:
    known = {
        "gpu1": facts(*PLAIN, leased={3: {"user": "ada", "run": "x-1"}}),
        "gpu2": facts(*PLAIN, host="gpu2"),
    }
    layout = laid_out("hosts: [gpu1, gpu2]", known, resources={"gpu_ids": [2, 3]})
    assert [(node.host.name, node.gpus) for node in layout.nodes] == [("gpu2", (2, 3))]
    with pytest.raises(PlanError, match=r"in use by ada \(x-1\)|are free"):
        laid_out("hosts: [gpu1]", known, resources={"gpu_ids": [2, 3]})
    with pytest.raises(PlanError, match="no host has that GPU"):
        laid_out("hosts: [gpu1, gpu2]", known, resources={"gpu_ids": "GPU-ffff"})
    wanted = {"gpu_ids": [0, 1], "nproc_per_node": 3}
    with pytest.raises(PlanError, match="contradicts --gpu-ids"):
        laid_out("hosts: [gpu1]", known, resources=wanted)


def test_uuids_may_be_spread_over_hosts() -> None:
    known = {"gpu1": facts(Gpu(0, uuid=A)), "gpu2": facts(Gpu(0), Gpu(1, uuid=B), host="gpu2")}
    layout = laid_out("hosts: [gpu1, gpu2]", known, resources={"gpu_ids": [A, "GPU-bbbb"]})
    assert [(node.host.name, node.gpus) for node in layout.nodes] == [
        ("gpu1", (0,)),
        ("gpu2", (1,)),
    ]


def test_a_mig_instance_is_a_gpu_of_its_own() -> None:
    layout = laid_out("hosts: [gpu1]", {"gpu1": facts(*MIG)}, resources={"gpu_ids": "1:1"})
    assert (layout.nodes[0].gpus, layout.nodes[0].gpu_labels) == ((1011,), ("1:1",))
    assert env_of(layout)["CUDA_VISIBLE_DEVICES"] == "MIG-2222-0"
    with pytest.raises(PlanError, match="single MIG instance"):
        laid_out("hosts: [gpu1]", {"gpu1": facts(*MIG)}, resources={"gpu_ids": "1:0,1:1"})


def test_without_names_a_run_takes_what_one_program_can_use() -> None:
    assert laid_out("hosts: [gpu1]", {"gpu1": facts(*MIG)}).nodes[0].gpus == (0,)
    assert laid_out("hosts: [gpu1]", {"gpu1": facts(*MIG[1:])}).nodes[0].gpus == (1010,)
    held = facts(*MIG[1:], leased={1010: {"user": "ada"}})
    assert laid_out("hosts: [gpu1]", {"gpu1": held}).nodes[0].gpus == (1011,)


@pytest.mark.parametrize("held", [1, 1010])
def test_a_gpu_and_its_instances_exclude_each_other(held: int) -> None:
    """Also where another version of launcher knows the GPU as a whole."""
    offers = [Gpu(1)] if held == 1010 else MIG[1:]
    known = facts(*offers, leased={held: {"user": "ada", "run": "x-1"}})
    with pytest.raises(PlanError, match=r"in use by ada \(x-1\)"):
        laid_out("hosts: [gpu1]", {"gpu1": known}, resources={"gpus": 1})


def test_each_process_of_a_role_sees_its_own_instance() -> None:
    roles = {"worker": {"replicas": 2, "resources": {"gpus": 1}}}
    job = job_file.make({"file": {"run": ("train.py",), "roles": roles, "framework": "torch"}}, {})
    layout = make_layout(job, [Host("gpu1")], {"gpu1": facts(*MIG[1:])})
    plan = planner.plan(job, layout, Meeting("a", 1), "agent")
    seen = [process.env["CUDA_VISIBLE_DEVICES"] for process in plan.nodes[0].processes]
    assert seen == ["MIG-1111-0", "MIG-2222-0"]


@pytest.mark.parametrize("layer", ["flag", "file"])
def test_the_variable_itself_is_refused_with_what_to_do(layer: str) -> None:
    with pytest.raises(InputError) as caught:
        job_file.make({layer: {"run": ("x.py",), "envs": {"CUDA_VISIBLE_DEVICES": "1"}}}, {})
    assert "--gpu-ids" in caught.value.hint


@pytest.mark.parametrize("text", ["", "a", "0-", "2,2", "GPU aaaa", "1:99"])
def test_names_of_no_gpu_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"names no GPU|twice|i\.yaml:1"):
        inventories.load(f"hosts: {{gpu1: {{gpus: ['{text}']}}}}", "i.yaml")


@pytest.mark.parametrize(
    ("vendor", "login", "expected"),
    [
        ("amd", {}, {"HIP_VISIBLE_DEVICES": "0,1,2,3"}),
        ("amd", {"ROCR_VISIBLE_DEVICES": "2,3"}, {"HIP_VISIBLE_DEVICES": "0,1"}),
        ("amd", {"HIP_VISIBLE_DEVICES": "2,3"}, {"HIP_VISIBLE_DEVICES": "2,3"}),
        (
            "amd",
            {"ROCR_VISIBLE_DEVICES": "1,2,3", "HIP_VISIBLE_DEVICES": "2"},
            {"HIP_VISIBLE_DEVICES": "2"},
        ),
        ("intel", {"ZE_AFFINITY_MASK": "1"}, {"ZE_AFFINITY_MASK": "1"}),
        ("intel", {}, {"ZE_AFFINITY_MASK": "0,1,2,3", "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}),
    ],
)
def test_each_vendor_has_its_variable(
    vendor: str, login: dict[str, str], expected: dict[str, str]
) -> None:
    """HIP counts what ROCr lets through, so its numbers begin anew there."""
    listed = [Gpu(index, uuid=f"GPU-{index}", vendor=vendor) for index in range(4)]
    known = {"gpu1": facts(*listed, visible=login)}
    env = env_of(laid_out("hosts: [gpu1]", known))
    assert expected.items() <= env.items()
    assert "CUDA_VISIBLE_DEVICES" not in env


def test_no_gpus_are_visible_where_none_are_wanted() -> None:
    known = {"gpu1": facts(Gpu(0, vendor="amd"))}
    layout = laid_out("hosts: [gpu1]", known, resources={"gpus": 0})
    assert env_of(layout, resources={"gpus": 0})["HIP_VISIBLE_DEVICES"] == "-1"


BOB = GpuUser(0, 4242, "bob", "python-train", None, 40960)


def used_by_bob(*indices: int, host: str = "gpu1") -> Facts:
    return facts(*PLAIN, host=host, gpu_users=tuple(replace(BOB, gpu=index) for index in indices))


def test_gpus_that_somebody_uses_outside_launcher_are_taken_last() -> None:
    known = {"gpu1": used_by_bob(0, 2), "gpu2": facts(*PLAIN, host="gpu2")}
    one = laid_out("hosts: [gpu1]", known, resources={"gpus": 1})
    assert one.nodes[0].gpus == (1,)
    assert laid_out("hosts: [gpu1]", known).nodes[0].gpus == (1, 3)
    six = laid_out("hosts: [gpu1, gpu2]", known, resources={"gpus": 6})
    assert [node.gpus for node in six.nodes] == [(1, 3), (0, 1, 2, 3)]
    all_ = laid_out("hosts: [gpu1]", known, resources={"gpus": 4})
    assert all_.nodes[0].gpus == (0, 1, 2, 3)
    named = laid_out("hosts: [gpu1]", known, resources={"gpu_ids": "0"})
    assert named.nodes[0].gpus == (0,)


def test_gpus_that_somebody_uses_outside_launcher_are_held_unless_the_run_ignores_it() -> None:
    """The error says who, with what, since when, and how to share them."""
    bob = replace(BOB, since=time.mktime((2026, 11, 27, 10, 28, 30, 0, 0, -1)) + 5)
    known = {"gpu1": with_foreign_held(replace(used_by_bob(0), gpu_users=(bob,), clock_offset=5.0))}
    assert laid_out("hosts: [gpu1]", known).nodes[0].gpus == (1, 2, 3)
    for wanted in ({"gpus": 4}, {"gpu_ids": "0"}):
        with pytest.raises(GpusInUse) as caught:
            laid_out("hosts: [gpu1]", known, resources=wanted)
        assert (
            "by bob (pid 4242 python-train, 40 GB, since 27 Nov 10:28) outside launcher"
            in caught.value.message
        )
        assert "--ignore-foreign" in caught.value.hint
    assert with_foreign_held(known["gpu1"]) == known["gpu1"]


def test_memory_of_no_process_is_use_and_told_apart() -> None:
    """A driver takes some memory by itself, and a run's own processes may be invisible in a container."""
    listed = [
        replace(PLAIN[i], memory_used=used) for i, used in enumerate((900, 12288, 3000, 3000))
    ]
    known = facts(
        *listed, leased={2: {"user": "ada", "run": "x-1"}}, gpu_users=(replace(BOB, gpu=3),)
    )
    assert list(gpus.foreign(known)) == [3, 1]
    held = with_foreign_held(known)
    assert holder_text(held.leased[1]) == "no process (12 GB) outside launcher"
    states = {one.index: (one.state, one.user, one.pid, one.used) for one in gpus.states(held)}
    assert states == {
        0: ("free", "", None, 900),
        1: ("left", "", None, 12288),
        2: ("held", "ada", None, 3000),
        3: ("foreign", "bob", 4242, 40960),
    }


def test_a_host_whose_gpus_are_all_used_is_passed_over_while_there_are_others() -> None:
    known = {"gpu1": used_by_bob(0, 1, 2, 3)}
    job = job_file.make({"file": {"run": ("train.py",)}}, {})
    with pytest.raises(PlanError):
        make_layout(job, [Host("gpu1")], known, only_idle=True)
    assert make_layout(job, [Host("gpu1")], known).nodes[0].gpus == (0, 1, 2, 3)


def test_a_job_that_would_fit_if_gpus_were_free_is_not_a_mistake() -> None:
    """A program that tries again tells 75 from 2, a job that no host can hold."""
    known = {"gpu1": facts(*PLAIN, leased={0: {"user": "ada", "run": "x-1"}})}
    with pytest.raises(GpusInUse) as caught:
        laid_out("hosts: [gpu1]", known, resources={"gpus": 4})
    assert (caught.value.exit_code, caught.value.code) == (75, "gpu-busy")
    with pytest.raises(PlanError) as never:
        laid_out("hosts: [gpu1]", known, resources={"gpus": 5})
    assert (never.value.exit_code, never.value.code) == (2, "does-not-fit")
    assert "the hosts have only 4 GPUs" in never.value.message
    assert never.value.hint == "--gpus 3 would fit now; 4 once all are free"


@pytest.mark.parametrize("wanted", [{"gpus": 9}, {"nproc_per_node": 5}])
def test_nobody_is_told_to_wait_for_gpus_that_the_hosts_do_not_have(wanted: dict[str, int]) -> None:
    known = {"gpu1": facts(*PLAIN, leased={n: {"user": "ada", "run": "x-1"} for n in range(4)})}
    with pytest.raises(PlanError) as never:
        laid_out("hosts: [gpu1]", known, resources=wanted)
    assert never.value.code == "does-not-fit"
    assert "--wait" not in never.value.hint
    assert "--gpus 4 would fit once they are free" in never.value.hint


def test_processes_of_runs_are_not_foreign() -> None:
    """Neither ours, which name their run, nor those of others, whose lock says whose they are."""
    own, other = replace(BOB, run="calm-otter-1234"), replace(BOB, gpu=1010)
    assert gpus.foreign(facts(*PLAIN, gpu_users=(own,))) == {}
    assert gpus.foreign(facts(*MIG, gpu_users=(other,), leased={1: {"user": "bob"}})) == {}
    assert gpus.foreign(facts(*PLAIN, gpu_users=(BOB,))) == {0: (BOB,)}
    assert gpus.users_text([BOB, BOB]) == "bob (pid 4242 python-train, 80 GB)"


A100 = [replace(gpu, name="NVIDIA A100-SXM4-80GB", memory=81920) for gpu in PLAIN]
A6000 = [replace(gpu, name="NVIDIA RTX A6000", memory=49140) for gpu in PLAIN]


def test_a_job_gets_gpus_of_the_model_that_it_names() -> None:
    known = {"gpu1": facts(*A6000), "gpu2": facts(*A6000[:2], *A100[2:], host="gpu2")}
    hosts = "hosts: [gpu1, gpu2]"
    layout = laid_out(hosts, known, resources={"gpus": "a100-80gb:2"})
    assert [(node.host.name, node.gpus) for node in layout.nodes] == [("gpu2", (2, 3))]
    with pytest.raises(PlanError) as few:
        laid_out(hosts, known, resources={"gpus": "A100:3"})
    assert str(few.value) == "gpus: A100:3: the hosts have only 2 A100 GPUs"
    assert few.value.hint == "--gpus A100:2 would fit now"
    with pytest.raises(PlanError) as none:
        laid_out(hosts, known, resources={"gpus": "H100:1"})
    assert str(none.value) == "gpus: H100:1: no host has GPUs of that model"
    assert none.value.hint == "there are: gpu1 4x RTX A6000; gpu2 2x RTX A6000, 2x A100-SXM4-80GB"
    held = {"gpu2": facts(*A100, host="gpu2", leased={1: {"user": "ada", "run": "x-1"}})}
    with pytest.raises(GpusInUse, match="only 3 of 4 A100 GPUs are free"):
        laid_out("hosts: [gpu2]", held, resources={"gpus": "A100:4"})


def test_an_inventory_names_the_model_of_a_host() -> None:
    text = "hosts: {gpu1: {gpus: 'A100:2'}, gpu2: {gpus: 8}}"
    layout = laid_out(text, {}, resources={"gpus": "A100:2"})
    assert [(node.host.name, node.gpus) for node in layout.nodes] == [("gpu1", (0, 1))]
    with pytest.raises(PlanError, match="that model"):
        laid_out("hosts: {gpu1: {gpus: 'A6000:2'}}", {}, resources={"gpus": "A100:2"})
    mixed = {"gpu1": facts(*A6000[:2], *A100[2:])}
    assert laid_out("hosts: {gpu1: {gpus: 'A100:1'}}", mixed).nodes[0].gpus == (2,)
    with pytest.raises(PlanError, match=r"says gpus: A100:3, nvidia-smi finds 2x RTX A6000, 2x A"):
        laid_out("hosts: {gpu1: {gpus: 'A100:3'}}", mixed)
    written = inventory_text(inventories.load(text, "i.yaml"))
    assert inventories.load(written, "").hosts == inventories.load(text, "").hosts
