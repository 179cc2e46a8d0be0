"""The words of srun, and which tasks they mean."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from launcher.agent.mesh import slurm, slurm_nodes, slurm_streams
from launcher.agent.mesh.slurm_options import SBATCH, SRUN, Wrong, ignored

NODES = [
    {"name": "gpu1", "address": "10.0.0.1", "tasks": 4, "gpus": ["0", "1", "2", "3"]},
    {"name": "gpu2", "address": "10.0.0.2", "tasks": 2, "gpus": ["4", "5"]},
]


def tasks(line: str) -> list[tuple[str, str, str]]:
    options, _ = SRUN.parse(shlex.split(line))
    found = slurm.tasks(NODES, options, 3)
    return [(one.node["name"], one.env["SLURM_PROCID"], one.env["SLURM_LOCALID"]) for one in found]


def test_options_end_where_the_command_begins() -> None:
    line = "-N2 -n 4 -lu --export=ALL,A=1 --cpu-bind none --label -K0 --gpus-per-task=1 python -n x"
    options, command = SRUN.parse(shlex.split(line))
    assert command == ["python", "-n", "x"]
    assert options["nodes"] == "2"
    assert options["ntasks"] == "4"
    assert options["cpu-bind"] == "none"
    assert options["kill-on-bad-exit"] == "0"
    assert SRUN.parse(["--", "-x"]) == ({}, ["-x"])
    with pytest.raises(Wrong, match="needs a value"):
        SRUN.parse(["--ntasks"])


@pytest.mark.parametrize(
    "options",
    [
        *("-W 60", "-r 1", "-T 4", "-B 1", "-L x", "-M x", "-S1", "-F hosts", "-b now", "-lW60"),
        *("--immediate", "-I", "-I60", "--x11", "--x11=all", "--quit-on-interrupt", "-X", "-Z"),
        *("--use-min-nodes", "--interactive", "--no-allocate", "--exclusive", "--no-kill", "-k"),
        *("--compress", "--resv-ports", "--send-libs", "--nice", "--propagate", "--pty", "--whole"),
        *("--kill-on-bad-exit", "-K", "-K1", "--cpu-bind none", "--mpi pmix", "--gpu-bind closest"),
        *("--ntasks-per-n 2", "--lab", "-vvu", "-Q"),
    ],
)
def test_options_leave_the_command(options: str) -> None:
    assert SRUN.parse([*shlex.split(options), "python", "x"])[1] == ["python", "x"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--mystery 4 python", "unrecognized option '--mystery'"),
        ("--node 2 python", "option '--node' is ambiguous: --nodefile, --nodelist, --nodes"),
        ("-y python", "invalid option -- 'y'"),
        ("--label=1 python", "option '--label' doesn't allow an argument"),
        ("-n", "option '-n' needs a value"),
    ],
)
def test_options_that_srun_does_not_have(line: str, message: str) -> None:
    with pytest.raises(Wrong, match=message):
        SRUN.parse(shlex.split(line))


def test_options_of_sbatch_are_its_own() -> None:
    assert SBATCH.parse(["-W", "--get-user-env", "--export-file", "f", "job.sh", "-n"])[1] == [
        *("job.sh", "-n")
    ]


def test_what_a_task_may_notice_is_told() -> None:
    options, _ = SRUN.parse(shlex.split("-N2 -p gpu --mem=4G -t 10 --cpu-bind=none --mpi=pmix a"))
    assert ignored(options) == ["mem", "time", "mpi"]
    for line in ("--multi-prog a", "--bcast a", "--container-image x a", "--task-prolog=x a"):
        with pytest.raises(Wrong, match="cannot be done through launcher"):
            ignored(SRUN.parse(shlex.split(line))[0])


def test_every_option_is_obeyed_told_or_refused_by_a_name_that_it_has() -> None:
    from launcher.agent.mesh import slurm_options

    assert not {*slurm_options.REFUSED, *slurm_options._SILENT} - SRUN.names - SBATCH.names
    assert not {*SRUN.short.values()} - SRUN.names
    assert not {*SBATCH.short.values()} - SBATCH.names


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "",
            [*[("gpu1", str(n), str(n)) for n in range(4)], ("gpu2", "4", "0"), ("gpu2", "5", "1")],
        ),
        ("--ntasks-per-node=1", [("gpu1", "0", "0"), ("gpu2", "1", "0")]),
        ("-N 1 -n 1", [("gpu1", "0", "0")]),
        ("--nodes=1 --ntasks=1 -w 10.0.0.2", [("gpu2", "0", "0")]),
        ("-n 3", [("gpu1", "0", "0"), ("gpu1", "1", "1"), ("gpu2", "2", "0")]),
        ("-n 1", [("gpu1", "0", "0")]),
        ("-x gpu1", [("gpu2", "0", "0"), ("gpu2", "1", "1")]),
        ("-r 1", [("gpu2", "0", "0"), ("gpu2", "1", "1")]),
        ("-r 1 -N 2 -n 1", [("gpu2", "0", "0")]),
        ("--relative=0 -n1", [("gpu1", "0", "0")]),
    ],
)
def test_which_tasks_a_step_has(line: str, expected: list[tuple[str, str, str]]) -> None:
    assert tasks(line) == expected


def test_the_variables_of_a_task() -> None:
    options, _ = SRUN.parse(["--ntasks-per-node=2", "--gpus-per-task=1"])
    last = slurm.tasks(NODES, options, 3)[-1].env
    assert last["SLURM_NTASKS"] == last["SLURM_STEP_NUM_TASKS"] == "4"
    assert last["SLURM_TASKS_PER_NODE"] == "2(x2)"
    assert (last["SLURM_NODEID"], last["SLURM_LOCALID"], last["SLURM_STEP_ID"]) == ("1", "1", "3")
    assert (last["SLURM_GTIDS"], last["CUDA_VISIBLE_DEVICES"]) == ("2,3", "5")
    assert last["SLURMD_NODENAME"] == "gpu2"


@pytest.mark.parametrize(
    "line",
    [
        "-w gpu9",
        "-N 3",
        "-n 0",
        "-n x",
        "-n 5 --ntasks-per-node 2",
        "--gpus-per-task 4",
        "-r 2",
        "-r1 -w gpu1",
    ],
)
def test_what_no_step_can_have(line: str) -> None:
    with pytest.raises(Wrong):
        tasks(line)


def test_files_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One name is one file, which keeps what it has when asked to."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_NAME", "nets")
    monkeypatch.chdir(tmp_path)
    Path("77-gpu1.txt").write_text("old\n")

    def write(line: str) -> list[bool]:
        options, _ = SRUN.parse(shlex.split(line))
        found = slurm.tasks(NODES, {"ntasks-per-node": "1"}, 3)
        outputs = slurm_streams.Outputs(options, found)
        return [
            outputs.write(task, stream, b"%d %d\n" % (task.rank, stream))
            for task in found
            for stream in (1, 2)
        ]

    def read(*names: str) -> list[str]:
        return [Path(name).read_text() for name in names]

    assert write("-o %j-%N.txt") == [True] * 4
    assert read("77-gpu1.txt", "77-gpu2.txt") == ["0 1\n0 2\n", "1 1\n1 2\n"]
    assert write("-o %j-%N.txt --open-mode=append -e none") == [True, False] * 2
    assert read("77-gpu1.txt") == ["0 1\n0 2\n0 1\n"]
    assert write("-o %x-%s-%3t-%n%%.txt -e all.txt") == [True] * 4
    assert read("nets-3-001-1%.txt", "all.txt") == ["1 1\n", "0 2\n1 2\n"]
    assert write("-o 1") == [False, False, True, True]
    assert write("-o all -e /dev/null") == [True, False] * 2
    with pytest.raises(Wrong, match="cannot write nowhere/x: No such file"):
        write("-o nowhere/x")


def test_who_reads_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = slurm.tasks(NODES, {"ntasks-per-node": "1"}, 3)
    Path("in-0").write_text("a")
    Path("in-1").write_text("b")

    def read(line: str, stdin: bool = True) -> dict[int, int]:
        options = SRUN.parse(shlex.split(line))[0]
        return {rank: one.fd for rank, one in slurm_streams.sources(options, found, stdin).items()}

    assert read("") == read("-i all") == {0: 0, 1: 0}
    assert read("", stdin=False) == read("-i none") == {}
    assert read("-i 1") == {1: 0}
    files = read("-i in-%t")
    assert [os.read(files[rank], 9) for rank in (0, 1)] == [b"a", b"b"]
    files = read("--input=in-1")
    assert files[0] == files[1] > 2, "one file that all read"
    for line, why in (("-i 2", "has tasks 0 to 1"), ("-i nowhere", "cannot read nowhere: No such")):
        with pytest.raises(Wrong, match=why):
            read(line)


def test_lists_of_hosts() -> None:
    assert slurm_nodes.expand("gpu[01-03,7],n2,10.0.0.1") == [
        *("gpu01", "gpu02", "gpu03", "gpu7", "n2", "10.0.0.1")
    ]
    assert slurm_nodes.expand("") == []


def test_tasks_have_what_the_script_has_changed() -> None:
    node = {"HOME": "/root", "PATH": "/bin", "NCCL_SOCKET_IFNAME": "eth0"}
    env = {**node, "A": "it's", "PATH": "/x:/bin", "PWD": "/a", "BASH_FUNC_f%%": "() {}"}
    assert slurm.changed(env, node) == {"A": "it's", "PATH": "/x:/bin"}
    assert slurm.changed(env, node, "NONE") == {}
    assert slurm.changed(env, node, "ALL,B=2")["B"] == "2"
    assert slurm.changed(env, node, "A") == {"A": "it's"}
