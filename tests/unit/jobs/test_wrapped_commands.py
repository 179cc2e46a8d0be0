"""Launchers inside other commands: what starts one, and what only looks like it."""

from __future__ import annotations

import shlex

import pytest

from launcher.jobs import wrapped_commands as wrapped

STARTS = {
    "uv run torchrun x.py": ("torchrun", "uv run"),
    "uv run --with rich torchrun x.py": ("torchrun", "uv run"),
    "poetry run accelerate launch x.py": ("accelerate launch", "poetry run"),
    "conda run -n e --no-capture-output torchrun x.py": ("torchrun", "conda run"),
    "env A=1 -u B torchrun x.py": ("torchrun", "env"),
    "numactl -C 0-3 --membind=0 torchrun x.py": ("torchrun", "numactl"),
    "time nohup torchrun x.py": ("torchrun", "time nohup"),
    "timeout -k 5 1h deepspeed x.py": ("deepspeed", "timeout"),
    "bash -lc 'cd a && torchrun x.py'": ("torchrun", "bash -c"),
    "srun --nodes 2 python x.py": ("srun", ""),
    "sbatch job.sbatch": ("sbatch", ""),
    "accelerate test": ("accelerate test", ""),
    "python -W ignore -m torch.distributed.run x.py": ("torchrun", ""),
    "python3 -Bu -Wignore -X dev -m torch.distributed.launch x.py": (
        "torch.distributed.launch",
        "",
    ),
    "python -um torch.distributed.run x.py": ("torchrun", ""),
    "python -mtorch.distributed.run x.py": ("torchrun", ""),
    "python -u /opt/bin/torchrun x.py": ("torchrun", ""),
    "python /opt/bin/accelerate launch x.py": ("accelerate launch", ""),
    "python -m deepspeed.launcher.runner x.py": ("deepspeed", ""),
    "setsid -w torchrun x.py": ("torchrun", "setsid"),
    "nsys profile -t cuda,nvtx -o x --stats=true torchrun x.py": ("torchrun", "nsys"),
    "py-spy record -o x -- python -m torch.distributed.run x.py": ("torchrun", "py-spy"),
    "xvfb-run -a -s '-screen 0 9x9x24' bash -c 'torchrun x.py'": ("torchrun", "xvfb-run bash -c"),
    "strace -f -o /tmp/x numactl -C 0 mpirun -np 2 a": ("mpirun", "strace numactl"),
    "apptainer exec --nv a.sif torchrun x.py": ("torchrun", "apptainer"),
    "hatch run torchrun x.py": ("torchrun", "hatch"),
    # none of these starts one
    "nsys profile python train.py --launcher torchrun": ("", ""),
    "strace -f ./a torchrun": ("", ""),
    "python -c 1 /opt/bin/torchrun x.py": ("", ""),
    "python -m pdb /opt/bin/train.py torchrun": ("", ""),
    "python train.py torchrun": ("", ""),
    "uv run python train.py": ("", ""),
    "env A=torchrun python train.py": ("", ""),
    "echo torchrun x.py": ("", ""),
    "bash -c 'echo torchrun x; python train.py'": ("", ""),
    "numactl -C 0 ./torchrun.sh": ("", ""),
}


@pytest.mark.parametrize("line", STARTS)
def test_commands(line: str) -> None:
    assert wrapped.launcher(tuple(shlex.split(line))) == STARTS[line]


SCRIPTS = {
    "plain": ("#!/bin/bash\nset -e\ntorchrun --nproc_per_node 2 train.py\n", (3, "torchrun")),
    "continued": (
        "A=1\nOMP_NUM_THREADS=1 torchrun \\\n  --nnodes 2 \\\n  train.py\n",
        (2, "torchrun"),
    ),
    "behind-and": ("cd src && python -m torch.distributed.run t.py\n", (1, "torchrun")),
    "in-a-variable": ('CMD="torchrun --nproc_per_node 4"\n$CMD train.py\n', (2, "torchrun")),
    "evaluated": ("CMD='deepspeed train.py'\necho $CMD\neval $CMD\n", (3, "deepspeed")),
    "evaluated-text": ('eval "torchrun --nproc_per_node 2 train.py"\n', (1, "torchrun")),
    "in-a-list": ('CMD=(torchrun --nnodes 2 "a b.py")\n"${CMD[@]}"\n', (2, "torchrun")),
    "in-lines-of-a-list": (
        "CMD=(\n  python  # ours\n  -m torch.distributed.run\n  t.py\n)\necho x\n${CMD[@]} --a\n",
        (7, "torchrun"),
    ),
    "profiled": ("nsys profile -o $OUT torchrun t.py\n", (1, "torchrun")),
    "wrapped": ("for i in 1 2; do\n  uv run torchrun t.py --seed $i\ndone\n", (2, "torchrun")),
    "python-variable": (
        "$PYTHON -m torch.distributed.launch t.py\n",
        (1, "torch.distributed.launch"),
    ),
    "in-a-branch": ("if [ -d x ]; then\n  torchrun t.py\nfi\n", (2, "torchrun")),
    "slurm": ("srun python train.py\n", (1, "srun")),
    "mpi": ("mpirun -np 2 ./a\n", (1, "mpirun")),
    # none of these starts one
    "comment": (
        "# torchrun --nproc_per_node 2 train.py\npython train.py  # not torchrun x\n",
        None,
    ),
    "echo": ("echo torchrun train.py\necho 'start by: torchrun x'\npython train.py\n", None),
    "many-lines": ('echo "usage:\n  torchrun train.py\n"\npython train.py\n', None),
    "here": ("cat <<EOF\ntorchrun train.py\nEOF\npython train.py\n", None),
    "looked-for": ("command -v torchrun >/dev/null\nwhich torchrun x\npython train.py\n", None),
    "asked": ("torchrun --version\nmpirun --version\npython train.py\n", None),
    "installed": ("pip install deepspeed accelerate\npython train.py\n", None),
    "pattern": (
        "case $1 in\n  torchrun) python a.py ;;\n  mpirun|srun) python b.py ;;\nesac\n",
        None,
    ),
    "list": ("ALL=(torchrun deepspeed mpirun)\npython train.py\n", None),
    "behind-an-open-list": ("ALL=(\npython a.py\nmpirun x\n", (3, "mpirun")),
    "either": ('if [ -z "$RANK" ]; then\n  torchrun $0\nelse\n  python train.py\nfi\n', None),
    "argument": ("python train.py --launcher torchrun x\n", None),
    "open-quote": ("echo 'it\n", None),
    "empty": ("", None),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str) -> None:
    text, found = SCRIPTS[name]
    its = wrapped.started(text)
    assert (its and (its.line, its.name)) == found


MAKE = """\
RUN := uv run torchrun
.PHONY: all train test
all: train

train: data
\t@echo torchrun train.py
\t@cd src && $(RUN) --nproc_per_node 2 \\
\t  train.py

data:
\tpython data.py
test: data ; pytest
again:
\t+$(MAKE) --no-print-directory train N=2
"""


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        ((), (7, "torchrun")),
        (("train",), (7, "torchrun")),
        (("again",), (7, "torchrun")),
        (("test",), None),
        (("data",), None),
        (("unknown",), None),
    ],
)
def test_make(targets: tuple[str, ...], found: tuple[int, str] | None) -> None:
    its = wrapped.started_by_make(MAKE, targets)
    assert (its and (its.line, its.name)) == found


CALLED = {
    "a.sh": "set -e\nbash scripts/b.sh 3\n",
    "scripts/b.sh": "cd x\n. ./c.sh && python eval.py\n",
    "./c.sh": "nohup uv run torchrun t.py\n",
    "itself.sh": "bash itself.sh\n",
    "either.sh": "if x; then bash a.sh; else python t.py; fi\n",
    "tool.sh/run": "#!/usr/bin/env python3\ntorchrun = 1\n",
    "other.sh": "./tool.sh/run\nbash missing.sh\nbash /etc/a.sh\n",
    "/etc/a.sh": "torchrun t.py\n",
    **{f"deep{n}.sh": f"bash deep{n + 1}.sh\n" for n in range(9)},
    "deep9.sh": "torchrun t.py\n",
    # Each stage calls the script itself: it is read once, or there is no end to it.
    "stages.sh": "case $1 in\n"
    + "".join(f"s{n}) bash stages.sh s{n + 1} ;;\n" for n in range(40))
    + "esac\nbash deep8.sh\n",
}


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("bash a.sh", ("./c.sh", 1)),
        ("nohup bash scripts/b.sh", ("./c.sh", 1)),
        ("bash itself.sh", None),
        ("bash either.sh", None),
        ("bash other.sh", None),
        ("bash deep5.sh", ("deep9.sh", 1)),
        ("bash deep0.sh", ("deep9.sh", 1)),
        ("bash stages.sh", ("deep9.sh", 1)),
    ],
)
def test_scripts_that_scripts_call(command: str, place: tuple[str, int] | None) -> None:
    found = wrapped.started_by(tuple(command.split()), lambda path: CALLED.get(path, ""))
    assert (found and (found.path, found.line)) == place


def test_scripts_that_make_calls() -> None:
    found = wrapped.started_by_make(
        "train:\n\tbash a.sh\n", (), "Makefile", lambda path: CALLED.get(path, "")
    )
    assert found == wrapped.Started("./c.sh", 1, "torchrun")


def test_which_file_a_command_starts() -> None:
    for line, path in {
        "bash -eo pipefail run.sh 3": "run.sh",
        "./train.sh": "./train.sh",
        "nohup scripts/train.sh x": "scripts/train.sh",
        "bash -c 'x'": "",
        "python train.py": "",
    }.items():
        assert wrapped.script(tuple(shlex.split(line))) == path
    made = wrapped.made(("make", "-C", "sub", "-j", "4", "train", "N=2"))
    assert made == wrapped.Made("sub", "", ("train",))
