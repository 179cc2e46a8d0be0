"""Wrong arguments are errors of launcher, which name them, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import launcher as library
from launcher.records.run_folder import RunFolder
from launcher.spec.errors import InputError


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t1.py").touch()
    (tmp_path / "a script.py").touch()
    (tmp_path / "inventory.yaml").write_text("hosts: [gpu1]\n")


@pytest.fixture
def recorded() -> Any:
    """A run of this machine that never began."""
    client = library.AsyncClient("inventory.yaml")
    from launcher.records import codec
    from launcher.spec.model import Layout, Request

    folder = RunFolder.create("owl")
    hosts = client.inventory.hosts
    request = Request(library.make_job(run="t1.py"), client.inventory, hosts)
    folder.write("run.json", codec.describe_run(request, Layout(folder.name, ()), 1.0))
    folder.close()
    with library.Client() as attached:
        yield attached.attach("-")


Use = Callable[[Any], object]

OF_CLIENT: list[tuple[Use, str]] = [
    (lambda c: c.run(3), "run: expected a command, a job file or a Job, got a whole number"),
    (lambda c: c.run(None), "run: expected a command, a job file or a Job, got None"),
    (lambda c: c.run(["t1.py", 3]), r"run\[1\]: expected text, got a whole number"),
    (lambda c: c.run([]), "run: it is empty"),
    (lambda c: c.run("t1.py", env=["LR"]), "envs: expected a mapping, got a list"),
    (lambda c: c.run("t1.py", env={"LR": [1]}), "envs: LR: expected text, got a list"),
    (lambda c: c.run("t1.py", env={"LR": None}), "envs: LR: expected text, got None"),
    (lambda c: c.run("t1.py", env={"a b": "1"}), "envs: 'a b' cannot be the name"),
    (lambda c: c.run("t1.py", secrets=3), "secrets: expected a mapping, got a whole number"),
    (lambda c: c.run("t1.py", nodes="many"), "num_nodes: "),
    (lambda c: c.run("t1.py", gpus=[1]), "resources: gpus: expected a whole number, got a list"),
    (
        lambda c: c.run("t1.py", nproc_per_node="x"),
        "resources: nproc_per_node: expected a whole number",
    ),
    (lambda c: c.run("t1.py", max_restarts="x"), "max_restarts: expected a whole number"),
    (lambda c: c.run("t1.py", nproc_per_node=0), "resources: nproc_per_node: 0 is less than 1"),
    (lambda c: c.run("t1.py", nproc_per_node=-1), "resources: nproc_per_node: -1 is less than 1"),
    (lambda c: c.run("t1.py", gpus=-1), "resources: gpus: -1 is less than 0"),
    (lambda c: c.run("t1.py", max_restarts=-1), "max_restarts: -1 is less than 0"),
    (lambda c: c.run("t1.py", min_nodes=0), "min_nodes: 0 is less than 1"),
    (lambda c: c.run("t1.py", grace=-1.5), "grace: -1.5 is less than 0"),
    (lambda c: c.run("t1.py", pull_every=-1), "pull_every: -1 is less than 0"),
    (lambda c: c.run("t1.py", lost_after=-1), "lost_after: -1 is less than 0"),
    (lambda c: c.run("t1.py", stall_timeout=0), "stall_timeout: 0 is not more than 0"),
    (lambda c: c.run("t1.py", orphan_timeout=-2), "orphan_timeout: -2 is not more than 0"),
    (lambda c: c.run("t1.py", max_rate=-5), "max_rate: -5 is less than 0"),
    (lambda c: c.run("t1.py", max_rate=5), "max_rate: 5 bytes a second are less than 10000"),
    (lambda c: c.run("t1.py", setup=3), "setup: expected text, got a whole number"),
    (lambda c: c.run("t1.py", outputs=[3]), r"outputs\[0\]: expected text"),
    (lambda c: c.run("t1.py", workdir=3), "workdir: expected text, got a whole number"),
    (lambda c: c.run("none.py", nodez=2), "nodez: there is no such argument"),
    (lambda c: c.run("t1.py", pull_every="soon"), "pull_every: expected a number, got text"),
    (lambda c: c.run("t1.py", tags=[1]), r"tags\[0\]: expected text"),
    (lambda c: c.run("t1.py", on_event="x"), "on_event: 'x' cannot be called"),
    (lambda c: c.run("t1.py", add_files={"a": "text"}), "add_files: 'a' has no bytes"),
    (lambda c: c.run("t1.py", add_files=["a"]), "add_files: expected a mapping, got a list"),
    (lambda c: c.rerun("-", note=3), "note: expected text"),
    (lambda c: c.rerun("-", node=3), "node: there is no such argument"),
    (lambda c: c.reserve(1, "long"), "seconds: expected a number"),
    (lambda c: c.attach(3), "run: expected its name, got a whole number"),
    (lambda c: c.show(None), "run: expected its name, got None"),
    (lambda c: c.select([3]), r"words\[0\]: expected text, got a whole number"),
    (lambda c: c.annotate("-", add=3), "add: expected a list, got a whole number"),
    (lambda c: c.push(3), "folder: 3 is no path"),
    (lambda c: c.exec("ls -l"), "argv: expected a list of words, got text"),
    (lambda c: c.exec(["echo", 3]), r"argv\[1\]: expected text"),
    (lambda c: c.exec([]), "argv: it is empty"),
    (lambda c: library.processes(c, options=cast(Any, {"x": 1})), "x: there is no such argument"),
    (lambda c: library.processes(c, envs=cast(Any, ["LR"])), "envs: expected a mapping"),
    (lambda c: library.Executor(c, max_workers=cast(Any, "x")), "max_workers: expected a whole"),
    (lambda c: library.Executor(c, max_workers=0), "max_workers: 0 runs at once are none"),
    (lambda c: library.processes(c)(cast(Any, "train")), "function: 'train' cannot be called"),
]


@pytest.mark.parametrize(("use", "words"), OF_CLIENT, ids=[words for _, words in OF_CLIENT])
def test_of_a_client(use: Use, words: str) -> None:
    with (
        library.Client("inventory.yaml") as client,
        pytest.raises(InputError, match=f"^{words}"),
    ):
        use(client)
    assert not Path("home/runs").exists()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda run: run.exec(["echo", 3]), r"argv\[1\]: expected text"),
        (lambda run: run.exec("ls"), "argv: expected a list of words"),
        (lambda run: list(run.lines(ranks=["a"])), r"ranks\[0\]: expected a whole number"),
        (lambda run: list(run.logs(ranks=0)), "ranks: expected a list, got a whole number"),
        (lambda run: run.pull(3), "dest: 3 is no path"),
        (lambda run: run.wait(timeout="x"), "timeout: expected a number, got text"),
        (lambda run: run.stop(grace="x"), "grace: expected a number, got text"),
        (lambda run: run.request_stop(grace="x"), "grace: expected a number, got text"),
        (lambda run: run.stop(grace=-1), "grace: -1 is less than 0"),
    ],
)
def test_of_a_run(recorded: Any, use: Use, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        use(recorded)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"time": "soon"}, "time: not a duration: 'soon' (30s, 5m, 2h)"), ({"stdin": "x"}, "stdin: ")],
)
def test_an_option_as_text_is_named_once(wanted: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as refused:
        library.parse_options(wanted)
    assert str(refused.value).startswith(words)
    assert str(refused.value).count(next(iter(wanted)) + ":") == 1


@pytest.mark.parametrize("client", ["inventory.yaml", None, library.AsyncClient()])
def test_what_is_no_client_is_told_so(client: Any) -> None:
    for kind in (library.processes, library.Executor):
        with pytest.raises(InputError, match=r"^client: .* is no launcher.Client") as refused:
            kind(client)
        assert "launcher.Client(" in refused.value.hint


@pytest.mark.parametrize("place", [3, True, b"inventory.yaml", ["gpu1"]])
def test_an_inventory_is_a_path_and_no_descriptor(place: Any) -> None:
    """An integer would be opened as one, and closed: that of another client's loop."""
    reading, writing = os.pipe()
    place = reading if place == 3 else place
    for use in (library.Client, library.AsyncClient, library.load_inventory, library.load_job):
        with pytest.raises(InputError, match=r"is no path"):
            use(place)
    os.close(reading)
    os.close(writing)


def test_what_may_be_written_otherwise(recorded: Any) -> None:
    """Paths, numbers as variables, one text where several may stand."""
    from launcher.api.async_client import _job_of

    job = _job_of(Path("t1.py"), {"env": {"LR": 0.1, "N": 3, "ON": True, "A": "b"}})
    assert job.run == ("t1.py",)
    assert job.envs == {"LR": "0.1", "N": "3", "ON": "true", "A": "b"}
    assert library.make_job(run=Path("a script.py"), envs={"LR": 1e-3}).envs == {"LR": "0.001"}
    assert library.make_job(run=Path("a script.py")).run == ("a script.py",)
    assert library.make_job(run="t1.py --lr 1").run == ("t1.py", "--lr", "1")
    assert library.make_job(run=[Path("t1.py"), "--x"]).run == ("t1.py", "--x")
    assert library.make_job(run="t1.py", outputs="*.pt").outputs == ("*.pt",)
    with library.Client() as client:
        assert client.annotate(recorded.name, "paper").tags == ("paper",)
        assert [run.run for run in client.select(recorded.name, tags="paper")] == [recorded.name]
    Path("job.yaml").write_text("run: t1.py\nenvs: {LR: 0.1, ON: true}\n")
    assert _job_of(Path("job.yaml"), {}).envs == {"LR": "0.1", "ON": "true"}
    with pytest.raises(InputError, match=r"^setup: expected text, got a list"):
        library.make_job(run="t1.py", setup=["a"])
