"""Functions over ranks of real hosts: what they return, how they fail, and who finds their runs."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import launcher as library
from support import ROOT
from support import lab as labs
from support.command import Launcher

HELPERS = """
import os

def tripled(text):
    return text * 3

def fails_on(rank):
    if os.environ["RANK"] == rank:
        raise ValueError(f"no data on {os.environ['LAUNCHER_HOST']}")
    import time
    time.sleep(600)

def waits_for(path):
    import time
    while not os.path.exists(path):
        time.sleep(0.05)
    return os.environ["LAUNCHER_HOST"]
"""


@pytest.fixture
def helpers(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module in the workdir, which is where this process is; its records are the command's."""
    monkeypatch.setenv("LAUNCHER_HOME", str(launcher.home))
    monkeypatch.chdir(launcher.work)
    (launcher.work / "helpers_of_ranks.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(launcher.work))
    monkeypatch.delitem(sys.modules, "helpers_of_ranks", raising=False)
    yield __import__("helpers_of_ranks")
    sys.modules.pop("helpers_of_ranks", None)


def test_every_rank_returns_and_a_rank_that_fails_says_why(
    launcher: Launcher, helpers: Any, clean: labs.Lab
) -> None:
    """In a running event loop as well; nothing is left in the workdir; a rerun calls it again."""

    async def in_a_notebook() -> None:
        with (
            library.Client(launcher.inventory) as client,
            library.processes(client, nodes=2, nproc_per_node=2) as ranks,
        ):
            assert ranks(helpers.tripled, "x" * 1_000_000) == ["x" * 3_000_000] * 4
            run = client.rerun("-")
            assert library.results(run) == ["x" * 3_000_000] * 4
            with pytest.raises(library.FunctionFailed) as failed:
                ranks(helpers.fails_on, "3")
            error = failed.value
            assert "rank-3 on lab2: ValueError: no data on lab2" in str(error)
            assert (error.rank, error.host, client.show(error.run).status) == (3, "lab2", "failed")
            assert "in fails_on" in error.traceback
            assert error.__notes__ == [error.traceback.rstrip()]

    asyncio.run(in_a_notebook())
    assert [path.name for path in launcher.work.iterdir() if path.suffix == ".py"] == [
        "helpers_of_ranks.py"
    ]
    assert not (launcher.work / "_launcher_function").exists()


def test_a_killed_program_leaves_a_run_whose_results_another_one_gets(
    launcher: Launcher, helpers: Any, clean: labs.Lab
) -> None:
    program = """
import sys, launcher, helpers_of_ranks
client = launcher.Client(sys.argv[1])
run = launcher.processes(client, nodes=2, nproc_per_node=1).start(helpers_of_ranks.waits_for, sys.argv[2])
assert run.wait_until_started() is None
print(run.name, flush=True)
run.wait()
"""
    go = "/root/go"
    argv = [sys.executable, "-c", program, str(launcher.inventory), go]
    with subprocess.Popen(
        argv, cwd=launcher.work, env=launcher.environment(), stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout
        name = killed.stdout.readline().strip()
        os.kill(killed.pid, signal.SIGKILL)
    assert name
    for host in ("lab1", "lab2"):
        clean.hosts[host].run("touch", go)
    with library.Client() as client:
        assert library.results(client.attach(name)) == ["lab1", "lab2"]
        assert client.attach(name).rm() == []
    for host in ("lab1", "lab2"):
        clean.hosts[host].run("rm", go)


def test_an_executor_calls_it_for_each_of_many(
    launcher: Launcher, helpers: Any, clean: labs.Lab
) -> None:
    with (
        library.Client(launcher.inventory) as client,
        library.Executor(client, nodes=1, nproc_per_node=1, max_workers=2) as pool,
    ):
        failing = pool.submit(helpers.fails_on, "0")
        assert list(pool.map(helpers.tripled, ["a", "b", "c"])) == ["aaa", "bbb", "ccc"]
        assert "ValueError: no data on lab1" in str(failing.exception())


@pytest.mark.parametrize("page", ["guides/functions", "reference/python"])
def test_the_pages_are_programs_that_work(tmp_path: Path, page: str) -> None:
    """On embedded hosts, as everybody has them."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    program = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    # The processes do nothing: torchrun would only take its time.
    program = re.sub(r"num_nodes=2|\bnodes=2(?=, envs)", r"\g<0>, framework='torch'", program)
    (tmp_path / "guide.py").write_text(program)
    (tmp_path / "train.py").write_text("import sys\nprint('trains', *sys.argv[1:])\n")
    (tmp_path / "inventory").mkdir()
    shutil.copy(ROOT / "inventory" / "local.yaml", tmp_path / "inventory")
    env = {**os.environ, "LAUNCHER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "guide.py"]
    ran = subprocess.run(
        argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search("^score-" if "functions" in page else "trains --epochs 3", ran.stdout)


def test_names_of_added_files_stay_below_the_workdir(launcher: Launcher, helpers: Any) -> None:
    job = library.make_job(run=("true",))
    with library.Client(launcher.inventory) as client:
        for name in ("/etc/passwd", "../x", "a//b", ""):
            with pytest.raises(library.LauncherError, match="no path below the workdir"):
                client.run(job, add_files={name: b""})
    assert not Path(launcher.home / "runs").exists()
