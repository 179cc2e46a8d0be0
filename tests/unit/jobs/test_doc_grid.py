"""Grid's commands are refused with a hint to what does the same here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.command import Launcher
from support.documents import answered


def planned(launcher: Launcher, *flags: str) -> tuple[int, str, dict[str, int]]:
    """Exit code, complaint, and GPUs by host of a plan over hosts of four."""
    launcher.script("")
    inventory = launcher.work / "v100.yaml"
    inventory.write_text("hosts: {'gpu[1-3]': {gpus: 4}}\n")
    done = launcher.call("run", "-i", str(inventory), "--dry-run", "--json", *flags, "train.py")
    hosts = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
    return done.returncode, done.stderr, {one["host"]: len(one["gpus"]) for one in hosts}


@pytest.mark.thorough
def test_more_gpus_than_a_host_has_is_multi_node(tmp_path: Path) -> None:
    """`--gpus 5` on machines of four, without a word about nodes."""
    launcher = Launcher(tmp_path / "none", tmp_path, tmp_path / "home")
    assert planned(launcher, "--gpus", "1") == (0, "", {"gpu1": 1})
    assert planned(launcher, "--gpus", "5") == (0, "", {"gpu1": 4, "gpu2": 1})
    code, said, _ = planned(launcher, "--gpus", "5", "--framework", "lightning")
    assert code == 2
    assert "Lightning needs the same number of processes on every host: gpu1 4, gpu2 1" in said
    assert "use torchrun or torch, which take unequal hosts" in said


THEIRS = {
    "run --strategy bayes train.py": "launcher sweep train.py --lr '[0.1, 0.01]' is the same in our words",
    "run --instance_type 4_v100_32gb train.py": "choose machines with --hosts: by name, group or label",
    "run --credential_id remove-me train.py": "--secret NAME passes it from your environment",
    "artifacts spectral-wildebeest-860": "launcher pull RUN",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    answered(words, THEIRS[words], tmp_path)


def dry_run(launcher: Launcher, *words: str) -> Any:
    """What a dry run of these words prints."""
    launcher.script("")
    inventory = launcher.work / "one.yaml"
    inventory.write_text("hosts: {gpu1: {}}\n")
    launcher.env["LAUNCHER_INVENTORY"] = str(inventory)
    done = launcher.call(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


VALUES = ["train.py", "--lr", "[0.1, 0.01]", "--bs", "[32, 64]"]


@pytest.mark.thorough
@pytest.mark.parametrize("words", [["--strategy", "grid_search"], ["--strategy=grid_search"]])
def test_a_sweep_in_grids_words_is_a_sweep(words: list[str], tmp_path: Path) -> None:
    launcher = Launcher(tmp_path / "none", tmp_path, tmp_path / "home")
    theirs = dry_run(launcher, "run", *words, "--dry-run", "--json", *VALUES)
    assert theirs == dry_run(launcher, "sweep", "run", "--dry-run", "--json", *VALUES)
    assert len(theirs) == 4
    drawn = ["--strategy", "random_search", "--num_trials", "2", "--dry-run", "--json"]
    assert len(dry_run(launcher, "run", *drawn, *VALUES)) == 2


def test_a_strategy_behind_the_script_is_the_scripts_own(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path / "none", tmp_path, tmp_path / "home")
    plan = dry_run(launcher, "run", "--dry-run", "--json", "train.py", "--strategy", "ddp")
    assert "'--strategy', 'ddp'" in str(plan)
