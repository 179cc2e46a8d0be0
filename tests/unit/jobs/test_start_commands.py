"""Start commands of other launchers, as READMEs have them, become what launcher starts itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from launcher.api.jobs import make_job
from launcher.frameworks import requirements
from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Job, Meeting, Process, Resources


def typed(line: str, **flags: Any) -> Job:
    return jobs.make({"flag": {"run": tuple(shlex.split(line)), **flags}}, {})


def started(job: Job, hosts: int = 2) -> list[Process]:
    """Return the process of each host."""
    known = [Host(f"h{n}", address=f"10.0.0.{n}", gpus=0) for n in range(hosts)]
    addresses = {host.name: host.address or "" for host in known}
    meeting = Meeting("10.0.0.0", 29500, dict.fromkeys(addresses, "eth0"), addresses)
    plan = planner.plan(job, make_layout(job, known, {}, "r"), meeting, "agent")
    return [process for node in plan.nodes for process in node.processes]


def behind(process: Process, word: str) -> tuple[str, ...]:
    return process.argv[process.argv.index(word) + 1 :]


TORCHRUN = (
    "torchrun --nnodes=4 --nproc_per_node 2 --node_rank=0 --rdzv_id=456 --rdzv_backend=c10d "
    "--rdzv_endpoint=$HOST:29400 --tee 3 train.py --epochs 3"
)


def test_torchrun_keeps_what_the_plan_does_not_decide() -> None:
    job = typed(TORCHRUN, num_nodes=2)
    assert (job.framework, job.num_nodes, job.resources.nproc_per_node) == ("torchrun", 2, 2)
    assert job.run == ("train.py", "--epochs", "3")
    assert job.launcher_options == ("--tee=3",)
    assert job.script == "train.py"
    first, second = started(job)
    assert "--master-addr=10.0.0.0" in second.argv
    assert "--node-rank=1" in second.argv
    assert not {"c10d", "--rdzv_id=456"} & set(first.argv)
    assert first.argv.index("--tee=3") < first.argv.index("--no-python")


@pytest.mark.parametrize(
    ("line", "run", "nodes", "local"),
    [
        ("torchrun --standalone --nproc_per_node=gpu -m pkg.train -x", "-m pkg.train -x", 1, None),
        ("torchrun --nnodes=1:1 --nproc-per-node=2 ./go", "python ./go", 1, 2),
        ("torchrun --no-python bash train.sh", "bash train.sh", None, None),
        ("python3 -m torch.distributed.run train.py", "train.py", None, None),
        (
            "python -m torch.distributed.launch --nproc_per_node=2 train.py a",
            "train.py --local-rank={{local_rank}} a",
            None,
            2,
        ),
        ("python -m torch.distributed.launch --use_env train.py", "train.py", None, None),
        ("/opt/venv/bin/torchrun --nnodes $NODES train.py", "train.py", None, None),
        (
            "deepspeed --num_gpus 2 --hostfile h train.py",
            "train.py --local_rank={{local_rank}}",
            None,
            2,
        ),
        ("accelerate launch --num_machines 2 --num_processes 8 train.py", "train.py", 2, 4),
        ("accelerate launch --multi-gpu --num-processes 3 train.py", "train.py", None, 3),
        ("fabric run --devices=2 --num-nodes 2 train.py", "train.py", 2, 2),
        ("fabric run model --devices=2 train.py", "train.py", None, 2),
        (
            "ray symmetric-run --address $ip:6379 --min-nodes 4 --num-cpus=2 -- python -u train.py 3",
            "train.py 3",
            4,
            2,
        ),
        ("ray symmetric-run --address x -- python -m pkg.train", "-m pkg.train", None, None),
        ("ray symmetric-run --num-gpus=8 --address x -- python -c 1", "python -c 1", None, 8),
        ("ray symmetric-run --address x -- vllm serve m", "vllm serve m", None, None),
    ],
)
def test_what_is_run(line: str, run: str, nodes: int | None, local: int | None) -> None:
    job = typed(line)
    assert job.run == tuple(run.split())
    assert (job.num_nodes, job.resources.nproc_per_node) == (nodes, local)


def test_counts_of_the_job_come_first() -> None:
    assert typed(TORCHRUN, hosts="h0,h1").num_nodes is None
    job = typed(TORCHRUN, resources=Resources(gpus=8))
    assert (job.num_nodes, job.resources) == (None, Resources(gpus=8))
    job = typed("accelerate launch --num_processes 8 train.py", num_nodes=4)
    assert job.resources.nproc_per_node == 2
    assert typed("torchrun --nnodes=1:3 --max_restarts 2 train.py").elastic == 1


def test_a_job_file_and_one_text_say_the_same() -> None:
    text = "run: OMP_NUM_THREADS=4 CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node=2 train.py\n"
    job = jobs.make({"file": jobs.load(text, "job.yaml")}, {})
    assert job.run == ("train.py",)
    assert job.envs == {"OMP_NUM_THREADS": "4"}, "GPUs are the plan's"
    assert job.sources["run"] == "command"


def test_a_shell_script_stays_one() -> None:
    text = "run: torchrun --nproc_per_node=2 train.py && python eval.py\n"
    with pytest.raises(InputError, match="shell script"):
        jobs.make({"file": jobs.load(text, "job.yaml")}, {})


def test_accelerate_keeps_its_config_file() -> None:
    job = typed(
        "accelerate launch --config_file conf/fsdp.yaml --machine_rank 0 "
        "--main_process_ip 192.168.0.1 --main_process_port 29500 train.py",
        num_nodes=2,
    )
    _, second = started(job)
    words = second.argv
    assert "--config_file=conf/fsdp.yaml" in words
    assert "192.168.0.1" not in words
    assert words[words.index("--machine_rank") + 1] == "1"
    assert words[words.index("--main_process_ip") + 1] == "10.0.0.0"
    # The file says what it is, and accelerate takes an option before its file.
    assert not {"--multi_gpu", "--mixed_precision", "--dynamo_backend"} & set(words)


def test_accelerate_has_its_defaults_without_options() -> None:
    first, _ = started(typed("accelerate launch --mixed_precision bf16 train.py", num_nodes=2))
    assert "--multi_gpu" in first.argv
    assert "--mixed_precision=bf16" in first.argv
    assert "--mixed_precision" not in first.argv
    assert behind(first, "--dynamo_backend")[0] == "no"


def test_deepspeed_takes_all_that_its_launcher_takes() -> None:
    """Its documentation's own line without ssh, and each other option of its parser (0.19.8)."""
    job = typed(
        "deepspeed --hostfile hostfile --no_ssh --node_rank 0 --master_addr 10.9.9.9 --master_port 1 "
        "-i a@b -e c --ssh_port 22 --no_ssh_check --force_multi --launcher pdsh --launcher_args x "
        "--num_accelerators 2 -q --bind_cores_to_rank --bind_core_list 0-3 --log_level info "
        "--enable_each_rank_log logs train.py --deepspeed",
        num_nodes=2,
    )
    assert job.run == ("train.py", "--local_rank={{local_rank}}", "--deepspeed")
    assert job.resources.nproc_per_node == 2
    assert job.launcher_options == (
        "-q",
        "--bind_cores_to_rank",
        "--bind_core_list=0-3",
        "--log_level=info",
        "--enable_each_rank_log=logs",
    )


def test_fabric_learns_its_counts() -> None:
    first, _ = started(
        typed("fabric run --accelerator=cpu --strategy ddp --precision 32 train.py", num_nodes=2)
    )
    told = {name: value for name, value in first.env.items() if name.startswith("LT_")}
    assert told == {
        "LT_CLI_USED": "1",
        "LT_ACCELERATOR": "cpu",
        "LT_STRATEGY": "ddp",
        "LT_PRECISION": "32",
        "LT_DEVICES": "1",
        "LT_NUM_NODES": "2",
    }


def test_ray_runs_the_command_on_the_head() -> None:
    job = typed("ray symmetric-run --address 10.1.1.1:6379 --min-nodes 2 -- python train.py")
    head, worker = started(job)
    assert job.framework == "ray"
    assert "train.py" in " ".join(head.argv)
    assert "train.py" not in " ".join(worker.argv)
    assert "10.1.1.1:6379" not in " ".join(head.argv), "the address is the plan's"
    with pytest.raises(InputError, match="ray symmetric-run --resources has no equivalent"):
        typed("ray symmetric-run --address x --resources {} -- python train.py")


def test_paddle_meets_at_the_plans_address() -> None:
    line = "python -m paddle.distributed.launch --ips=10.1.1.1,10.1.1.2 --log_dir out train.py -m a.yaml"
    job = typed(line, num_nodes=2)
    assert (job.framework, job.shell) == ("env", True)
    assert job.run[0].endswith('"$NUM_TRAINERS" --log_dir=out train.py -m a.yaml')
    assert "10.1.1.1" not in job.run[0]
    assert started(job)[1].env["POD_IP"] == "10.0.0.1"


def test_under_env_the_command_stays_and_finds_variables_of_torchrun() -> None:
    job = typed(TORCHRUN, framework="env", num_nodes=2)
    assert job.run == tuple(shlex.split(TORCHRUN))
    first, second = started(typed("make train", framework="env", num_nodes=2))
    assert first.env["PET_RDZV_CONF"] == "is_host=true" and "PET_RDZV_CONF" not in second.env
    expected = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "10.0.0.0",
        "PET_MASTER_PORT": "29500",
        "PET_LOCAL_ADDR": "10.0.0.1",
        "POD_IP": "10.0.0.1",
        "TP_SOCKET_IFNAME": "eth0",
        "HOSTS": "h0 h1",
        "NNODES": "2",
        "NODE_RANK": "1",
        "NPROC_PER_NODE": "1",
        "GPUS_PER_NODE": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    assert {name: second.env.get(name) for name in expected} == expected


def test_a_torchrun_that_stands_alone_is_not_told_of_the_others() -> None:
    first, _ = started(typed("torchrun --standalone x.py", framework="env", num_nodes=2))
    assert "PET_NNODES" not in first.env and "PET_RDZV_CONF" not in first.env


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("torchrun --nproc_per_node 2", "torchrun has no command"),
        ("torchrun --nproc_per_node", "--nproc_per_node has no value"),
        ("torchrun --run-path train.py", "torchrun --run_path has no equivalent here"),
        ("accelerate launch --tpu train.py", "accelerate launch --tpu has no equivalent here"),
        ("deepspeed --save_pid train.py", "deepspeed --save_pid has no equivalent here"),
        ("deepspeed --autotuning run train.py", "deepspeed --autotuning has no equivalent here"),
    ],
)
def test_what_cannot_be_taken_over_is_named(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        typed(line)
    assert caught.value.hint


@pytest.mark.parametrize("whose", ["user", "project"])
def test_a_framework_of_settings_is_for_plain_commands(whose: str) -> None:
    """The command says itself what it is started by; what fits it is chosen as ever."""

    def chosen(line: str, usual: str) -> str:
        layers = {whose: {"framework": usual}, "flag": {"run": tuple(shlex.split(line))}}
        return jobs.make(layers, {}).framework

    assert chosen("mpirun -np 2 ./solve", "torchrun") == "mpi"
    assert chosen("torchrun train.py", "env") == "torchrun"
    assert chosen("horovodrun -np 2 python train.py", "horovod-mpi") == "horovod-mpi"
    assert chosen("train.py", "lightning") == "lightning"


def test_another_framework_is_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match="torchrun starts ranks itself") as caught:
        typed(TORCHRUN, framework="torch")
    assert "leave out --framework" in caught.value.hint


def of_environment(line: str, **environment: str) -> Job:
    return jobs.make({"flag": {"run": tuple(shlex.split(line))}}, environment)


@pytest.mark.parametrize(
    ("line", "framework", "run", "nodes", "local"),
    [
        ("horovodrun -np 2 -H host1:1,host2:1 python train.py", "horovod", "train.py", 2, 1),
        (
            "horovodrun -np 4 --hostfile h --autotune python train.py x",
            None,
            "train.py x",
            None,
            None,
        ),
        ("horovodrun -np 8 -H a:4,b:4 --mpi python train.py", "horovod-mpi", "train.py", 2, 4),
        ("python -m horovod.runner.launch -np 3 python -u t.py", "horovod", "t.py", 1, 3),
        ("mpirun -np 4 -H a:2,b:2 ./solver", "mpi", "./solver", 2, 2),
        ("mpirun -H a:2,b:2 python -m pkg", "mpi", "-m pkg", 2, 2),
        ("mpirun -np 4 -N 2 -hostfile hosts python x.py", "mpi", "x.py", 2, 2),
        ("mpirun -np 4 --map-by ppr:2:node ./x", "mpi", "./x", 2, 2),
        ("mpiexec -n 4 python x.py", "mpi", "x.py", 1, 4),
        ("mpiexec -n {{world_size}} python x.py", "mpi", "x.py", None, None),
        ("fleetrun --log_dir out train.py", "env", None, None, None),
        ("python -m lightning fabric run --devices 2 t.py", "torchrun", "t.py", None, 2),
    ],
)
def test_mpirun_horovodrun_and_others(
    line: str, framework: str | None, run: str | None, nodes: int | None, local: int | None
) -> None:
    if framework is None:
        with pytest.raises(InputError, match="-np 4: over how many hosts"):
            typed(line)
        job = typed(line, num_nodes=2)
        assert (job.framework, job.resources.nproc_per_node) == ("horovod", 2)
        return
    job = typed(line)
    assert (job.framework, job.num_nodes, job.resources.nproc_per_node) == (framework, nodes, local)
    assert run is None or job.run == tuple(run.split())


def test_mpirun_keeps_what_the_plan_does_not_decide() -> None:
    job = of_environment(
        "mpirun --allow-run-as-root -np 4 -H a:2,b:2 -x NCCL_DEBUG -x A=1 -x LD_LIBRARY_PATH "
        "-x WANDB_API_KEY --mca btl tcp,self -mca plm_rsh_args '-p 22' -mca btl_tcp_if_include eth9 "
        "--bind-to core -N 2 python x.py",
        NCCL_DEBUG="INFO",
        LD_LIBRARY_PATH="/of/this/machine",
        WANDB_API_KEY="k",
    )
    assert job.envs == {"NCCL_DEBUG": "INFO", "A": "1"}
    assert list(job.secrets) == ["WANDB_API_KEY"]
    assert job.launcher_options == ("--mca", "btl", "tcp,self", "--bind-to", "core")
    first, _ = started(job)
    words = " ".join(first.argv)
    assert "--mca btl tcp,self --bind-to core" in words
    assert "--bind-to none" not in words
    assert "h0:2,h1:2" in words


def test_horovodrun_keeps_its_own_options() -> None:
    line = "horovodrun -np 2 -H a:1,b:1 -p 12345 --autotune --fusion-threshold-mb=32 python x.py"
    first, _ = started(typed(line))
    words = " ".join(first.argv)
    assert "--autotune --fusion-threshold-mb 32" in words
    assert "12345" not in words
    assert typed("horovodrun -np 2 -H a,b python x.py", framework="horovod-direct").run == ("x.py",)


@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        ("mpirun -np 4 --wdir /x ./a", {}, "mpirun --wdir has no equivalent here"),
        ("mpirun -np 1 ./a : -np 2 ./b", {}, "mpirun with several programs"),
        ("mpirun -np 3 ./a", {"num_nodes": 2}, "-np 3 over 2 hosts: they would have unequal"),
        ("mpirun -np 4 ./a", {"hosts": "a,b"}, "-np 4: over how many hosts"),
        (
            "mpirun -np 4 ./a",
            {"num_nodes": 2, "resources": Resources(nproc_per_node=1)},
            "-np 4: the job has 2 x 1 = 2 ranks",
        ),
        ("mpirun -x NAME -np 4 ./a", {}, "mpirun -x NAME: NAME is not set"),
        ("mpirun -np two ./a", {}, "mpirun -np two is no count"),
        ("horovodrun --min-np 2 python a.py", {}, "horovodrun --min-np has no equivalent"),
        ("horovodrun -np 2", {}, "horovodrun has no command"),
    ],
)
def test_what_mpirun_and_horovodrun_cannot_be_told(
    line: str, flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        typed(line, **flags)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "envs"),
    [
        ("env A=1 B=2 torchrun --tee 3 x.py", {"A": "1", "B": "2"}),
        ("A=1 time -p nohup torchrun --tee 3 x.py", {"A": "1"}),
        ("A='--x --y' torchrun --tee 3 x.py", {"A": "--x --y"}),
        ("conda run --no-capture-output -n e env A=1 torchrun --tee 3 x.py", {"A": "1"}),
    ],
)
def test_what_stands_in_front_of_a_launcher(line: str, envs: dict[str, str]) -> None:
    job = typed(line)
    assert (job.run, job.envs, job.launcher_options) == (("x.py",), envs, ("--tee=3",))
    assert bool(job.environment and job.environment.conda == "e") == ("conda" in line)


@pytest.mark.parametrize(
    ("line", "wrapper", "framework"),
    [
        ("uv run torchrun --nproc_per_node 2 x.py", "uv run", "torchrun"),
        (
            "uv run --with rich -- torchrun --nproc_per_node 2 x.py",
            "uv run --with rich --",
            "torchrun",
        ),
        (
            "env A=1 uv run python -m torch.distributed.run --nproc_per_node 2 x.py",
            "uv run",
            "torchrun",
        ),
        (
            "uv run --index-url https://x/simple -m torch.distributed.run --nproc_per_node 2 x.py",
            "uv run --index-url https://x/simple",
            "torchrun",
        ),
        # Without it, a -- further behind has poetry read the options of the command as its own.
        ("poetry run accelerate launch --num_processes 4 x.py", "poetry run --", "accelerate"),
        ("poetry run -C x -- torchrun --nproc_per_node 2 x.py", "poetry run -C x --", "torchrun"),
        ("pipenv run deepspeed --num_gpus 2 --no_local_rank x.py", "pipenv run", "deepspeed"),
        (
            "conda run -v --cwd /x -n e torchrun --nproc_per_node 2 x.py",
            "conda run --no-capture-output -v --cwd /x -n e",
            "torchrun",
        ),
    ],
)
def test_what_chooses_an_environment_stays_in_front(
    line: str, wrapper: str, framework: str
) -> None:
    """Of the framework's own launcher, and so of every rank: Python is that of the environment."""
    job = typed(line, num_nodes=2)
    assert (job.framework, " ".join(job.wrapper), job.run) == (framework, wrapper, ("x.py",))
    assert job.resources.nproc_per_node == 2
    for process in started(job):
        words = process.argv
        assert words[: len(job.wrapper) + 2] == (*job.wrapper, "python", "-m")
        assert words[-2:] == ("python", "x.py")
    with pytest.raises(
        InputError, match=f"{' '.join(job.wrapper[:2])}: the job names another Python"
    ):
        typed(line, num_nodes=2, python="/x/python")
    assert not requirements.modules_of(job), "what is in that environment, nobody knows before"
    assert requirements.modules_of(typed("torchrun x.py")) == ("torch",)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("uv run mpirun -np 2 x.py", "mpirun behind uv run starts ranks itself", "--uv ."),
        ("poetry run horovodrun -np 2 x.py", "horovodrun behind poetry run", "--venv DIR"),
        ("uv run numactl -C 0 torchrun x.py", "torchrun behind uv run numactl", "--framework env"),
        ("numactl -C 0 torchrun x.py", "torchrun behind numactl", "--framework env"),
        ("bash -c 'torchrun x.py'", "torchrun behind bash -c", "--framework env"),
        ("bash -c 'mpirun ./a'", "mpirun behind bash -c", "--framework ssh"),
        ("srun python x.py", "srun starts ranks itself", "--framework slurm"),
        ("sbatch job.sbatch", "sbatch starts ranks itself", "launcher run job.sbatch"),
        ("accelerate test", "accelerate test starts", "scripts.test_script"),
    ],
)
def test_a_launcher_inside_of_another_command_is_refused(
    line: str, message: str, hint: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        typed(line)
    assert hint in caught.value.hint
    typed(line, framework="env")


@pytest.mark.parametrize(
    ("name", "text", "line", "message", "hint"),
    [
        (
            "run.sh",
            "set -e\ntorchrun x.py\n",
            "bash -e run.sh",
            "run.sh, line 2",
            "--framework env",
        ),
        (
            "run.sh",
            "#!/bin/sh\nmpirun ./a\n",
            "nohup ./run.sh",
            "run.sh, line 2",
            "--framework ssh",
        ),
        (
            "run.sh",
            "#!/bin/sh\n#SBATCH -N 2\nsrun ./a\n",
            "bash run.sh",
            "line 3",
            "run run.sh reads",
        ),
        (
            "Makefile",
            "train:\n\ttorchrun x.py\n",
            "make train",
            "Makefile, line 2",
            "--framework env",
        ),
        ("run.sh", "# torchrun x.py\npython x.py\n", "bash run.sh", "", ""),
        ("Makefile", "a:\n\techo torchrun x\nb:\n\ttorchrun x\n", "make a", "", ""),
        ("tool", "#!/usr/bin/env python3\ntorchrun = 1\n", "./tool x", "", ""),
    ],
)
def test_a_script_that_starts_a_launcher(
    name: str, text: str, line: str, message: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    words = tuple(shlex.split(line))
    make_job(run=words, workdir=str(tmp_path), framework="env")
    make_job(run=words, workdir=str(tmp_path), framework="torchrun")
    if not message:
        assert make_job(run=words, workdir=str(tmp_path)).run == words
        return
    with pytest.raises(InputError, match=message) as caught:
        make_job(run=words, workdir=str(tmp_path))
    assert hint in caught.value.hint


def test_a_script_of_a_script_that_starts_a_launcher(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.sh").write_text("bash sub/b.sh\n")
    (tmp_path / "sub" / "b.sh").write_text("#!/bin/sh\n\ntorchrun x.py\n")
    with pytest.raises(InputError, match=r"sub/b\.sh, line 3: it starts torchrun"):
        make_job(run=("bash", "a.sh"), workdir=str(tmp_path))
    (tmp_path / "sub" / "Makefile").write_text("train:\n\tbash b.sh\n")
    with pytest.raises(InputError, match=r"b\.sh, line 3: it starts torchrun"):
        make_job(run=("make", "-C", "sub", "train"), workdir=str(tmp_path))


@pytest.mark.parametrize(
    ("line", "nodes"),
    [
        ("bash a.sh", "1"),
        ("make train", "1"),
        ("cd . && bash a.sh", "1"),
        ("bash b.sh", "2"),
        ("bash none.sh", "2"),
    ],
)
def test_a_torchrun_in_a_script_that_stands_alone(line: str, nodes: str, tmp_path: Path) -> None:
    """It would wait for hosts of the plan where none comes."""
    (tmp_path / "a.sh").write_text("torchrun --standalone --nproc_per_node=${2:-16} $1\n")
    (tmp_path / "b.sh").write_text("torchrun x.py --standalone-option\n")
    (tmp_path / "Makefile").write_text("train:\n\tbash a.sh\n")
    run = line if "&&" in line else tuple(shlex.split(line))
    job = make_job(run=run, workdir=str(tmp_path), framework="env", num_nodes=2)
    assert {one.env["PET_NNODES"] for one in started(job)} == {nodes}


COMPOSER = "composer -n 2 --world_size 4 --node_rank 0 --master_addr 10.0.0.1 --master_port 1234 "


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("train.py --epochs 3", ("train.py", "--epochs", "3")),
        ("-m pkg.train x", ("-m", "pkg.train", "x")),
        ("-c ./train", ("./train",)),
        ("-v ./train x", ("python", "./train", "x")),
    ],
)
def test_composer_starts_plain_ranks(line: str, run: tuple[str, ...]) -> None:
    job = typed(COMPOSER + line)
    assert (job.framework, job.run, job.num_nodes) == ("torch", run, 2)
    ranks = started(job)
    assert len(ranks) == 4
    assert [rank.env["NODE_RANK"] for rank in ranks] == ["0", "0", "1", "1"]


def test_tune_run_gets_the_plan() -> None:
    job = typed(
        "tune run --nnodes 2 --nproc_per_node 4 --node_rank 0 --tee 3 full --config c 'a=b c'"
    )
    assert (job.framework, job.num_nodes, job.resources.nproc_per_node) == ("env", 2, 4)
    (text,) = job.run
    assert text.startswith('exec tune run --nproc_per_node "$NUM_TRAINERS" --nnodes "$NUM_NODES" ')
    assert ' --rdzv_endpoint "$MASTER_ADDR:$MASTER_PORT" ' in text, "or it starts each host alone"
    assert text.endswith(" --tee=3 full --config c 'a=b c'")
    assert started(job)[0].env["PET_RDZV_CONF"] == "is_host=true"
    assert started(job)[1].env["PET_NODE_RANK"] == "1"
    alone = typed("tune run --standalone --nproc_per_node 4 full --config c")
    assert (alone.num_nodes, "NUM_NODES" in alone.run[0]) == (1, False)


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("FORCE_TORCHRUN=1 {} llamafactory-cli train x.yaml", "exec llamafactory-cli train x.yaml"),
        ("{} swift sft --model x", "exec swift sft --model x"),
    ],
)
def test_counts_in_front_are_the_plans(line: str, run: str) -> None:
    front = "NNODES=2 NODE_RANK=0 NPROC_PER_NODE=4 MASTER_ADDR=10.0.0.1 MASTER_PORT=29500"
    job = typed(line.format(front))
    assert (job.framework, job.run) == ("env", (run,))
    assert (job.num_nodes, job.resources.nproc_per_node) == (2, 4)
    assert {*job.envs} <= {"FORCE_TORCHRUN"}
    assert ("FORCE_TORCHRUN" in job.envs) == ("llamafactory" in run)
    second = started(job)[1].env
    assert (second["NNODES"], second["NODE_RANK"], second["NPROC_PER_NODE"]) == ("2", "1", "4")
    assert started(typed(line.format(front), num_nodes=3), 3)[1].env["NNODES"] == "3"


def test_variables_in_front_of_any_command_are_the_jobs() -> None:
    job = typed("WANDB_MODE=offline HF_TOKEN=abc MASTER_ADDR=h python train.py --lr 1")
    assert job.run == ("python", "train.py", "--lr", "1")
    assert job.envs == {"WANDB_MODE": "offline"}
    assert job.secrets["HF_TOKEN"].reveal() == "abc"
    assert job.framework == "torchrun"
    assert job.sources["framework"] == "default"
    line = "NNODES=2 NODE_RANK=0 GPUS_PER_NODE=4 TOKENIZERS_PARALLELISM=false bash train.sh x"
    script = typed(line, framework="env")
    assert (script.run, script.num_nodes) == (("bash", "train.sh", "x"), 2)
    assert (script.resources.nproc_per_node, script.envs) == (
        4,
        {"TOKENIZERS_PARALLELISM": "false"},
    )


def test_mpich_is_read_as_open_mpi() -> None:
    job = typed("mpirun -n 4 -ppn 2 -f hosts -genv A 1 -genvall -l -bootstrap ssh python train.py")
    assert (job.framework, job.run, job.envs) == ("mpi", ("train.py",), {"A": "1"})
    assert (job.num_nodes, job.resources.nproc_per_node) == (2, 2)
    assert typed("mpiexec.hydra -n 4 -hosts a,b ./go").num_nodes == 2
    assert typed("orterun -np 2 -N 1 ./go").framework == "mpi"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("jsrun -n 4 -a 1 python train.py", "give launcher what it starts"),
        ("flux run -N2 -n4 python train.py", "give launcher what it starts"),
        ("qsub job.pbs", "--framework ssh bash SCRIPT"),
        ("axolotl train c.yaml", "accelerate launch -m axolotl.cli.train CONFIG"),
        ("env A=1 ibrun python train.py", "give launcher what it starts"),
        ("pdsh -w a,b torchrun train.py", "launcher run --framework env"),
    ],
)
def test_programs_of_other_clusters_are_refused(line: str, hint: str) -> None:
    with pytest.raises(InputError, match="starts ranks itself") as error:
        typed(line)
    assert hint in str(error.value.hint)


def test_a_container_in_a_rank_is_refused() -> None:
    with pytest.raises(InputError, match="would not find RANK") as error:
        typed("docker run --gpus all img:1 python train.py")
    assert "--image NAME" in str(error.value.hint)
    assert typed("docker run img:1 ls", framework="env").run[0] == "docker"
