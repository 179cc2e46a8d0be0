"""What the tools of GPUs print, read by the agent; the tools are fakes, made from their documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent.host import devices, gpu_users, gpus
from launcher.agent.relay import now
from support import gpu_tools


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def install(tools: Path, name: str, text: str) -> None:
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)


def test_a_divided_gpu_is_listed_as_its_mig_instances(tools: Path) -> None:
    names = gpu_tools.uuids("gpu1", 2)
    install(tools, "nvidia-smi", gpu_tools.nvidia_smi(names, {1: 2}))
    found = [(gpu["index"], gpu["name"], gpu["uuid"], gpu["memory"]) for gpu in gpus.listed()]
    assert found == [
        (0, "NVIDIA Fake GPU", names[0], 81559),
        (1010, "NVIDIA Fake GPU MIG 1g.10gb", gpu_tools.mig_uuid(names[1], 0), 10240),
        (1011, "NVIDIA Fake GPU MIG 1g.10gb", gpu_tools.mig_uuid(names[1], 1), 10240),
    ]


def test_a_driver_that_knows_no_mig_lists_its_gpus(tools: Path) -> None:
    """It refuses the whole query for a field that it does not know."""
    text = gpu_tools.nvidia_smi(gpu_tools.uuids("gpu1", 2))
    old = "*mig.mode*) exit 2 ;;\n-L)"
    install(tools, "nvidia-smi", text.replace("-L)", old, 1))
    assert [gpu["index"] for gpu in gpus.listed()] == [0, 1]


def test_processes_on_gpus_are_told_with_owner_memory_and_age(tools: Path) -> None:
    (name,) = gpu_tools.uuids("gpu1", 1)
    apps = tools / "apps"
    text = gpu_tools.nvidia_smi([name]).replace(gpu_tools.APPS, str(apps))
    install(tools, "nvidia-smi", text)
    apps.write_text(f"{os.getpid()}, {name}, 700\n")
    (use,) = gpu_users.users(gpus.listed(), gpu_users.ask())
    assert (use["gpu"], use["pid"], use["memory"]) == (0, os.getpid(), 700)
    assert use["since"] is not None


OTHERS = {
    "amd-smi": (
        "amd",
        ["0x4162405E51BB99B0", "0x4162405E51BB99B1"],
        "GPU-4162405e51bb99b1",
        196592,
    ),
    "rocm-smi": ("amd", ["0x1", "0x92468c4f"], "GPU-92468c4f", 16368),
    "xpu-smi": ("intel", ["0000-a", "0000-b"], "0000-b", 65536),
}


@pytest.mark.thorough
@pytest.mark.parametrize("tool", OTHERS)
def test_other_vendors_are_listed_and_watched(tools: Path, tool: str) -> None:
    vendor, given, uuid, memory = OTHERS[tool]
    apps = tools / "apps"
    install(tools, tool, gpu_tools.other(tool, given).replace(gpu_tools.APPS, str(apps)))
    apps.write_text(f"{os.getpid()}, 1, 700\n")
    second = gpus.listed()[1]
    assert (second["vendor"], second["index"], second["uuid"]) == (vendor, 1, uuid)
    assert second["memory"] == memory
    (use,) = gpu_users.users(gpus.listed(), gpu_users.ask())
    assert (use["gpu"], use["pid"]) == (1, os.getpid())
    busy = {"percent": 7, "celsius": 41}
    assert gpus.vendor(vendor).load(10.0) == {
        0: {**busy, "memory": 0}, 1: {**busy, "memory": 700},
    }  # fmt: skip
    health = devices.devices(gpus.listed(), [])
    assert health["failing"] is False
    if tool == "amd-smi":
        assert health["ecc"] == {"0": 0, "1": 1}


@pytest.mark.parametrize("tool", ["nvidia-smi", *OTHERS])
@pytest.mark.parametrize("text", ["exit 9", "echo; echo '{'", "echo '[[1], {}]'"])
def test_a_tool_that_says_nonsense_lists_no_gpu(tools: Path, tool: str, text: str) -> None:
    install(tools, tool, f"#!/bin/sh\n{text}\n")
    assert gpus.listed() == []
    assert gpu_users.users([], None) == []
    if text == "exit 9":
        assert gpus.failing() in ("nvidia-smi", "amd-smi", "xpu-smi")


@pytest.mark.parametrize("name", ["nvidia", "amd", "intel"])
@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '{"gpu_data": 3}', "PID x is\n1", "1,2"])
def test_what_a_tool_says_of_processes_may_be_nonsense(name: str, text: str) -> None:
    assert gpus.vendor(name).apps(text) in ([], [(1, "2", 0)])


def test_what_a_tool_does_not_say_is_not_known(tools: Path) -> None:
    """A MIG instance is as hot as its GPU; the rest is [N/A] there, and on what has fallen off the bus."""
    names = gpu_tools.uuids("gpu1", 3)
    text = gpu_tools.nvidia_smi(names, {1: 1}).replace(gpu_tools.LOAD, str(tools / "load"))
    install(tools, "nvidia-smi", text)
    (tools / "load").write_text("0, 93, 71, 60000\n1, [N/A], 55, 0\n2, [N/A], [N/A], 0\n")
    seen = now.Now().look()["gpus"]
    assert seen["0"] == {"percent": 93, "celsius": 71, "memory": 60000}
    assert seen["1010"] == {"percent": None, "celsius": 55, "memory": None}
    assert seen["2"]["celsius"] is None
