"""On which nodes of a run a command goes where, and in whose environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from launcher.runner.images.inside import in_image
from launcher.runner.remote_commands import _in_the_run, chosen_nodes
from launcher.spec.containers import Container, ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.errors import InputError, NoEnvironment
from launcher.spec.model import Host, Job, Layout, Node, Role, Task

A, B = Environment(image="a"), Environment(image="b")
JOB = Job(
    ("x",),
    framework="env",
    roles=(Role("head", environment=A), Role("worker", environment=B), Role("plain")),
)


def _containers() -> dict[str, Container]:
    spec = (ContainerSpec("podman", "/usr/bin/podman", one.image, "0:0") for one in (A, B))
    return {one.key: Container("1" * 64, its) for one, its in zip((A, B), spec, strict=True)}


NODES = (
    Node(Host("gpu1"), 0, 2, 0, tasks=(Task("head", 0, 0), Task("worker", 0, 1))),
    Node(Host("gpu2"), 1, 2, 2, tasks=(Task("plain", 0, 2), Task("worker", 1, 3))),
)
LAYOUT = Layout("r", tuple(Node(**{**vars(n), "containers": _containers()}) for n in NODES))


@pytest.mark.parametrize(
    ("number", "role", "hosts"),
    [
        (None, None, ["gpu1", "gpu2"]),
        (1, None, ["gpu2"]),
        (None, "head", ["gpu1"]),
        (None, "worker", ["gpu1", "gpu2"]),
        (1, "worker", ["gpu2"]),
    ],
)
def test_a_role_says_on_which_hosts(number: int | None, role: str | None, hosts: list[str]) -> None:
    assert [node.host.name for node in chosen_nodes(LAYOUT, number, role)] == hosts


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="--role ps: r has no role ps") as caught:
        chosen_nodes(LAYOUT, None, "ps")
    assert caught.value.hint == "its roles: head, worker, plain"
    with pytest.raises(InputError, match="--node 1: no process of head is there") as caught:
        chosen_nodes(LAYOUT, 1, "head")
    assert caught.value.hint == "nodes: 0"
    with pytest.raises(InputError) as caught:
        chosen_nodes(Layout("r", (Node(Host("gpu1"), 0, 1, 0),)), None, "head")
    assert caught.value.hint == "its processes have no roles"


@pytest.mark.parametrize(
    ("node", "role", "image"),
    [(0, None, "a"), (0, "worker", "b"), (1, "worker", "b"), (1, None, ""), (1, "plain", "")],
)
def test_a_command_is_in_the_image_of_its_role(node: int, role: str | None, image: str) -> None:
    visited: Any = SimpleNamespace(node=LAYOUT.nodes[node], code="/code", folder="/run")
    line = _in_the_run(JOB, LAYOUT, visited, "nvidia-smi", role)
    assert ("--entrypoint" in line) == bool(image)
    assert not image or f"bin/image-{'ab'.index(image)}" in line


def test_nothing_starts_outside_of_an_image_that_is_not_there() -> None:
    """A host may have a role whose image it was not given yet."""
    node = NODES[0]
    visited: Any = SimpleNamespace(node=node, code="/code", folder="/run")
    with pytest.raises(NoEnvironment, match="the image b was not brought there"):
        _in_the_run(JOB, LAYOUT, visited, "nvidia-smi", "worker")
    with pytest.raises(NoEnvironment, match="the image a was not brought there"):
        in_image(JOB, LAYOUT, node, "head")
    assert in_image(JOB, LAYOUT, node, "plain") == {}
