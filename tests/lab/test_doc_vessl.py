"""VESSL's "Distributed Experiments": its variables, its start command, and files that do not meet."""

from __future__ import annotations

from support import lab as labs
from support.command import Launcher

#: The start command as it stands there.
COMMAND = """python -m torch.distributed.launch  \\
  --nnodes=$NUM_NODES  \\
  --nproc_per_node=$NUM_TRAINERS  \\
  --node_rank=$RANK \\
  --master_addr=$MASTER_ADDR \\
  --master_port=$MASTER_PORT \\
  examples/distributed_cifar/pytorch/main.py
"""
MAIN = """
import os, pathlib, torch.distributed as dist
dist.init_process_group("gloo")
got = [None] * dist.get_world_size()
dist.all_gather_object(got, os.environ["LAUNCHER_HOST"])
print("rank", dist.get_rank(), "meets", got)
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "model.txt").write_text(f"of {dist.get_rank()}")
dist.destroy_process_group()
"""
SCRIPT = "examples/distributed_cifar/pytorch/main.py"


def test_the_start_command_trains(launcher: Launcher, clean: labs.Lab) -> None:
    """Each worker has its log; files of one path, which overwrite each other there, are all kept."""
    launcher.script(MAIN, SCRIPT)
    ran = launcher.run("--nodes", "2", "--framework", "env", COMMAND)
    assert ran.code == 0, ran.err
    for rank in (0, 1):
        said = f"rank {rank} meets ['lab1', 'lab2']"
        assert said in ran.log(f"node-{rank}.out").decode()
    files = [ran.folder / "outputs" / output["path"] for output in ran.receipt["outputs"]]
    assert sorted(path.read_text() for path in files) == ["of 0", "of 1"]


def test_the_variables_of_a_node(launcher: Launcher, clean: labs.Lab) -> None:
    words = "echo $NUM_NODES $NUM_TRAINERS $RANK; test -n $MASTER_ADDR; echo $((MASTER_PORT))"
    ran = launcher.run("--nodes", "2", "--nproc-per-node", "3", "--framework", "env", words)
    assert ran.code == 0, ran.err
    ports = set()
    for rank in (0, 1):
        variables, port = ran.log(f"node-{rank}.out").decode().splitlines()
        assert variables == f"2 3 {rank}"
        ports.add(port)
    assert len(ports) == 1
