"""Batch scripts of Slurm: the job that each becomes, and the notes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from launcher.api import formats
from launcher.interop import tasks
from launcher.jobs import sweep_file
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Resources


def read(
    *lines: str, script: str = "srun python train.py\n"
) -> tuple[dict[str, object], list[str]]:
    """Return the values of the job file, without its command, and the notes."""
    header = "".join(f"#SBATCH {line}\n" for line in lines)
    text, notes = tasks.read(f"#!/bin/bash\n{header}\n{script}", "job.sh", "slurm")
    values = yaml.safe_load(text)
    assert values.pop("framework") == "sbatch"
    assert values.pop("run") == f"set +e\n{header}\n{script}"
    return values, list(notes)


def test_what_a_job_file_can_say() -> None:
    values, notes = read(
        "--job-name=fine-tune  # a comment",
        "-N 2 --ntasks-per-node=4",
        "--gres=gpu:a100:4",
        "--time 1-02:30:00",
        "-c 8",
        "-w 'gpu[1-2]'",
    )
    assert values == {
        "name": "fine-tune",
        "num_nodes": 2,
        "hosts": "gpu[1-2]",
        "resources": {"gpus": "a100:8"},
        "envs": {"SLURM_CPUS_PER_TASK": 8},
        "time": "95400s",
    }
    assert notes == [
        "line 4: gpus counts the GPUs of all nodes together: 4 on each of 2 nodes",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["-n 4"], {"num_nodes": 1, "resources": {"nproc_per_node": 4}}),
        (["-N2", "-n8"], {"num_nodes": 2, "resources": {"nproc_per_node": 4}}),
        (
            ["--nodes=2", "--gpus-per-node=4", "--ntasks-per-node=1"],  # srun torchrun
            {"num_nodes": 2, "resources": {"gpus": 8}, "envs": {"SLURM_NTASKS_PER_NODE": 1}},
        ),
        (["-N2", "-n4", "--gpus-per-task=1"], {"num_nodes": 2, "resources": {"gpus": 4}}),
        (["-N2", "-n4", "-G 4"], {"num_nodes": 2, "resources": {"gpus": 4}}),
        (["--gres=gpu"], {"num_nodes": 1, "resources": {"gpus": 1}}),
        (["-n4 --ntasks-per-node=2"], {"num_nodes": 2, "resources": {"nproc_per_node": 2}}),
        (
            ["-n4 --ntasks-per-node=2 --gpus-per-task=1"],
            {"num_nodes": 2, "resources": {"gpus": 4}},
        ),
        (
            ["-N2 -n4 --ntasks-per-node=4"],  # at most
            {"num_nodes": 2, "resources": {"nproc_per_node": 2}},
        ),
        (["-n4 --gpus-per-task=1"], {"resources": {"gpus": 4}}),  # on as many hosts as it takes
        (["-n4 -G a100:4"], {"resources": {"gpus": "a100:4"}}),
        (
            ["-w gpu[1-2]"],
            {"num_nodes": 2, "hosts": "gpu[1-2]", "resources": {"nproc_per_node": 1}},
        ),
    ],
)
def test_sizes(lines: list[str], expected: dict[str, object]) -> None:
    assert read(*lines)[0] == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-0:30", 88200)],
)
def test_times(text: str, seconds: int) -> None:
    assert read(f"--time={text}")[0]["time"] == f"{seconds}s"
    assert "time" not in read("--time=UNLIMITED")[0]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (
            "--output=/home/ana/%j.out",
            "--output=/home/ana/%j.out is not carried over: it is outside of the workdir",
        ),
        ("-d afterok:17", "--dependency=afterok:17 is not carried over: launcher wait RUN"),
        ("--exclusive", "--exclusive is not carried over: GPUs are the run's own"),
        ("--nodes=2-4", "of --nodes=2-4 the least is taken"),
        ("--gres=craynetwork:1", "--gres=craynetwork:1 is not carried over"),
        ("--some-option=x", "--some-option=x is not carried over"),
    ],
)
def test_what_is_left_out_is_named_with_its_line(line: str, note: str) -> None:
    assert any(one.startswith(f"line 2: {note}") for one in read(line)[1])


def test_tasks_without_a_number_of_nodes_are_on_one_host_which_is_said() -> None:
    _, notes = read("-n 4")
    assert notes == ["line 2: without --nodes, all 4 tasks start on one host: add --nodes for more"]


@pytest.mark.parametrize(
    "option",
    [
        *("--exclusive", "--get-user-env", "--get-user-env=10L", "--nice", "--no-kill", "-k"),
        *("--propagate", "--ignore-pbs", "-Q", "-vQ", "-H", "--wait", "-W"),
    ],
)
def test_an_option_that_needs_no_value_takes_none(option: str) -> None:
    assert read(f"{option} --nodes=2")[0]["num_nodes"] == 2


def test_lines_behind_a_command_count_for_nobody() -> None:
    values, notes = read(script="date\n#SBATCH --nodes=9\n")
    assert values["num_nodes"] == 1
    assert notes == ["line 4: it stands behind a command, where sbatch does not read it"]


def test_an_array_is_a_sweep() -> None:
    text, _ = tasks.read("#!/bin/sh\n#SBATCH -a 0-4:2,9%3\nsrun a\n", "job.sh", "slurm")
    sweep = sweep_file.load(text, "job.yaml")
    assert yaml.safe_load(text)["matrix"] == {"SLURM_ARRAY_TASK_ID": [0, 2, 4, 9]}
    assert sweep.settings.concurrency == 3
    assert sweep.values["envs"]["SLURM_ARRAY_TASK_ID"] == "{{params.SLURM_ARRAY_TASK_ID}}"
    assert sweep.values["envs"]["SLURM_ARRAY_TASK_COUNT"] == "4"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--nodes=two", "--nodes=two: not a number"),
        ("nodes=2", "#SBATCH 'nodes=2' is not an option of sbatch"),
        ("--nodes", "'--nodes' has no value"),
        ("-n5 --ntasks-per-node=2", "--ntasks=5 do not fit on 3 nodes alike"),
        ("-N1 -n4 --ntasks-per-node=2", "--ntasks=4 do not fit: at most 2 on each of 1 nodes"),
        ("-N2 -n3", "--ntasks=3 do not fit on 2 nodes alike"),
        ("--time=soon", "--time=soon: not a time"),
        ("--array=a-b", "--array=a-b: not a list of numbers"),
        ("hetjob", "a heterogeneous job is not one run"),
        ("--job-name='x", "#SBATCH: No closing quotation"),
    ],
)
def test_errors_name_the_line(line: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(line)
    assert caught.value.message.startswith(message)
    assert (caught.value.source, caught.value.line) == ("job.sh", 2)


def test_a_script_that_no_shell_reads() -> None:
    with pytest.raises(DocumentError, match="is not a shell"):
        tasks.read("#!/usr/bin/env python3\n#SBATCH -N 2\nprint()\n", "job.py", "slurm")


def test_run_reads_a_batch_script(tmp_path: Path) -> None:
    """With its arguments; no other script, and no array."""
    job = tmp_path / "job.sh"
    job.write_text("#!/bin/bash\n#SBATCH -N 2 --time=10\nsrun a\n")
    found = formats.batch_script([str(job), "it's", "b"])
    assert found is not None
    assert found.values["run"][0].startswith("set -- 'it'\"'\"'s' b; set +e\n")
    assert found.values["resources"] == Resources(nproc_per_node=1)
    assert found.options == {"time": 600.0}
    with pytest.raises(InputError, match="is no array, so there is one run"):
        formats.batch_sweep([str(job)])
    job.write_text("#!/bin/bash\n#SBATCH --array=1-3\nsrun a\n")
    with pytest.raises(InputError, match="is an array") as caught:
        formats.batch_script([str(job), "a b"])
    assert caught.value.hint == f"launcher sweep {job} 'a b'"
    array = formats.batch_sweep([str(job), "a b"])
    assert array is not None
    assert array.sweep.values["run"][0].startswith("set -- 'a b'; set +e\n")
    assert not array.notes, "it says no more that it is a sweep"
    job.write_text("#!/bin/bash\necho '#SBATCH'\n")
    assert formats.batch_script([str(job)]) is None
    assert formats.batch_sweep([str(job)]) is None
    assert formats.batch_script(["nowhere.sh"]) is None


def test_a_batch_script_of_the_workdir(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/job.sh").write_text("#!/bin/bash\n#SBATCH -N 2 --gres=gpu:0\nsrun a\n")
    found = formats.batch_script(["slurm/job.sh"], str(tmp_path))
    assert found is not None
    assert found.values["num_nodes"] == 2
    assert found.values["resources"] == Resources(nproc_per_node=1)


def test_files_of_the_workdir_get_the_log() -> None:
    values, notes = read("-o logs/%j.out --error=logs/%j.err")
    assert values["envs"] == {"SBATCH_OUTPUT": "logs/%j.out", "SBATCH_ERROR": "logs/%j.err"}
    assert not any("--output" in note or "--error" in note for note in notes)
    for path in ("../x.out", "~/x.out", "/dev/null", "a/../../x"):
        values, notes = read(f"--output={path}")
        assert "envs" not in values, path


@pytest.mark.parametrize(
    ("lines", "expected", "noted"),
    [
        ("--signal=B:USR1@60 --time=10", "B:USR1@60", ""),
        ("--signal=SIGUSR1@90", "SIGUSR1@90", "comes only with a time limit"),
        ("--signal=10 --time=10", "10", ""),
        ("--signal=LATER@60 --time=10", "", "--signal=LATER@60 is not carried over"),
    ],
)
def test_a_signal_before_the_end(lines: str, expected: str, noted: str) -> None:
    text, notes = tasks.read(f"#!/bin/bash\n#SBATCH {lines}\nsrun a\n", "job.sh", "slurm")
    assert (f"SBATCH_SIGNAL: {expected}" in text.replace('"', "")) == bool(expected)
    assert [note for note in notes if "--signal" in note and noted in note] or not noted
    assert noted or not [note for note in notes if "--signal" in note]
