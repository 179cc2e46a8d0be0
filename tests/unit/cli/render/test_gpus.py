"""What `launcher gpus` shows: models, what is free, and who uses the rest."""

from __future__ import annotations

from typing import Any

from launcher.cli.render.gpus import gpus_json, gpus_text
from launcher.spec.errors import HostError
from launcher.spec.model import Facts, Gpu, GpuUser

NOW = 10_000.0


def facts(host: str, *names: str, **known: Any) -> Facts:
    listed = tuple(Gpu(i, name, f"GPU-{host}-{i}", 49140) for i, name in enumerate(names))
    return Facts(host, host, "/r", "python3", "3.11.2", 8, gpus=listed, **known)


def test_the_first_command_of_the_morning() -> None:
    four = ("NVIDIA RTX A6000",) * 4
    known = {
        "gpu1": facts(
            "gpu1", *four,
            gpu_users=(
                GpuUser(0, 42, "bob", "python", None, 20480, NOW - 3 * 3600),
                GpuUser(2, 42, "bob", "python", None, 20480, NOW - 3 * 3600),
            ),
        ),
        "gpu2": facts("gpu2", *four),
        "gpu3": facts("gpu3", *four),
        "gpu4": facts(
            "gpu4", *four,
            leased={i: {"user": "ann", "run": "sweep-a-e7f1", "since": NOW - 120} for i in (0, 1)},
        ),
        "cpu1": facts("cpu1"),
    }  # fmt: skip
    lines = gpus_text(known, NOW, {"gpu8": "moved", "gpu9": "moved"}).splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["gpu1", "gpu[2-3]", "gpu4", "cpu1"]
    assert lines.pop(5).split() == ["gpu[8-9]", "-", "-", "off:", "moved"]
    assert "4x RTX A6000 48 GB" in lines[1]
    assert lines[1].endswith("0,2 bob python 40 GB (not launcher, 3 h)")
    assert lines[3].endswith("0-1 ann sweep-a-e7f1 (2 min)")
    assert lines[5] == "16 GPUs, 12 free"
    assert max(map(len, lines)) <= 80


def test_programs_get_each_gpu() -> None:
    known = {"gpu4": facts("gpu4", "A", "B", leased={1: {"user": "ann"}})}
    silent = HostError("gpu5", "no answer")
    host, lost, off = gpus_json({**known, "gpu5": silent}, {"gpu9": "moved"})
    assert lost["error"] == "gpu5: no answer"
    assert (host["off"], off) == (None, {"host": "gpu9", "gpus": [], "off": "moved"})
    first, second = host["gpus"]
    assert (first["state"], first["uuid"]) == ("free", "GPU-gpu4-0")
    assert (second["state"], second["user"], second["run"]) == ("held", "ann", "")


def test_who_uses_them_continues_below_itself_in_a_narrow_terminal() -> None:
    users = tuple(
        GpuUser(i, 42 + i, user, "python", None, 20480, NOW - 3 * 3600)
        for i, user in enumerate(("bob", "eve", "ann"))
    )
    known = {"gpu1": facts("gpu1", *("NVIDIA RTX A6000",) * 4, gpu_users=users)}
    assert gpus_text(known, NOW, {}, width=72).split("\n") == [
        "hosts  gpus                free  used by",
        "gpu1   4x RTX A6000 48 GB  1     0 bob python 20 GB (not launcher, 3 h);",
        "                                 1 eve python 20 GB (not launcher, 3 h);",
        "                                 2 ann python 20 GB (not launcher, 3 h)",
        "4 GPUs, 1 free",
    ]
