"""What the tools of GPUs print, read by the agent; the tools are fakes, made from their documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent.host import devices, gpus
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
    (use,) = devices.users(gpus.listed())
    assert (use["gpu"], use["pid"], use["memory"]) == (0, os.getpid(), 700)
    assert use["since"] is not None
