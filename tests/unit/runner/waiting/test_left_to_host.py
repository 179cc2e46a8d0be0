"""What a host is given to start a run by itself is what its launcher would have sent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.supervisor.requests import checked
from launcher.agent.supervisor.template import filled
from launcher.jobs.layout import make_layout
from launcher.records import events as ev
from launcher.runner.launch import Launch
from launcher.runner.waiting import left_to_host
from launcher.runner.waiting.left_to_host import Choice
from launcher.spec.errors import BadAnswer
from launcher.spec.model import Facts, Gpu, Host, Job, Layout, Resources, Secret

HOST = Host("gpu1")
GPUS = tuple(Gpu(index, uuid=f"GPU-{index}") for index in range(8))
FACTS = Facts("gpu1", "gpu1", "/r", "python3", "3.11", 8, gpus=GPUS)
#: All that start ranks on one host; DeepSpeed's launcher gets its GPUs in base64.
STARTS = (
    *("torchrun", "torch", "env", "slurm", "accelerate", "jax", "tensorflow", "dask", "ray"),
    "deepspeed",
)


def launch(framework: str, gpus: int = 2, *words: str) -> Launch:
    """A launch on one host, as far as a plan needs it."""
    job = Job(
        run=("train.py", "--port={{master_port}}", *words),
        framework=framework,
        resources=Resources(gpus=gpus),
        secrets={"TOKEN": Secret("hidden")},
    )
    request = SimpleNamespace(
        stdin=False, job=job, columns=None, time_limit=60.0, check=False, ignore_foreign=True
    )
    context: Any = SimpleNamespace(job=job, request=request, events=[])
    session: Any = SimpleNamespace(name="gpu1", host=HOST, facts=FACTS)
    return Launch(context, [session], make_layout(job, [HOST], {"gpu1": FACTS}, "mine"), 0)


def request(framework: str) -> Any:
    ticket = {"number": 1, "hosts": 1, "shares": [2]}
    return asyncio.run(left_to_host.wait_request(launch(framework), ticket, {}))


@pytest.mark.parametrize("framework", STARTS)
def test_a_host_fills_in_what_its_launcher_would_have_sent(framework: str) -> None:
    made = request(framework)
    assert checked(made) == "wait"
    ports = range(30_001, 30_001 + len(made["tokens"]["ports"]))
    packed = made["packed"]
    got = filled(made["start"], made["tokens"], (3, 6), ("3", "6"), list(ports), packed)
    real = Choice((3, 6), ("3", "6"), tuple(ports))
    got.pop("peer", None)  # certificates of its own, where hosts are joined
    assert got == left_to_host._request(launch(framework), real, {})
    assert not any(token in repr(got) for tokens in made["tokens"].values() for token in tokens)


@pytest.mark.parametrize("framework", STARTS)
def test_all_are_left_to_a_host(framework: str) -> None:
    assert left_to_host.is_possible(launch(framework))
    assert request(framework)["packed"] == (["--world_info="] if framework == "deepspeed" else [])


@pytest.mark.parametrize("text", ["YWJj", "Y WJj", "YWJ", "gAE=", "", "größe"])
def test_a_word_of_the_user_that_looks_packed_arrives_as_it_is(text: str) -> None:
    assert left_to_host.is_possible(launch("deepspeed", 2, "--world_info=" + text))


def test_a_host_begins_on_what_was_asked_for() -> None:
    good = ev.BegunThere(1.0, "gpu1", 0, 5.0, (3, 6), (30_001,))
    (node,) = left_to_host.begun(launch("torchrun"), good).layout.nodes
    assert (node.gpus, node.gpu_names) == ((3, 6), ("3", "6"))
    for gpus, ports in (((3,), (30_001,)), ((3, 8), (30_001,)), ((3, 6), ()), ((3, 6), (-1,))):
        with pytest.raises(BadAnswer):
            left_to_host.begun(launch("torchrun"), ev.BegunThere(1.0, "gpu1", 0, 5.0, gpus, ports))


@settings(max_examples=50)
@given(st.integers(1, 64), st.integers(1, 64))
def test_no_token_is_a_part_of_another(gpus: int, ports: int) -> None:
    values = [one for some in Choice.tokens(gpus, ports).as_tokens().values() for one in some]
    assert len(set(values)) == 2 * gpus + ports
    assert not any(one in other for one in values for other in values if one != other)


def test_tokens_stand_for_the_gpus_of_a_layout() -> None:
    made = launch("env")
    layout: Layout = Choice((5, 6), ("x", "y"), (1,)).layout(made.layout)
    assert (layout.nodes[0].gpus, layout.nodes[0].gpu_names) == ((5, 6), ("x", "y"))
