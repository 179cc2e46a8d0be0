"""Batch scripts of Slurm run as they are: srun in them starts tasks on all hosts of the run."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from support import lab as labs
from support.command import Launcher

#: As public projects have it: pytorch/examples and Ray find their first node like this.
SCRIPT = r"""#!/bin/bash
#SBATCH --job-name="two nodes"
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=3
#SBATCH --time=00:10:00
#SBATCH --output=logs/%j.out
#SBATCH --partition=gpu

nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )
nodes_array=($nodes)
head_node=${nodes_array[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address)
echo "head $head_node_ip of ${#nodes[@]} cpus $SLURM_CPUS_PER_TASK args $*"
false  # a batch script goes on
export MASTER_ADDR=$head_node_ip WORDS="it's \$HOME"
mkdir -p sub; cd sub 2>/dev/null || cd /tmp
srun --label python3 ../task.py
echo "step 1: $?"
srun -N2 --ntasks-per-node=1 sh -c 'test $SLURM_NODEID = 0 || exit 7; sleep 600'
echo "step 2: $?"
srun --export=NONE -n 1 sh -c 'echo "words are ${WORDS:-none}"'
srun -n 2 -o "of-%2t-%N.txt" -e none sh -c 'echo "task $SLURM_PROCID"; echo "not told" >&2'
grep -H . of-*.txt
env -i "$(command -v srun)" -N 2 --ntasks-per-node=1 sh -c 'echo "of $SLURM_NNODES, ${WORDS:-bare}"'
env -i "$(command -v squeue)" -h -o "of %D"
"""
TASK = r"""
import json, os
names = "PROCID LOCALID NODEID NTASKS NNODES JOB_ID JOB_NAME STEP_ID TASKS_PER_NODE".split()
assert os.environ["SLURM_TASK_PID"] == str(os.getpid())
assert os.environ["SLURM_CPUS_ON_NODE"] == str(len(os.sched_getaffinity(0)))
assert os.environ["SLURM_JOB_UID"] == str(os.getuid())
print(json.dumps({
    **{name: os.environ["SLURM_" + name] for name in names},
    "began": os.environ["SLURM_JOB_START_TIME"], "user": os.environ["SLURM_JOB_USER"],
    "host": os.environ["LAUNCHER_HOST"], "words": os.environ["WORDS"],
    "master": os.environ["MASTER_ADDR"], "cwd": os.path.basename(os.getcwd()),
}))
"""


def test_a_batch_script_runs_as_it_is(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(TASK, "task.py")
    (launcher.work / "sub").mkdir()
    (launcher.work / "sub" / "kept").touch()
    launcher.script(SCRIPT, "job.sbatch")
    ran = launcher.run("job.sbatch", "one", "two words")
    assert ran.code == 0, ran.out + ran.err
    said = ran.log("node-0.out").decode().splitlines()
    address = clean.hosts["lab1"].address
    assert said[0] == f"head {address} of 2 cpus 3 args one two words"
    tasks = [json.loads(line.partition(": ")[2]) for line in said if line[:1].isdigit()]
    tasks.sort(key=lambda task: int(task["PROCID"]))
    assert [task["host"] for task in tasks] == ["lab1", "lab1", "lab2", "lab2"]
    assert [task["LOCALID"] for task in tasks] == ["0", "1", "0", "1"]
    assert {task["words"] for task in tasks} == {"it's $HOME"}
    assert {task["cwd"] for task in tasks} == {"sub"}
    assert len({(task["began"], task["user"]) for task in tasks}) == 1
    assert {task["master"] for task in tasks} == {address}
    assert {(t["NTASKS"], t["NNODES"], t["TASKS_PER_NODE"]) for t in tasks} == {("4", "2", "2(x2)")}
    assert {task["STEP_ID"] for task in tasks} == {"1"}
    assert said[-3:] == ["of 2, bare", "of 2, bare", "of 2"], "the job's own variables are enough"
    del said[-3:]
    assert said[-7:-4] == ["step 1: 0", "step 2: 7", "words are none"]
    assert sorted(said[-4:-2]) == ["task 0", "task 1"], "the log has it, too"
    assert said[-2:] == ["of-00-lab1.txt:task 0", "of-01-lab2.txt:task 1"]
    assert "not told" not in ran.log("node-0.err").decode()
    assert "task 1 on lab2 exited with 7" in ran.log("node-0.err").decode()
    assert "job.sbatch: line 8: --partition=gpu is not carried over" in ran.err
    assert "job.sbatch: line 7" not in ran.err
    (own,) = (launcher.work / "logs").iterdir()
    assert own.name == f"{tasks[0]['JOB_ID']}.out", "as %j has it"
    both = ran.log("node-0.out") + ran.log("node-0.err")
    assert sorted(own.read_bytes().splitlines()) == sorted(both.splitlines())
    assert f"the script's log is in logs/{own.name} as well" in ran.err


#: As the launchers of "Machine Learning Engineering" have it: a trace of commands, and a log by tee.
PIPED = r"""#!/bin/bash
#SBATCH --nodes=2
set -x
srun -l python3 bad.py 2>&1 | tee main_log.txt
echo "END TIME: $(date)"
"""
BAD = """
import os, sys, time
print("warming up")
if os.environ["SLURM_PROCID"] == "0":
    time.sleep(600)
import no_such_module
"""


def test_a_task_that_failed_into_a_pipe_is_told(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(BAD, "bad.py")
    launcher.script(PIPED, "job.sbatch")
    passed = launcher.run("job.sbatch")
    assert passed.code == 0, passed.err
    told = "the script exited with 0, but srun said: task 1 on lab2 exited with 1"
    assert told in " ".join(passed.err.split())
    launcher.script(PIPED.replace("set -x", "set -exo pipefail"), "job.sbatch")
    failed = launcher.run("job.sbatch")
    assert failed.code == 1
    assert "  │ ModuleNotFoundError: No module named 'no_such_module'" in failed.err
    assert "likely: the host's Python has no module no_such_module" in failed.err
    assert "  │ + " not in failed.err


#: A pipeline, as sites' pages on dependencies have it.
CHAIN = r"""#!/bin/bash
#SBATCH --nodes=2
first=$(sbatch --parsable step.sh one)
second=$(sbatch --dependency=afterok:$first step.sh two | awk '{print $4}')
echo "jobs $((first - SLURM_JOB_ID)) $((second - SLURM_JOB_ID))"
sbatch --dependency=afterok:$first:$second -N1 -J last --wrap 'srun -l hostname; exit 3' > last
echo "last $?"
sbatch --dependency=afterok:$((second + 1)) step.sh three
echo "never $?"
sbatch --begin=now+1hour step.sh
echo "later $?"
sbatch elements.sh
"""
STEP = r"""#!/bin/bash
#SBATCH --job-name=step
#SBATCH --nodes=2 --ntasks-per-node=2   # of its own
#SBATCH --output=%x.out
srun sh -c "echo $1 of $SLURM_JOB_NAME: task \$SLURM_PROCID of \$SLURM_NTASKS on \$SLURMD_NODENAME"
"""
ELEMENTS = r"""#!/bin/bash
#SBATCH --array=1-5:2
echo "element $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT, job $((SLURM_ARRAY_JOB_ID == SLURM_JOB_ID))"
"""


def test_jobs_of_a_batch_script_run_one_after_another(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(STEP, "step.sh")
    launcher.script(ELEMENTS, "elements.sh")
    launcher.script(CHAIN, "job.sbatch")
    ran = launcher.run("job.sbatch")
    assert ran.code == 0, ran.err
    own = ran.log("node-0.out").decode().splitlines()
    assert own[:4] == ["jobs 1 2", "last 3", "never 1", "later 1"], "and no line of a step"
    assert own[4].startswith("Submitted batch job ")
    assert own[5:] == [f"element {number} of 3, job 1" for number in (1, 3, 5)]
    told = ran.log("node-0.err").decode()
    for job in ("one", "two"):
        steps = sorted(line for line in told.splitlines() if line.startswith(f"{job} of step:"))
        hosts = ("lab1", "lab1", "lab2", "lab2")
        assert steps == [f"{job} of step: task {n} of 4 on {host}" for n, host in enumerate(hosts)]
    assert "three of step" not in told
    assert "exited with 3" in told
    assert "--begin cannot be done inside of a run: use `launcher run --at`" in told


#: Open MPI starts its daemons by srun where Slurm's variables are set.
MPI = r"""#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun sh -c 'echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE on $(hostname)'
"""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="Open MPI is not installed")
def test_mpirun_in_a_batch_script_reaches_all_hosts(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(MPI, "job.sbatch")
    ran = launcher.run("job.sbatch")
    assert ran.code == 0, ran.err
    said = sorted(ran.log("node-0.out").decode().splitlines())
    hosts = ("lab1", "lab1", "lab2", "lab2")
    assert said == [f"rank {rank} of 4 on {host}" for rank, host in enumerate(hosts)]


READS = r"""#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
srun bash <<'EOF'
echo "script on $SLURMD_NODENAME"
EOF
echo words | srun -l cat
head -c 5000000 /dev/zero | tr '\0' x | srun sha256sum
echo "all $(head -c 5000000 /dev/zero | tr '\0' x | sha256sum)"
yes | srun sh -c 'test $SLURM_PROCID = 0 || head -c 3000000 | wc -c' && echo "yes is over"
mkfifo line; sleep 600 > line & srun sh -c 'head -n 0; echo early' < line; kill $!
echo again | srun -i none wc -c
echo again | srun -i 1 wc -c | sort -n
printf 'of a file\n' > in; srun -i in -n 1 cat
srun -n 1 sh -c 'cat; echo closed' <&-
srun -r 1 -N 1 sh -c 'echo "second is $SLURMD_NODENAME"'
srun --mem=1G -W 60 true
srun --mystery true || echo "refused"
"""


def test_tasks_read_what_srun_reads(launcher: Launcher, clean: labs.Lab) -> None:
    """All of it, each task; tasks that end early, and input that never ends, hold nobody up."""
    launcher.script(READS, "job.sbatch")
    ran = launcher.run("job.sbatch")
    assert ran.code == 0, ran.out + ran.err
    said = ran.log("node-0.out").decode().splitlines()
    told = ran.log("node-0.err").decode()
    assert sorted(said[:2]) == ["script on lab1", "script on lab2"], told
    assert sorted(said[2:4]) == ["0: words", "1: words"]
    assert said[4] == said[5] == said[6].removeprefix("all "), "5 MB, whole, on both"
    assert said[7:11] == ["3000000", "yes is over", "early", "early"]
    assert said[11:15] == ["0", "0", "0", "6"]
    assert said[15:] == ["of a file", "closed", "second is lab2", "refused"]
    assert "srun: warning: launcher ignores --mem, --wait" in told
    assert "srun: unrecognized option '--mystery'" in told


ARRAY = r"""#!/bin/bash
#SBATCH --job-name=grid
#SBATCH --array=1-3:2%1
#SBATCH --ntasks-per-node=1
#SBATCH --output=grid-%A_%a.out
seeds=(a b c d e f)
srun -o task-%A_%a.txt echo "$1 ${seeds[$SLURM_ARRAY_TASK_ID]} of $SLURM_ARRAY_TASK_COUNT"
cat task-$SLURM_ARRAY_JOB_ID\_$SLURM_ARRAY_TASK_ID.txt
echo "array $SLURM_ARRAY_JOB_ID job $SLURM_JOB_ID to $SLURM_ARRAY_TASK_MAX"
test $SLURM_ARRAY_TASK_ID != 3
"""


def test_an_array_is_a_sweep(launcher: Launcher, clean: labs.Lab) -> None:
    """``run`` says the command, which runs an element after the other, as its %1 has it."""
    launcher.script(ARRAY, "grid.sbatch")
    refused = launcher.call("run", "-i", str(launcher.inventory), "grid.sbatch", "it's")
    assert refused.returncode == 2
    line = """launcher sweep grid.sbatch 'it'"'"'s'"""
    assert line in refused.stderr
    swept = launcher.call("sweep", "-i", str(launcher.inventory), *shlex.split(line)[2:])
    assert swept.returncode == 1, "the last element failed"
    assert "2 trials, 1 at a time" in swept.stderr
    trials = json.loads(launcher.call("sweep", "show", "-", "--json").stdout)["results"]
    found = {trial["params"]["SLURM_ARRAY_TASK_ID"]: trial for trial in trials}
    assert {n: one["status"] for n, one in found.items()} == {"1": "succeeded", "3": "failed"}
    folders = {n: launcher.home / "runs" / one["run"] for n, one in found.items()}
    logs = {n: next(f.rglob("node-0.out")).read_text().splitlines() for n, f in folders.items()}
    assert {n: said[0] for n, said in logs.items()} == {"1": "it's b of 2", "3": "it's d of 2"}
    assert all(said[0] == said[1] for said in logs.values()), "srun's file is there by that name"
    numbers = [said[2].split() for said in logs.values()]
    assert len({words[1] for words in numbers}) == 1, "one array"
    assert len({words[3] for words in numbers}) == 2, "of two jobs"
    for element, said in logs.items():
        own = launcher.work / f"grid-{numbers[0][1]}_{element}.out"
        assert own.read_text().splitlines() == said


#: It overrides what torchrun reads from PET_RDZV_CONF by an option, as Accelerate's does.
ACCELERATE = r"""#!/bin/sh
echo "accelerate of $LAUNCHER_HOST got: $*"
"""
LAUNCHES = r"""#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
export PATH=$PWD/tools:$PATH
srun accelerate launch --rdzv_backend c10d 'two  words'
srun accelerate launch --rdzv_conf a=1 train.py
srun -N1 -n1 accelerate env
rm tools/accelerate
srun -N1 -n1 accelerate launch train.py
"""


def test_accelerate_in_a_script_knows_which_host_is_first(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """By an option, since Accelerate takes no notice of the variable."""
    (launcher.work / "tools").mkdir()
    launcher.script(ACCELERATE, "tools/accelerate")
    (launcher.work / "tools" / "accelerate").chmod(0o755)
    launcher.script(LAUNCHES, "job.sbatch")
    ran = launcher.run("job.sbatch")
    said = ran.log("node-0.out").decode().splitlines()
    assert sorted(said[:2]) == [
        "accelerate of lab1 got: launch --rdzv_conf is_host=true --rdzv_backend c10d two  words",
        "accelerate of lab2 got: launch --rdzv_backend c10d two  words",
    ], ran.err
    assert sorted(said[2:]) == [
        "accelerate of lab1 got: env",
        "accelerate of lab1 got: launch --rdzv_conf a=1 train.py",
        "accelerate of lab2 got: launch --rdzv_conf a=1 train.py",
    ]
    assert "accelerate: command not found" in ran.log("node-0.err").decode()
    assert ran.code == 127
    launcher.script(ACCELERATE, "tools/accelerate")
    (launcher.work / "tools" / "accelerate").chmod(0o755)
    shutil.rmtree(ran.folder)
    text = "PATH=$PATH:$PWD/tools; accelerate launch train.py"
    ran = launcher.run("--nodes", "2", "--framework", "env", text)
    assert ran.log("node-0.out") == (
        b"accelerate of lab1 got: launch --rdzv_conf is_host=true train.py\n"
    )
    assert ran.log("node-1.out") == b"accelerate of lab2 got: launch train.py\n"


#: As sites' pages on long jobs have it: a warning, a checkpoint, and the job queued again.
WARNED = r"""#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=00:00:08
#SBATCH --signal=B:USR1@5
warned() {
    echo "the script is warned"
    kill -USR1 $step; wait $step; echo "the step: $?"
    exit 0
}
trap warned USR1
srun -l python3 save.py &
step=$!
echo "left: $(squeue -h -j $SLURM_JOB_ID -o %L)"
wait $step
"""
SAVE = r"""
import os, signal, sys, time
def save(number, frame):
    print("saved after", signal.Signals(number).name, flush=True)
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGINT, save)
print("trains", flush=True)
time.sleep(600)
"""


def test_a_batch_script_is_warned_before_its_time_is_over(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """``B:`` warns the script, whose srun passes the signal on; without it, all tasks of all hosts."""
    launcher.script(SAVE, "save.py")
    launcher.script(WARNED, "job.sbatch")
    ran = launcher.run("job.sbatch")
    assert ran.code == 0, ran.out + ran.err
    said = ran.log("node-0.out").decode().splitlines()
    assert sum("saved after SIGUSR1" in line for line in said) == 2, said
    assert "the script is warned" in said and said[-1] == "the step: 0"
    assert any(line in said for line in ("left: 0:08", "left: 0:07", "left: 0:06"))
    assert "SIGUSR1 to the script, 5 s before --time" in ran.log("node-0.err").decode()
    assert "--signal" not in ran.err
    tasks = WARNED.replace("B:USR1@5", "SIGINT@5").replace("trap warned", "# ")
    launcher.script(tasks, "job.sbatch")
    shutil.rmtree(ran.folder)
    ran = launcher.run("job.sbatch")
    assert ran.code == 0, ran.out + ran.err
    assert sum(b"saved after SIGINT" in line for line in ran.log("node-0.out").splitlines()) == 2


ASKS = r"""#!/bin/bash
#SBATCH --job-name=asks
#SBATCH --time=01:00:00
echo "named ${0##*/} in $(cd "$(dirname "$0")" && pwd -P | sed 's:.*/::')"
squeue
squeue -h -j "$SLURM_JOB_ID" -O "JobID:.12,StateCompact:4,TimeLimit"
squeue -u nobody -h -o %i
squeue -j 7; echo "squeue $?"
scontrol show job $SLURM_JOB_ID | grep -o 'JobState=[A-Z]*\|TimeLimit=[0-9:]*\|Command=.*'
scontrol requeue $SLURM_JOB_ID; echo "requeue $?"
[ "${1:-}" = again ] || { sbatch "$0" again; echo "submitted $?"; }
no-such-program
"""


def test_a_batch_script_asks_for_itself(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(ASKS, "jobs/asks.sh")
    ran = launcher.run("jobs/asks.sh")
    assert ran.code == 127
    said = ran.log("node-0.out").decode().splitlines()
    told = ran.log("node-0.err").decode()
    assert said[0] == "named asks.sh in jobs", told
    assert " ".join(said[1].split()) == "JOBID PARTITION NAME USER ST TIME NODES NODELIST(REASON)"
    number, _, name, user, state = said[2].split()[:5]
    assert (name, user, state) == ("asks", "root", "R")
    assert said[3] == number.rjust(12) + "R   1:00:00".ljust(24)
    assert said[4:7] == ["squeue 1", "JobState=RUNNING", "TimeLimit=1:00:00"]
    assert said[7].endswith("/code/jobs/asks.sh")
    assert said[8:10] == ["requeue 1", f"Submitted batch job {int(number) + 1}"]
    assert said[10] == "named asks.sh in jobs", "sbatch $0 runs it again"
    assert said[-1] == "submitted 127"
    assert "slurm_load_jobs error: Invalid job id specified" in told
    assert "requeue: no queue starts this run again" in told
    assert "asks.sh: line 12: no-such-program: command not found" in told


def test_srun_refuses_a_program_of_mpich(launcher: Launcher, clean: labs.Lab) -> None:
    """Its tasks would compute alone, and exit with 0."""
    program = b"\x7fELF" + bytes(99) + b"\0libmpich.so.12\0"
    (launcher.work / "solver").write_bytes(program)
    (launcher.work / "solver").chmod(0o755)
    script = "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\nsrun -Q ./solver\n"
    launcher.script(script, "job.sbatch")
    ran = launcher.run("job.sbatch")
    assert ran.code == 1
    assert "its 2 tasks would not meet, as there is no PMI" in ran.log("node-0.err").decode()
