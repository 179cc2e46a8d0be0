"""Functions over ranks, as far as no host is needed: what travels, what comes back, and the executor."""

from __future__ import annotations

import importlib
import json
import linecache
import operator
import subprocess
import sys
import threading
from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, cast

import cloudpickle
import pytest

import launcher as library
from launcher.api import functions
from launcher.api.functions import call, modules, on_rank
from launcher.spec.errors import InputError
from support.lab import wait_until

PROGRAM = Path(on_rank.__file__)


def files(**more: Any) -> dict[str, bytes]:
    given = {"function": operator.add, "args": (1, 3), "kwargs": {}, "workdir": Path("/nowhere")}
    return call.files_of(**{**given, "returns": "pickle", **more})


def on_this_rank(folder: Path, given: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
    """Run the program of rank 1 as a host would, with PATH alone in its environment besides."""
    for name, data in given.items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    env = {
        "RANK": "1",
        "LAUNCHER_ATTEMPT": "2",
        "LAUNCHER_RUN_DIR": str(folder),
        "LAUNCHER_OUTPUT_DIR": str(folder / "outputs"),
    }
    argv = [sys.executable, "-m", call.PACKAGE]
    return subprocess.run(
        argv, cwd=folder / "code", env=env, capture_output=True, text=True, check=False
    )


def test_a_rank_calls_the_function_of_a_module_below_the_workdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code" / "src").mkdir(parents=True)
    (tmp_path / "code" / "src" / "mine_for_a_test.py").write_text("def two(x):\n    return x * 2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "code" / "src"))
    module = __import__("mine_for_a_test")
    given = files(function=module.two, args=("ab",), kwargs={}, workdir=tmp_path / "code")
    assert b"def two" not in given[f"{call.PACKAGE}/call.pickle"], "its module travels"
    ran = on_this_rank(tmp_path, given)
    assert ran.returncode == 0, ran.stderr
    assert call.value_of(tmp_path / "outputs", 2, 1, "pickle") == "abab"
    with pytest.raises(FileNotFoundError):
        call.value_of(tmp_path / "outputs", 2, 0, "pickle")


def test_a_rank_says_why_it_failed(tmp_path: Path) -> None:
    def fails() -> None:
        raise KeyError("no \x1b[31mkey")

    ran = on_this_rank(tmp_path, files(function=fails, args=(), kwargs={}))
    assert ran.returncode == 1
    assert "KeyError" in ran.stderr, "the log has it as well"
    said = call.error_of(tmp_path / "outputs", 2, 1)
    assert said is not None
    assert said.type == "KeyError"
    assert "in fails" in said.traceback
    assert "on_rank" not in said.traceback
    assert "__main__" not in said.traceback
    assert "\x1b" not in said.message + said.traceback


def test_a_rank_says_why_whatever_the_function_does(tmp_path: Path) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def no_words() -> None:
        raise SilentError

    def too_many() -> None:
        raise ValueError("x" * 3_000_000)

    def no_environment() -> None:
        import os

        os.environ.clear()
        raise KeyError("HOME")

    for function, kind, words in (
        (no_words, "SilentError", "<its str() failed>"),
        (too_many, "ValueError", "... 2996000 characters ..."),
        (no_environment, "KeyError", "HOME"),
    ):
        ran = on_this_rank(tmp_path, files(function=function, args=()))
        assert ran.returncode == 1
        said = call.error_of(tmp_path / "outputs", 2, 1)
        assert said is not None
        assert (said.type, words in said.message) == (kind, True), said
        assert f"in {function.__name__}" in said.traceback


@pytest.mark.parametrize("writes_names", [True, False])
def test_a_traceback_shows_the_lines_of_a_function_that_travels_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes_names: bool
) -> None:
    """They are in a file that the host has not, or in the cell of a notebook: in no file. cloudpickle
    3.1.3 leaves the name of the file out."""
    known = cloudpickle.CloudPickler.dispatch_table

    def nameless(code: CodeType) -> tuple[Any, ...]:
        make, values = known[CodeType](code)
        return make, tuple("<dynamic-code>" if v == code.co_filename else v for v in values)

    class Nameless(cloudpickle.CloudPickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: nameless}, known)

    if not writes_names:
        monkeypatch.setattr(cloudpickle, "CloudPickler", Nameless)
    cell = "def outer():\n    def inner():\n        return 1 / 0  # here\n    inner()\n"
    linecache.cache["/tmp/a/cell-7"] = (len(cell), None, cell.splitlines(True), "/tmp/a/cell-7")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(cell, "/tmp/a/cell-7", "exec"), names)  # as a notebook does
    given = files(function=names["outer"], args=())
    about = json.loads(given[f"{call.PACKAGE}/call.json"])
    assert list(about["lines"]) == ["/tmp/a/cell-7"]
    assert on_this_rank(tmp_path, given).returncode == 1
    said = call.error_of(tmp_path / "outputs", 2, 1)
    assert said is not None
    assert 'File "/tmp/a/cell-7", line 3, in inner\n    return 1 / 0  # here' in said.traceback


def test_a_rank_with_another_python_loads_nothing(tmp_path: Path) -> None:
    given = files()
    about = json.loads(given[f"{call.PACKAGE}/call.json"])
    given[f"{call.PACKAGE}/call.json"] = json.dumps({**about, "python": "3.7"}).encode()
    given[f"{call.PACKAGE}/call.pickle"] = b"never read"
    assert on_this_rank(tmp_path, given).returncode == 1
    said = call.error_of(tmp_path / "outputs", 2, 1)
    assert said is not None
    assert "the function comes from Python 3.7, and this rank has Python 3." in said.message
    assert "python=" in said.message


def test_with_json_nothing_of_a_host_is_unpickled(tmp_path: Path) -> None:
    assert on_this_rank(tmp_path, files(returns="json")).returncode == 0
    assert call.value_of(tmp_path / "outputs", 2, 1, "json") == 4
    (tmp_path / "outputs" / "returned" / "attempt-2" / "rank-0.pickle").write_bytes(b"code")
    with pytest.raises(FileNotFoundError):
        call.value_of(tmp_path / "outputs", 2, 0, "json")
    with pytest.raises(InputError, match="neither pickle nor json"):
        files(returns="yaml")


def test_what_cannot_travel_is_refused_with_a_reason() -> None:
    lock = threading.Lock()
    with pytest.raises(InputError, match=r"<lambda> cannot be sent to hosts: .*lock") as refused:
        files(function=lambda: lock)
    assert "pass what it needs as arguments" in refused.value.hint


def test_what_returns_no_value_is_refused_with_what_to_do() -> None:
    def yields() -> Any:
        yield 1

    async def awaits() -> None:
        pass

    class Yields:
        def __call__(self) -> Any:
            yield 1

    for function in (yields, partial(yields), Yields()):
        with pytest.raises(InputError, match="is a generator function") as refused:
            files(function=function, args=())
        assert refused.value.hint == "return a list in its place"
    with pytest.raises(InputError, match="awaits is a coroutine function") as refused:
        files(function=awaits, args=())
    assert "asyncio.run" in refused.value.hint


@pytest.mark.parametrize("returns", ["pickle", "json"])
def test_a_rank_says_what_it_cannot_send_back(tmp_path: Path, returns: str) -> None:
    def fails() -> Any:
        return (one for one in range(3))

    given = files(function=fails, args=(), returns=returns)
    assert on_this_rank(tmp_path, given).returncode == 1
    said = call.error_of(tmp_path / "outputs", 2, 1)
    assert said is not None
    assert "the function returned a generator, which cannot be sent back: " in said.message
    assert said.message.endswith("Return plain values, such as a list")


def test_a_module_that_no_host_would_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one of the workdir, nor an installed one; an argument that is called like one is a text."""
    away, work = tmp_path / "away", tmp_path / "work"
    (away / "package_away").mkdir(parents=True)
    (away / "package_away" / "__init__.py").write_text("def g():\n    return 1\n")
    (away / "package_away" / "inner.py").write_text("VALUE = 1\n")
    work.mkdir()
    monkeypatch.syspath_prepend(str(away))
    outside = importlib.import_module("package_away")
    inner = importlib.import_module("package_away.inner")
    main = {"outside": outside, "__name__": "__main__"}
    exec("def calls():\n    return outside.g()", main)

    def sent(function: Any, *args: Any, workdir: Path = work) -> None:
        files(function=function, args=args, workdir=workdir, may_import_more=False)

    for function, args in ((outside.g, ()), (main["calls"], ()), (len, (outside.g,))):
        with pytest.raises(
            InputError, match=r"package_away is in .*: no host would have it"
        ) as refused:
            sent(function, *args)
        assert f"workdir={str(away)!r}" in refused.value.hint
    with pytest.raises(InputError, match=r"package_away.inner is in") as refused:
        sent(len, inner)
    assert f"workdir={str(away)!r}" in refused.value.hint
    sent(outside.g, workdir=tmp_path)
    sent(len, "package_away")
    sent(library.make_job)
    sent(json.dumps, [1])
    files(function=outside.g, args=(), workdir=work)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "away.pth").write_text(f"{away}\n")
    monkeypatch.setattr(modules, "packages", lambda: [str(tmp_path / "site")])
    sent(outside.g)


def test_without_cloudpickle_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(InputError, match="not installed here") as refused:
        files()
    assert "pip install 'launcher-ssh[functions]'" in refused.value.hint


def test_folders_of_imports_are_those_below_the_workdir(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    search = [str(tmp_path), str(tmp_path / "src"), "/usr/lib", sys.path[-1]]
    assert call.import_paths(search, tmp_path) == ["src"]


def test_an_unknown_key_of_the_job_is_named() -> None:
    with pytest.raises(InputError, match="node: there is no such argument") as refused:
        functions.job_of(cast(library.FunctionJob, {"node": 2}))
    assert "nodes" in refused.value.hint


def test_the_job_is_one_of_ranks(tmp_path: Path) -> None:
    job = functions.job_of({"nodes": 2, "nproc_per_node": 3, "workdir": str(tmp_path)})
    assert (job.num_nodes, job.resources.nproc_per_node, job.framework) == (2, 3, "torch")
    assert job.run == ("-m", call.PACKAGE)


class Handle:
    """A run of a client that is none: it ends when it is told to, or is let go."""

    def __init__(self, name: str) -> None:
        self.name, self.over, self.is_let_go = name, threading.Event(), False

    def detach(self) -> None:
        self.is_let_go = True
        self.over.set()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Handle]:
    """The runs that an executor starts; each returns its name on two ranks."""
    known: list[Handle] = []

    def start(_: object, function: Callable[[], str]) -> Handle:
        known.append(Handle(function()))
        return known[-1]

    def results(run: Handle) -> list[str]:
        assert run.over.wait(60)
        if run.name == "bad":
            raise library.LauncherError("it failed")
        if run.is_let_go:
            from concurrent.futures import CancelledError

            raise CancelledError
        return [run.name, "rank 1"]

    monkeypatch.setattr("launcher.api.functions.Ranks.start", start)
    monkeypatch.setattr("launcher.api.functions.executor.results", results)
    return known


def a_pool(**more: Any) -> library.Executor:
    return library.Executor(library.Client(), nproc_per_node=2, **more)


def test_results_and_errors_come_through_futures(runs: list[Handle]) -> None:
    with a_pool(max_workers=1) as pool:
        good, bad = pool.submit(lambda: "good"), pool.submit(lambda: "bad")
        wait_until(lambda: bool(runs), "a run")
        runs[0].over.set()
        assert good.result(60) == "good"
        assert good.results() == ["good", "rank 1"]
        assert good.run is cast(Any, runs[0])
        wait_until(lambda: len(runs) == 2, "another run")
        runs[1].over.set()
        assert str(bad.exception(60)) == "it failed"
    with pytest.raises(RuntimeError):
        pool.submit(lambda: "late")


def test_ctrl_c_lets_go_of_what_runs_and_drops_what_waits(runs: list[Handle]) -> None:
    waiting: list[library.RunFuture[str]] = []

    def interrupted() -> None:
        with a_pool(max_workers=1) as pool:
            waiting.extend(pool.submit(lambda: "one") for _ in range(2))
            wait_until(lambda: waiting[0].run is not None, "a run")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        interrupted()
    assert [run.is_let_go for run in runs] == [True]
    assert waiting[1].cancelled()
    assert "one goes on: launcher.results(client.attach('one'))" in stopped.value.__notes__
    assert "let go of one, which goes on" in str(waiting[0].exception(60))


def test_runs_of_an_executor_wait_for_gpus_that_launcher_chooses() -> None:
    def wait_of(**more: Any) -> Any:
        return a_pool(**more)._ranks._options.get("wait", "not set")

    assert wait_of(gpus=2) is None
    assert wait_of(gpus=2, options={"wait": 5.0}) == 5.0
    assert wait_of(gpus=0) == "not set"


def test_the_record_says_why_where_no_rank_does(tmp_path: Path) -> None:
    receipt = library.Receipt("calm-owl", "failed", "no-rsync", 125, 0.0, 1.0, {}, 2, "torch")
    run = cast(Any, type("Run", (), {"name": "calm-owl", "folder": tmp_path})())
    failed = functions._failed(run, replace(receipt, error="lab1: no rsync", hint="install it"), 0)
    assert (str(failed), failed.hint) == ("lab1: no rsync (run calm-owl)", "install it")
    assert failed.rank is None
    assert "failed (no-rsync)" in str(functions._failed(run, receipt, 0))
