"""Records come back as they were, from this version and from others; what is damaged is named."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cli import cli
from launcher.records import catalog, codec, formats
from launcher.records import events as ev
from launcher.records import receipt as receipts
from launcher.records.reasons import StopReason
from launcher.records.receipt import Receipt
from launcher.records.run_folder import RunFolder
from launcher.runner.requests import changed
from launcher.spec.containers import Container, ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.errors import NewerRecord, UnreadableRecord
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request, Secret, Share, Task
from launcher.spec.typed_json import Mismatch, from_json, to_json
from launcher.spec.version import __version__
from support import ROOT

FEW = settings(max_examples=30)

TEXT = st.text(st.characters(exclude_categories=()), max_size=6)  # with what no UTF-8 can hold
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(),
    bool: st.booleans(),
    Any: JSON,
    object: JSON,
    float: st.floats(-1e11, 1e11),
    type(None): st.none(),
}


def of(kind: Any, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any value of a type, with every field of frozen values set to anything."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin in (Union, types.UnionType):
        return st.one_of(*map(of, inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(of(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(of, inner))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(of(inner[0]), of(inner[1]), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    assert is_dataclass(kind), kind
    hints = get_type_hints(kind)
    return st.builds(
        kind,
        **{f.name: known[f.name] if f.name in known else of(hints[f.name]) for f in fields(kind)},
    )


def written(value: Any) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(value))


@st.composite
def runs(draw: Any) -> tuple[Request, Layout]:
    """Any request and layout, on hosts of its inventory."""
    names = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    hosts = tuple(draw(of(Host, name=st.just(name))) for name in names)
    inventory = draw(of(Inventory, hosts=st.just(hosts)))
    request = draw(
        of(
            Request,
            job=of(Job, secrets=st.just({})),
            inventory=st.just(inventory),
            hosts=st.lists(st.sampled_from(hosts), max_size=2).map(tuple),
            ask_passphrase=st.none(),
            code_copy=st.none(),
            stdin=st.just(False),
        )
    )
    nodes = st.lists(of(Node, host=st.sampled_from(hosts)), max_size=2).map(tuple)
    return request, Layout(draw(TEXT), draw(nodes), draw(st.integers(0, 3)))


@pytest.mark.thorough
@FEW
@given(runs(), st.floats(-1e11, 1e11))
def test_a_run_comes_back_whole(run: tuple[Request, Layout], started: float) -> None:
    request, layout = run
    described = written(codec.describe_run(request, layout, started))
    assert codec.read_run(described) == run
    later = {**described, "later": 1, "job": {**described["job"], "later": [2]}}
    assert codec.read_run(later) == run


def test_a_plain_job_is_one_that_the_first_release_reads() -> None:
    """It refuses a run whose job has keys that it does not know: new ones say nothing by absence."""
    first = ROOT / "tests" / "golden" / "0.1" / "stopped" / "run.json"
    known = json.loads(first.read_text())["job"]
    found = codec.describe_job(Job(("x",)))
    assert set(found) <= set(known)
    assert set(found["resources"]) <= set(known["resources"])


def test_no_record_holds_a_secret() -> None:
    job = Job(("x",), secrets={"TOKEN": Secret("abc")})
    host = Host("a")
    record = codec.describe_run(Request(job, Inventory((host,)), (host,)), Layout("r", ()), 0.0)
    assert record["job"]["secrets"] == ["TOKEN"]
    assert "abc" not in json.dumps(record)
    with pytest.raises(TypeError, match="Secret cannot be part of a record"):
        to_json({"a": Secret("abc")})


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ev.KINDS.values(), ids=list(ev.KINDS))
def test_an_event_comes_back(kind: type[ev.Event]) -> None:
    reason = {"reason": st.sampled_from(["by-user", "exit-3", "stalled"])}
    known = reason if kind is ev.RunEnded else {}

    @settings(max_examples=30)
    @given(of(kind, seq=st.integers(-1, 9), **known))
    def comes_back(event: ev.Event) -> None:
        assert ev.decode(written(ev.encode(event))) == event
        assert ev.decode({**written(ev.encode(event)), "later": {}}) == event

    comes_back()


@FEW
@given(
    of(
        Receipt,
        version=st.just(formats.VERSION),
        reason=st.sampled_from(["by-user", "exit-3", "stalled", "code-of-a-plug-in"]),
        reason_host=st.none() | st.just("gpu1"),
        outputs=st.just(({"path": "a", "size": 1, "hosts": ["gpu1"], "more": None},)),
    )
)
def test_a_receipt_comes_back(receipt: Receipt) -> None:
    assert receipts.read({**written(receipt.to_json()), "later": None}) == receipt


@pytest.mark.parametrize("why", list(StopReason))
def test_every_reason_of_a_stop_comes_back(why: StopReason) -> None:
    event = ev.StopRequested(1.0, why)
    assert ev.decode(written(ev.encode(event))) == event


# -- what does not fit


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (int, True, "expected a whole number, got true or false"),
        (int, 1.5, "expected a whole number, got a number"),
        (float, "1", "expected a number, got text"),
        (str, None, "expected text, got null"),
        (bool, 0, "expected true or false, got a whole number"),
        (tuple[int, ...], {}, "expected a list, got an object"),
        (tuple[int, int], [1], "expected 2 values, got 1"),
        (tuple[int, ...], [1, "x"], "[1]: expected a whole number, got text"),
        (dict[str, int], {"a": []}, "a: expected a whole number, got a list"),
        (dict[int, int], {"a": 1}, "a: expected a whole number as the key"),
        (int | None, "x", "expected a whole number, got text"),
        (Host, {}, "name: is missing"),
        (Host, {"name": "a", "port": "22"}, "port: expected a whole number, got text"),
        (Share, [], "expected an object, got a list"),
        (Node, {"host": {"name": "a"}, "node_rank": 0, "local_world_size": 1, "rank_offset": 0,
                "tasks": [{"role": "a"}]}, "tasks[0].index: is missing"),
        (Secret, "x", "no record holds a Secret"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(kind: Any, value: object, problem: str) -> None:
    with pytest.raises(Mismatch) as caught:
        from_json(kind, value)
    assert str(caught.value) == problem


def test_defaults_and_numbers() -> None:
    task = from_json(Task, {"role": "a", "index": 1, "rank": 2, "other": 3})
    assert task == Task("a", 1, 2)
    assert isinstance(from_json(float, 5), float)
    assert from_json(int | str | None, "x") == "x"
    assert from_json(dict[int, int], {"7": 1}) == {7: 1}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"started": "now"}, "started: expected a number, got text"),
        ({"job": []}, "job: expected an object, got a list"),
        ({"job": {}}, "job.run: is missing"),
        ({"job": {"run": ["x"], "grace": "1s"}}, "job.grace: expected a number, got text"),
        ({"job": {"run": ["x"], "secrets": [1]}}, "job.secrets[0]: expected text, got a whole"),
        ({"inventory": {"hosts": [{}]}}, "inventory.hosts[0].name: is missing"),
        ({"hosts": ["b"]}, "hosts[0]: the inventory has no host 'b'"),
        ({"nodes": [{"host": ["b"]}]}, "nodes[0].host: the inventory has no host ['b']"),
        ({"nodes": [{"host": "a"}]}, "nodes[0].node_rank: is missing"),
        ({"lost_after": None}, "lost_after: expected a number, got null"),
        ({"version": {}}, "version: {} is not a version"),
    ],
)
def test_a_damaged_description_names_file_and_field(change: dict[str, Any], problem: str) -> None:
    host = Host("a")
    request = Request(Job(("x",)), Inventory((host,)), (host,))
    record = {**codec.describe_run(request, Layout("r", ()), 0.0), **change}
    with pytest.raises(UnreadableRecord) as caught:
        codec.read_run(record, "here/run.json")
    assert str(caught.value).startswith(f"here/run.json is damaged: {problem}")


@pytest.mark.parametrize("version", [2, "2", "2.0", 3.5])
def test_a_later_major_version_says_what_to_do(version: object) -> None:
    record = {"version": version, "launcher": "3.0.0", "shape": "unknown"}
    for read in (codec.read_run, receipts.read):
        with pytest.raises(NewerRecord) as caught:
            read(record, "here/x.json")  # type: ignore[operator]
        words = f"here/x.json was written by launcher 3.0.0; this is {__version__}"
        assert (str(caught.value), caught.value.hint.split()[0]) == (words, "upgrade")


@pytest.mark.parametrize("version", [1, "1", "1.7", 1.7, None])
def test_a_later_minor_version_is_read(version: object) -> None:
    record = {} if version is None else {"version": version}
    assert formats.check_version(record, "x") == record


# -- damaged files


def folder_of(home: Path, name: str, *lines: str, described: str | None = None) -> Path:
    path = home / "runs" / name
    path.mkdir(parents=True)
    (path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if described is not None:
        (path / "run.json").write_text(described)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    return tmp_path


STAGE = '{"event": "StageStarted", "time": 5, "stage": "run"}'


def test_no_damaged_run_keeps_ls_from_the_others(home: Path) -> None:
    folder_of(home, "good", STAGE, '{"event": "FromLater", "time": 5}')
    folder_of(home, "typed", STAGE, '{"event": "ProcessExited", "time": 6, "attempt": "a"}')
    folder_of(home, "nuls", STAGE, "\0\0\0")
    folder_of(home, "list", "[]")
    folder_of(home, "deep", "[" * 5000)
    folder_of(home, "newer", STAGE, described='{"version": 2, "launcher": "9.1"}')
    folder_of(home, "nodes", STAGE, described='{"version": 1, "nodes": [{"gpus": []}]}')
    ran = CliRunner().invoke(cli, ["ls", "--json"])
    assert ran.exit_code == 0, ran.output
    found = {run["run"]: (run["status"], run["reason"]) for run in json.loads(ran.stdout)}
    damaged = {run["run"]: run["damaged"] for run in json.loads(ran.stdout)}
    assert found.pop("good") == ("preparing", "")
    for name, words in {
        "newer": f"newer/run.json was written by launcher 9.1; this is {__version__}",
        "nodes": "nodes/run.json is damaged: nodes[0].host: is missing",
    }.items():
        assert found[name][0] == catalog.UNREADABLE
        assert words in found[name][1]
    for name, words in {
        "typed": "typed/events.jsonl:2 is damaged: host: is missing",
        "nuls": "nuls/events.jsonl:2 is damaged: not JSON",
        "list": "list/events.jsonl:1 is damaged: not an event",
        "deep": "deep/events.jsonl:1 is damaged: not JSON",
    }.items():
        assert found[name] == ("preparing", "")
        assert words in damaged[name]
    assert CliRunner().invoke(cli, ["ls"]).exit_code == 0


def test_files_that_are_a_comfort_are_done_without(home: Path) -> None:
    folder = RunFolder(folder_of(home, "run"))
    for text in ("", "{}", "[", '{"a": "x"}'):
        (folder.path / "given.json").write_text(text)
        assert folder.read_as(dict[str, int], "given.json") in (None, {})
    assert folder.read_as(dict[str, int], "nothing.json") is None
    folder.close()


# -- what hosts say


def test_a_record_that_makes_no_sense_is_passed_over_and_said() -> None:
    """It must not come into our own records, where it would stay."""
    record = {"seq": 4, "time": 9.0, "event": "ProcessExited", "attempt": "a"}
    event = ev.from_journal("gpu1", record, 0.0, now=7.0)
    problem = "record 4 of its journal: attempt: expected a whole number, got text"
    assert event == ev.RecordPassedOver(7.0, "gpu1", problem, seq=4)
    assert ev.decode(written(ev.encode(event))) == event
    assert isinstance(ev.from_journal("a", {**record, "time": None}, 0.0), ev.RecordPassedOver)
    assert ev.from_journal("a", {**record, "event": "FromLater"}, 0.0) is None
    assert replace(event, seq=-1).seq == -1


def test_the_image_of_a_run_of_the_release_before_is_that_of_its_job() -> None:
    wanted = Environment(image="x:1", mounts=("/data",))
    image = Container("1" * 64, ContainerSpec("podman", "/usr/bin/podman", "1" * 64, "0:0"))
    host, job = Host("gpu1"), Job(("x",), framework="env", environment=wanted)
    node = Node(host, 0, 1, 0, containers={wanted.key: image})
    inventory = Inventory((host,))
    layout = Layout("calm-otter-3f9a", (node,))
    record = written(codec.describe_run(Request(job, inventory, (host,)), layout, 1.0))
    (its,) = record["nodes"]
    its["container"] = its.pop("containers")[wanted.key]
    request, read = codec.read_run(record)
    assert read == layout
    assert changed(request, read).job.environment == replace(wanted, pinned="1" * 64)
    record["job"]["environment"] = 5
    with pytest.raises(UnreadableRecord, match=r"job\.environment"):
        codec.read_run(record)
