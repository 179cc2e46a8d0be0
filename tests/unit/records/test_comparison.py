"""What differs between two runs."""

from __future__ import annotations

from dataclasses import replace

from launcher.records import packages
from launcher.records.code import Code
from launcher.records.comparison import Side, compare
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request
from launcher.spec.typed_json import from_json

HOSTS = tuple(Host(name) for name in ("gpu1", "gpu2"))
JOB = Job(("train.py", "--lr", "0.1", "--amp", "--epochs", "3"), workdir="/w", envs={"A": "1"})
LAYOUT = Layout("one", (Node(HOSTS[0], 0, 2, 0, (0, 1)),))
CODE = Code("/w", "s1", 3, 10, "a1b2c3d4e5", "main", False)
ONE = Side(Request(JOB, Inventory(HOSTS), HOSTS), LAYOUT, CODE, b"", "succeeded", "", 10.0)


def _differences(other: Side) -> list[tuple[str, str, str]]:
    return [(one.what, one.before, one.after) for one in compare(ONE, other)]


def _with(job: Job) -> Side:
    return replace(ONE, request=replace(ONE.request, job=job))


def test_a_run_does_not_differ_from_itself() -> None:
    assert _differences(ONE) == []


def test_arguments_differ_with_their_options() -> None:
    other = ("train.py", "--lr", "0.2", "--amp", "--epochs", "3", "--seed", "7")
    assert _differences(_with(replace(JOB, run=other))) == [
        ("arguments", "--lr 0.1", "--lr 0.2"),
        ("arguments", "", "--seed 7"),
    ]
    script = replace(JOB, run=("train.py && true",), shell=True)
    assert _differences(_with(script))[0][0] == "command"


def test_environment_and_options_differ() -> None:
    other = _with(replace(JOB, envs={"B": "2"}))
    other = replace(other, request=replace(other.request, max_restarts=3))
    assert _differences(other) == [
        ("env A", "1", ""),
        ("env B", "", "2"),
        ("max_restarts", "", "3"),
    ]


def test_code_differs() -> None:
    dirty = replace(CODE, snapshot="s2", dirty=True)
    assert _differences(replace(ONE, code=dirty, diff=b"x")) == [
        ("commit", "a1b2c3d4", "a1b2c3d4+"),
        ("code", "", "other uncommitted changes"),
    ]


def test_where_and_how_it_went_differs() -> None:
    there = Layout("two", (Node(HOSTS[1], 0, 1, 0, (0,)),))
    other = replace(ONE, layout=there, status="failed", reason="exit-3", seconds=2.0)
    assert _differences(other) == [
        ("hosts", "gpu1", "gpu2"),
        ("ranks", "2", "1"),
        ("gpus", "2", "1"),
        ("status", "succeeded", "failed (exit-3)"),
        ("seconds", "10.0", "2.0"),
    ]


def test_python_packages_and_metrics_differ() -> None:
    mine = {"torch": "2.3.0", "numpy": "1.26", "old": "1"}
    one = replace(ONE, python="/a (3.10.1)", packages=mine, metrics={"loss": "0.5", "acc": "0.8"})
    other = replace(
        ONE,
        python="/a (3.11.2)",
        packages={"torch": "2.4.0", "numpy": "1.26", "new": "2"},
        metrics={"loss": "0.4", "acc": "0.8"},
    )
    assert [(d.what, d.before, d.after) for d in compare(one, other)] == [
        ("python", "/a (3.10.1)", "/a (3.11.2)"),
        ("package new", "", "2"),
        ("package old", "1", ""),
        ("package torch", "2.3.0", "2.4.0"),
        ("loss", "0.5", "0.4"),
    ]
    assert compare(one, replace(one, packages={})) == (), "nobody asked"
    many = replace(ONE, packages={f"p{n}": "1" for n in range(30)})
    found = compare(many, replace(many, packages={"x": "1"}))
    assert (len(found), found[-1].after) == (21, "11 more differ")


def test_packages_of_hosts_are_folded() -> None:
    record = packages.folded(
        [("a", ["torch==2"]), ("b", ["torch==2"]), ("c", ["torch==1", "x==1"])]
    )
    known = from_json(packages.Packages, record)
    assert [one.hosts for one in known.installed] == [("a", "b"), ("c",)]
    assert known.versions == {"torch": "2, 1", "x": "1"}
