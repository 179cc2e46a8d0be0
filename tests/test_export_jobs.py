"""Jobs as plain scripts and as batch files: what they quote, refuse and leave out, and that they run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import lab as labs
import pytest
from conftest import Launcher
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.interop.scripts import sbatch, scripts, shell
from launcher.jobs import job_file as jobs
from launcher.spec import inventory as inventories
from launcher.spec.errors import InputError
from launcher.spec.model import Job

HOSTS = "hosts:\n  a: {address: 10.0.0.1, gpus: 2}\n  b: {address: 10.0.0.2, gpus: 2}\n"


def job_of(**values: Any) -> Job:
    return jobs.make({"file": {"num_nodes": 2, **values}}, {})


def files(**values: Any) -> tuple[dict[str, str], list[str]]:
    inventory = inventories.load(HOSTS, "x")
    return scripts(job_of(**values), inventory, inventory.hosts)


# -- quoting


WORDS = st.text(
    st.one_of(st.sampled_from("'\"$`\\ \n\t~*!#&;|<>(){}[]%=-"), st.characters(codec="utf-8")),
    max_size=12,
).map(lambda text: text.replace("\0", ""))


@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
def test_words_and_variables_survive_a_real_sh(words: list[str], value: str) -> None:
    lines = [*shell.exports({"A_VALUE": value}), f"set -- {shell.join(['x', *words])}; shift"]
    lines += ['printf "%s\\0" "$A_VALUE" "$@"']
    with tempfile.TemporaryDirectory() as folder:  # what is quoted badly may write files
        for program in ("sh", "bash"):
            text = "\n".join(lines)
            said = subprocess.run(
                [program, "-c", text], capture_output=True, check=True, cwd=folder
            )
            assert said.stdout.decode() == "".join(f"{word}\0" for word in [value, *words])


# -- what a script is, and what it cannot be


def test_a_script_is_the_plan() -> None:
    made, notes = files(
        framework="torch", run=("echo", "{{rank}}", "a 'b", "{{outputs}}"), name="t", outputs=("o",)
    )
    assert set(made) == {"run.sh", "a.sh", "b.sh", "ssh_config"}
    assert "exec echo 2 'a '\"'\"'b' \"${ROOT}\"/runs/t/outputs" in made["b.sh"]
    for line in ("export RANK=3", "export WORLD_SIZE=4", "export MASTER_ADDR=10.0.0.1"):
        assert f"  {line}\n" in made["b.sh"]
    assert notes[0] == "outputs stay on the hosts"
    assert "10.0.0.1, which is untested" in notes[1]
    assert 'HostName "10.0.0.2"' in made["ssh_config"]


def test_torchrun_needs_nothing_of_ours_there() -> None:
    made, _ = files(run=("train.py",))
    assert "--no-python python3 train.py" in made["b.sh"]
    assert "--node-rank=1" in made["b.sh"]
    assert "start.py" not in made["b.sh"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"framework": "horovod"}, "horovod starts its ranks through launcher's own ssh"),
        ({"framework": "horovod-direct"}, "horovod-direct needs launcher's agent"),
        ({"run": ("a.py", "{{rank}}")}, "{{rank}} is filled in by launcher"),
        ({"num_nodes": "1:2"}, "an elastic job cannot be exported"),
    ],
)
def test_what_no_script_can_do_is_refused(values: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match="^" + error.replace("{", "[{]")):
        files(**{"run": ("a.py",), **values})


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
        ["bash", "-c", text], capture_output=True, timeout=20, check=False, cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1", "SLURM_NODEID": "0",
             "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "a",
             "PYTHON": str(tmp_path / "rank")},
    )  # fmt: skip
    assert done.returncode == code, done.stderr


# -- on hosts


TRAIN = """\
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(60):
    x = torch.tensor([[float(dist.get_rank()) + step % 3]])
    optimizer.zero_grad(); loss = ((model(x) - 2 * x - 1) ** 2).mean(); loss.backward(); optimizer.step()
said = ("of", dist.get_world_size(), "on", os.environ["LAUNCHER_HOST"],
        "learned", loss.item() < 0.5, sys.argv[1:], [os.environ["TOKEN"]])
os.write(1, (" ".join(map(str, said)) + "\\n").encode())  # at once: ranks share an output
dist.destroy_process_group()
"""


def exported(launcher: Launcher, clean: labs.Lab, job: str) -> list[str]:
    """The command of the script that runs a job on two hosts."""
    launcher.script(job, "job.yaml")
    master = clean.hosts["lab1"].address
    done = launcher.call("export", "script", "job.yaml", "-i", str(launcher.inventory),
                         "--hosts", "lab[1-2]", "--master-addr", master, "-o", "to go")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return ["sh", str(launcher.work / "to go" / "run.sh")]


def nobody_left(clean: labs.Lab) -> bool:
    return not [
        process
        for name in ("lab1", "lab2")
        for process in clean.hosts[name].processes()
        if "LAUNCHER_MARK" in process.environ
    ]


def test_a_script_trains_over_plain_ssh(clean: labs.Lab, launcher: Launcher) -> None:
    launcher.script(TRAIN)
    job = "framework: torch\nnum_nodes: 2\nsecrets: [TOKEN]\nrun: [train.py, \"a 'b\", '$HOME']\n"
    command = exported(launcher, clean, job)
    token = 'it\'s $a\n"secret"'
    text = "".join(path.read_text() for path in (launcher.work / "to go").iterdir())
    assert 'secret"' not in text
    bare = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert bare.returncode == 2
    assert "TOKEN: must be set in the environment" in bare.stderr
    env = {**os.environ, "TOKEN": token}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=env
    )
    assert done.returncode == 0, done.stderr
    said = sorted(line for line in done.stdout.splitlines() if "learned" in line)
    rest = f"""learned True ["a 'b", '$HOME'] {[token]}"""
    assert said == [f"rank-{n}: of 2 on lab{n + 1} {rest}" for n in (0, 1)]
    assert nobody_left(clean)


FAILS = """\
framework: env
num_nodes: 2
grace: 1
run: |
  trap '' TERM
  touch $LAUNCHER_RUN_DIR/started
  test $RANK = 0 && exec sleep 1000
  exit 7
"""


def test_a_script_stops_all_when_one_fails(clean: labs.Lab, launcher: Launcher) -> None:
    done = subprocess.run(exported(launcher, clean, FAILS), capture_output=True, text=True,
                          check=False, timeout=60)  # fmt: skip
    assert done.returncode == 7
    assert "lab2 exited with 7: stopping all others" in done.stderr
    assert nobody_left(clean)


def test_a_killed_script_leaves_nothing(clean: labs.Lab, launcher: Launcher) -> None:
    job = FAILS.replace("exit 7", "exec sleep 1000").replace("env\n", "env\nname: killed\n")
    running = subprocess.Popen(exported(launcher, clean, job), start_new_session=True)
    started = "/root/.launcher/host/exported/runs/killed/started"
    hosts = [clean.hosts[name] for name in ("lab1", "lab2")]
    labs.wait_until(lambda: all(host.exists(started) for host in hosts), "all have started", 40)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    labs.wait_until(lambda: nobody_left(clean), "nobody is left", 20)


# -- Slurm


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
    env = {"PATH": f"{fakes}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}  # fmt: skip
    done = subprocess.run(
        ["bash", str(file)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_slurm_and_torchrun(tmp_path: Path) -> None:
    job = job_of(
        run=("train.py", "a 'b $x", "{{node_rank}}/{{world_size}}", "{{master_addr}}"),
        resources={"nproc_per_node": 4}, setup="echo set up '$HOME'", master_port=(29500, 29500),
    )  # fmt: skip
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


def test_files_are_not_overwritten(launcher: Launcher) -> None:
    launcher.script("", "train.py")
    words = ("export", "slurm", "train.py", "-o", "job.sbatch")
    assert launcher.call(*words).returncode == 0
    again = launcher.call(*words)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
