"""Jobs as Slurm batch files: what is written, and what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.interop.scripts import sbatch
from launcher.jobs import job_file as jobs
from launcher.spec.errors import InputError
from launcher.spec.model import Job


def job_of(**values: Any) -> Job:
    return jobs.make({"file": {"num_nodes": 2, **values}}, {})


@pytest.mark.thorough
@pytest.mark.parametrize(("also_us", "code"), [(True, 0), (False, 143)])
def test_slurm_stops_a_rank_a_moment_before_its_shell(
    tmp_path: Path, also_us: bool, code: int
) -> None:
    """That is no failure, which would hide the code of the rank for which it stops the others."""
    later = '(sleep 0.1; kill "$PPID") >&- &' if also_us else ""
    fakes = {"srun": 'shift 2; exec "$@"', "scontrol": "echo a", "rank": f"{later} kill $$"}
    for name, script in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    text, _ = sbatch(job_of(run=("train.py",), framework="torch"))
    done = subprocess.run(
        ["bash", "-c", text],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "1",
            "SLURM_NODEID": "0",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_NNODES": "1",
            "SLURM_JOB_NODELIST": "a",
            "PYTHON": str(tmp_path / "rank"),
        },
    )
    assert done.returncode == code, done.stderr


#: Stands where Slurm's own would: two nodes, one after another, or a name for each.
FAKE_SRUN = """\
#!/bin/sh
for a in "$@"; do case $a in --ntasks-per-node=*) each=${a#*=};; esac; done
while [ "${1#--}" != "$1" ]; do shift; done
for node in 0 1; do
  local=0
  while [ $local -lt $each ]; do
    SLURM_NODEID=$node SLURM_NNODES=2 SLURM_LOCALID=$local SLURM_PROCID=$((node * each + local)) "$@"
    local=$((local + 1))
  done
done
"""


def batch(tmp_path: Path, job: Job) -> list[str]:
    """What the batch file prints with fakes of srun and scontrol on PATH."""
    text, _ = sbatch(job)
    file = tmp_path / "job.sbatch"
    file.write_text(text)
    subprocess.run(["bash", "-n", str(file)], check=True)
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name, content in (
        ("srun", FAKE_SRUN),
        ("scontrol", "#!/bin/sh\nprintf 'n1\\nn2\\n'\n"),
        ("python3", '#!/bin/sh\necho "$*"\n'),
    ):
        (fakes / name).write_text(content)
        (fakes / name).chmod(0o755)
    env = {
        "PATH": f"{fakes}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    done = subprocess.run(
        ["bash", str(file)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_slurm_and_torchrun(tmp_path: Path) -> None:
    job = job_of(
        run=("train.py", "a 'b $x", "{{node_rank}}/{{world_size}}", "{{master_addr}}"),
        resources={"nproc_per_node": 4},
        setup="echo set up '$HOME'",
        master_port=(29500, 29500),
    )
    assert batch(tmp_path, job) == [
        "set up $HOME",
        "set up $HOME",
        *(
            f"-m torch.distributed.run --nnodes=2 --nproc-per-node=4 --node-rank={n}"
            " --master-addr=n1 --master-port=29500 --no-python"
            f" {tmp_path}/fakes/python3 train.py a 'b $x {n}/8 n1".replace(f"{tmp_path}/fakes/", "")
            for n in (0, 1)
        ),
    ]


def test_slurm_and_torch(tmp_path: Path) -> None:
    words = ("bash", "-c", 'echo $RANK $LOCAL_RANK $WORLD_SIZE "$A" $0', "{{rank}}")
    job = job_of(framework="torch", run=words, resources={"gpus": 4}, envs={"A": "x  'y\n$z"})
    assert "#SBATCH --gpus-per-node=2\n" in sbatch(job)[0]
    said = "\n".join(batch(tmp_path, job))
    assert said == "\n".join(f"{n} {n % 2} 4 x  'y\n$z {n}" for n in range(4))


def test_slurm_and_env(tmp_path: Path) -> None:
    text = (
        "echo $NUM_NODES $NUM_TRAINERS $RANK '{{rank_offset}}' $MASTER_ADDR\nfalse || echo 'a  b'"
    )
    job = job_of(framework="env", run=(text,), resources={"nproc_per_node": 3})
    assert batch(tmp_path, job) == ["2 3 0 0 n1", "a  b", "2 3 1 3 n1", "a  b"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"framework": "mpi"}, "mpi cannot be started by srun alone"),
        ({"framework": "torch", "roles": {"a": None}}, "roles cannot be exported"),
        (
            {"num_nodes": None, "resources": {"gpus": 4}},
            "gpus: 4 does not tell Slurm how many nodes",
        ),
        ({"run": ("a.py", "{{host:node.1}}")}, "{{host:node.1}} is not known before Slurm"),
    ],
)
def test_what_slurm_cannot_do_is_refused(values: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError) as caught:
        sbatch(job_of(**{"run": ("a.py",), **values}))
    assert str(caught.value).startswith(error)
    assert caught.value.hint


def test_modules_and_models_are_slurms_own() -> None:
    job = job_of(
        run=("a.py",), resources={"gpus": "A100:4"}, modules=("cuda/12.4",), prepare="ulimit -c 0"
    )
    lines = sbatch(job)[0].splitlines()
    assert "#SBATCH --gpus-per-node=a100:2" in lines
    assert lines[lines.index("module load cuda/12.4") + 1 :][:2] == ["ulimit -c 0", "set -eu"]


def test_an_environment_is_activated_behind_the_modules() -> None:
    for named, lines in (
        ({"conda": "train"}, ['eval "$(conda shell.bash hook)"', "conda activate train"]),
        ({"venv": "~/my v"}, [". \"$HOME\"'/my v'/bin/activate"]),
    ):
        job = job_of(run=("a.py",), environment={**named, "modules": ("cuda",)})
        made = sbatch(job)[0].splitlines()
        start = made.index("module load cuda") + 1
        assert made[start : start + len(lines)] == lines


def test_a_batch_file_builds_no_environment() -> None:
    with pytest.raises(InputError, match="a batch file builds no environment"):
        sbatch(job_of(run=("a.py",), environment={"uv": "."}))
