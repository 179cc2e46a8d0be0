"""A README's line for one of several hosts is refused: launcher would start it on all of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from launcher.api.jobs import make_job
from launcher.jobs.host_numbers import in_script, numbered
from launcher.spec.errors import InputError

MEET = "'tcp://{{master_addr}}:{{master_port}}'"


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (  # detectron2, YOLOX
            "python train_net.py --num-machines 2 --machine-rank 0 --dist-url tcp://10.0.0.1:1234 -b 8",
            "python train_net.py --num-machines '{{num_nodes}}' --machine-rank '{{node_rank}}' "
            f"--dist-url {MEET} -b 8",
        ),
        (  # SlowFast
            "python tools/run_net.py --num_shards=8 --shard_id=0 --init_method=tcp://h:9999",
            "python tools/run_net.py '--num_shards={{num_nodes}}' '--shard_id={{node_rank}}' "
            "'--init_method=tcp://{{master_addr}}:{{master_port}}'",
        ),
        (  # PyTorch's ImageNet example counts hosts by these
            "python main.py --multiprocessing-distributed --dist-url tcp://a:1 --world-size 2 --rank 0 .",
            f"python main.py --multiprocessing-distributed --dist-url {MEET} --world-size '{{{{num_nodes}}}}' "
            "--rank '{{node_rank}}' .",
        ),
        (
            "python main.py --init-method tcp://127.0.0.1:23456 --rank 1 --world-size 3",
            f"python main.py --init-method {MEET} --rank '{{{{rank}}}}' --world-size '{{{{world_size}}}}'",
        ),
        (  # SGLang
            "python -m sglang.launch_server --dist-init-addr 10.0.0.1:50000 --nnodes 2 --node-rank 0",
            "python -m sglang.launch_server --dist-init-addr '{{master_addr}}:{{master_port}}' "
            "--nnodes '{{num_nodes}}' --node-rank '{{node_rank}}'",
        ),
    ],
)
def test_what_is_for_one_host_is_found(line: str, instead: str) -> None:
    found = numbered(shlex.split(line))
    assert found is not None
    assert found.line == instead
    assert numbered(found.instead) is None


@pytest.mark.parametrize(
    "line",
    [
        "python lora.py --rank 64 --world-size large",
        "python train.py --num-machines 1 --machine-rank 0",
        "python train.py --rank {{rank}} --world-size {{world_size}}",
        "python train.py --node_rank=$NODE_RANK --nnodes=2",
        "python train.py --rank 0",
        "python train.py --rank --world-size 2",
    ],
)
def test_all_else_is_for_all_hosts(line: str) -> None:
    assert numbered(shlex.split(line)) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("NODE_RANK=0\ntorchrun --nnodes 2 \\\n  --node_rank $NODE_RANK train.py", 2),
        (
            "export NODE_RANK=${NODE_RANK:-0}\ntorchrun --nnodes 2 --node_rank $NODE_RANK train.py",
            0,
        ),
        ("# torchrun --nnodes 2 --node_rank 0 train.py\ntorchrun train.py", 0),
        # Both hosts' at once, on one machine.
        ("torchrun --nnodes 2 --node_rank 0 a.py &\ntorchrun --nnodes 2 --node_rank 1 a.py", 0),
    ],
)
def test_scripts(text: str, line: int) -> None:
    found = in_script(text)
    assert (found[0] if found else 0) == line


def test_the_error_is_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(
        "torchrun --nnodes=2 --node_rank=0 --master_addr=a train.py\n"
    )
    (tmp_path / "main.py").touch()
    words = ["python", "main.py", "--machine-rank", "0", "--num-machines", "2"]
    with pytest.raises(
        InputError, match="--machine-rank 0: every host would be number 0 of 2"
    ) as error:
        make_job(run=words, workdir=tmp_path)
    hint = "launcher run --nodes 2 --framework env python main.py --machine-rank '{{node_rank}}'"
    assert str(error.value.hint).startswith(hint)
    make_job(run=words, workdir=tmp_path, num_nodes=1)
    make_job(run=words, workdir=tmp_path, framework="ssh")
    with pytest.raises(InputError, match=r"train\.sh, line 1: --node_rank=0") as error:
        make_job(run=["bash", "train.sh"], workdir=tmp_path, framework="env")
    assert "$NODE_RANK" in str(error.value.hint)
