"""What ``launcher show`` says of a run besides its receipt."""

from __future__ import annotations

import click

from launcher.cli.render.run_facts import Facts, facts_lines
from launcher.records.code import Code
from launcher.spec.containers import Container, ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request, Role


def test_options_are_named_in_words_of_people() -> None:
    asked = {"check": False, "max_restarts": 2, "lost_after": 600.0, "stall_timeout": 3e8}
    request = Request(Job(("train.py",)), Inventory(()), (), max_rate=2_000_000, **asked)
    facts = Facts(request, Code(), Layout("r", ()), (), started=0.0, ended=None)
    (line,) = [one for one in map(click.unstyle, facts_lines(facts, 60.0, 120)) if "option" in one]
    assert line.split()[0] == "options"
    said = set(line.removeprefix("options").strip().split(", "))
    assert {"check no", "max_restarts 2", "lost_after 10 min", "stall_timeout never"} <= said
    assert "max_rate 2.0 MB/s" in said


def test_each_image_is_shown_with_its_id_where_it_was() -> None:
    wanted, other = Environment(image="torch:2"), Environment(image="/srv/root")
    roles = (Role("head", environment=wanted), Role("worker", environment=other), Role("plain"))
    spec = ContainerSpec("podman", "podman", "x", "0:0")
    there = [
        {wanted.key: Container("a" * 64, spec)},
        {wanted.key: Container("b" * 64, spec), other.key: Container("", spec)},
    ]
    nodes = tuple(Node(Host(f"gpu{n}"), n, 1, n, containers=its) for n, its in enumerate(there, 1))
    request = Request(Job(("x",), roles=roles), Inventory(()), ())
    facts = Facts(request, Code(), Layout("r", nodes), (), started=0.0, ended=None)
    lines = [one for one in map(click.unstyle, facts_lines(facts, 60.0, 100)) if "image" in one]
    assert lines == [
        "image    head: torch:2, aaaaaaaaaaaa on gpu1, bbbbbbbbbbbb on gpu2",
        "image    worker: /srv/root, on gpu2",
    ]
    whole = Request(Job(("x",), environment=wanted), Inventory(()), ())
    facts = Facts(whole, Code(), Layout("r", nodes[:1]), (), started=0.0, ended=None)
    lines = [one for one in map(click.unstyle, facts_lines(facts, 60.0, 100)) if "image" in one]
    assert lines == ["image    torch:2, aaaaaaaaaaaa on gpu1"]
