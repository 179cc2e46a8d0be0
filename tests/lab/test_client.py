"""The library as programs use it: ``Client`` and ``RunHandle``, blocking and on asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import launcher as library
from launcher import api
from launcher.records import events as ev
from launcher.spec.errors import InputError, LauncherError, RunKept
from support import lab as labs
from support.command import Launcher, kill_follower, of_runs

FOREVER = "touch $LAUNCHER_OUTPUT_DIR/made; echo ready; exec sleep 600"


@pytest.fixture
def home(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's records are those of the command; its work folder is empty."""
    monkeypatch.setenv("LAUNCHER_HOME", str(launcher.home))
    monkeypatch.chdir(launcher.work)
    return launcher.home


def a_job(command: str, **more: Any) -> library.Job:
    return library.make_job(run=(command,), shell=True, framework="env", grace=2.0, **more)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test after which this process has another thread, child or signal handler."""
    numbers = set(range(1, 32)) - {signal.SIGALRM}  # pytest's own, for its timeout
    handlers = [signal.getsignal(number) for number in numbers]
    before = set(threading.enumerate())
    yield
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert not {t for t in threading.enumerate() if t.name == "launcher"} - before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if b"launcher" in _argv(pid)]


def _argv(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_run_from_its_start_to_its_removal(
    launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None
) -> None:
    events: list[ev.Event] = []
    logs: dict[str, bytes] = {}

    def on_log(host: str, name: str, data: bytes) -> None:
        logs[name] = logs.get(name, b"") + data

    command = (  # rank 1 fails once the output of rank 0 is here
        "echo of rank $RANK; echo made > $LAUNCHER_OUTPUT_DIR/$RANK.txt; "
        "until [ $RANK = 0 ] || [ -e /tmp/rank-0-said ]; do sleep 0.05; done; exit $RANK"
    )
    clean.hosts["lab2"].run("rm", "-f", "/tmp/rank-0-said")
    with library.Client(launcher.inventory) as client:
        run = client.run(a_job(command, num_nodes=2), on_event=events.append, on_log=on_log)
        labs.wait_until(lambda: "attempt-0/node-0.out" in logs, "the output of rank 0")
        clean.hosts["lab2"].write("/tmp/rank-0-said", b"")
        receipt = run.wait()
        assert (receipt.status, receipt.reason, receipt.exit_code) == ("failed", "exit-1", 1)
        assert run.receipt
        assert (run.receipt.status, run.receipt.run) == (receipt.status, run.name)
        assert run.name == receipt.run
        assert run.folder == home / "runs" / run.name
        assert run.job.num_nodes == 2
        assert [node.host.name for node in run.layout.nodes] == ["lab1", "lab2"]
        assert logs["attempt-0/node-1.out"] == b"of rank 1\n"
        assert run.events() == [e for e in events if not isinstance(e, ev.Progressed)]
        assert run.state().status == "failed"
        assert not run.followed
        assert run.wait() == receipt, "again, at once"
        assert run.stop() == run.receipt, "a run that has ended stays as it ended"
        assert [(one.run, one.status) for one in client.list()] == [(run.name, "failed")]
        assert client.show(run.name[:-1]).reason == "exit-1"
        shown = {(p.host, p.name, p.data) for p in run.logs(tail=1) if p.name.endswith(".out")}
        assert ("lab1", "attempt-0/node-0.out", b"of rank 0\n") in shown
        again = client.rerun(run.name)
        assert again.wait().reason == "exit-1"
        assert run.rm() == []
        assert not run.folder.exists()
        assert not clean.hosts["lab2"].exists(f"/root/.launcher/host/runs/{run.name}")
        assert client.rm("-") == []
        assert client.list() == []


def test_another_process_and_another_client_watch_and_stop_it(
    launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None
) -> None:
    """Nobody gets a signal: a program that follows a run has handlers of its own."""
    with library.Client(launcher.inventory) as client, library.Client() as other:
        run = client.run(a_job(FOREVER, num_nodes=2))
        assert run.wait_until_started() is None
        said = [run.folder / f"logs/attempt-0/node-{rank}.out" for rank in (0, 1)]
        labs.wait_until(
            lambda: all(log.exists() and log.read_bytes() == b"ready\n" for log in said), "both"
        )
        there = other.attach(run.name[:-1])
        assert (there.name, there.followed, there.state().status) == (run.name, True, "running")
        with pytest.raises(TimeoutError):
            there.wait(timeout=0.1)
        listed = json.loads(launcher.call("ls", "--json").stdout)
        assert [(one["run"], one["followed"]) for one in listed] == [(run.name, True)]
        results = there.exec(["sh", "-c", "echo $WORD$((40 + 2)); echo no >&2; exit $RANK_OF"])
        assert [(one.host, one.node, one.stdout, one.stderr) for one in results] == [
            ("lab1", 0, b"42\n", b"no\n"),
            ("lab2", 1, b"42\n", b"no\n"),
        ]
        pulled = there.pull(launcher.work / "there")
        assert (pulled.files, dict(pulled.failed)) == (1, {})
        assert (launcher.work / "there" / "outputs" / "made").exists()
        assert launcher.call("pull", "-").returncode == 0
        with pytest.raises(InputError, match="still running"):
            there.rm()
        stopped = launcher.call("stop", run.name)
        assert stopped.returncode == 0, stopped.stderr
        assert run.wait().reason == there.wait().reason == "by-user"
    assert not of_runs(clean.hosts["lab1"])


def test_logs_are_followed_to_the_end(launcher: Launcher, home: Path, clean: labs.Lab) -> None:
    """In a thread, from two consumers at once, while a second handle asks for the end."""
    with library.Client(launcher.inventory) as client:
        run = client.run(a_job("while sleep 0.01; do echo $((n += 1)); done"))
        assert run.wait_until_started() is None
        got: list[bytes] = []
        reading = threading.Thread(target=lambda: got.extend(p.data for p in run.logs(follow=True)))
        reading.start()
        seen = b""  # a piece may end anywhere, also within a line
        for piece in client.attach(run.name).logs(follow=True):
            seen += piece.data
            if b"\n20\n" in seen:
                client.attach("-").request_stop(grace=0)
        reading.join()
        assert run.receipt
        log = run.folder / "logs" / "attempt-0" / "node-0.out"
        assert b"".join(got) == log.read_bytes()


def test_closing_a_client_stops_what_it_started_and_lets_go_of_the_rest(
    launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None
) -> None:
    with library.Client(launcher.inventory) as client:
        mine = client.run(a_job(FOREVER))
        assert mine.wait_until_started() is None
    assert mine.receipt
    assert mine.receipt.reason == "by-user"
    assert not of_runs(clean.hosts["lab1"])
    with pytest.raises(LauncherError, match="closed"):
        client.attach(mine.name).stop()

    with library.Client(launcher.inventory) as client:
        left = client.run(a_job(FOREVER), detach=True)
        assert left.wait_until_started() is None
        assert left.followed
    assert left.followed, "by a process of its own"
    kill_follower(left.folder)
    labs.wait_until(lambda: not left.followed, "the follower's end", 10)
    with library.Client() as client:
        taken = client.attach(left.name)
        with pytest.raises(TimeoutError):
            taken.wait(timeout=0.5)
        labs.wait_until(lambda: taken.followed, "this client to follow it", 20)
    assert not taken.followed
    assert taken.receipt is None
    assert of_runs(clean.hosts["lab1"]), "it continues there"
    with library.Client() as client:
        receipt = client.attach("-").stop(grace=1)
        assert (receipt.reason, receipt.left) == ("by-user", 0)


def test_on_asyncio(launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None) -> None:
    async def program() -> None:
        async with library.AsyncClient(launcher.inventory) as client:
            runs = [await client.run(a_job(FOREVER, hosts=host)) for host in ("lab1", "lab2")]
            for run in runs:
                assert await run.wait_until_started() is None
            there = await client.attach(runs[1].name)
            async for piece in there.logs(follow=True):
                if piece.data == b"ready\n":
                    there.request_stop()
            first, second = runs[0].stop(), runs[1].wait()
            receipts = await asyncio.gather(first, second)
            assert [one.reason for one in receipts] == ["by-user", "by-user"]
            (result,) = await there.exec(["hostname"])
            assert (result.host, result.stdout) == ("lab2", b"lab2\n")
            assert (await there.pull()).files == 1
            told = await client.host_runs()
            assert list(told) == ["lab1", "lab2", "lab3"]
            assert await there.rm() == []

    asyncio.run(program())


def test_a_notebook_has_a_loop_already(
    launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None
) -> None:
    """A blocking client works inside a running loop, and so does run_job."""

    async def cell() -> str:
        with library.Client(launcher.inventory) as client:
            first = client.run(a_job("true")).wait()
        second = library.run_job(a_job("true"), library.load_inventory(launcher.inventory))
        return first.status + second.status

    assert asyncio.run(cell()) == "succeeded" * 2


def test_a_callback_may_ask_but_not_wait(launcher: Launcher, home: Path, clean: labs.Lab) -> None:
    refused: list[str] = []
    with library.Client(launcher.inventory) as client:

        def on_log(host: str, name: str, data: bytes) -> None:
            if not refused:
                try:
                    client.attach("-").stop()
                except LauncherError as error:
                    refused.append(f"{error}: {error.hint}")
                run.request_stop()

        run = client.run(a_job(FOREVER), on_log=on_log)
        assert run.wait().reason == "by-user"
    assert "request_stop()" in refused[0]


def test_a_host_that_is_away_keeps_a_run_from_being_removed(
    own: labs.Lab, launcher: Launcher, home: Path
) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    with library.Client(launcher.inventory) as client:
        run = client.run(a_job("true", num_nodes=2))
        assert run.wait().status == "succeeded"
        own.hosts["lab2"].stop_sshd()
        with pytest.raises(RunKept) as kept:
            run.rm()
        assert [error.host for error in kept.value.errors] == ["lab2"]
        assert "--force" in kept.value.hint
        assert run.folder.exists()
        assert [error.host for error in run.rm(force=True)] == ["lab2"]
        assert not run.folder.exists()


PROGRAM = """
import sys, launcher
job = launcher.make_job(run=("echo ready; exec sleep 600",), shell=True, framework="env", grace=1.0)
client = launcher.Client("inventory.yaml")
run = client.run(job)
assert run.wait_until_started() is None
if "close" in sys.argv:
    with client:
        print(run.name, flush=True)
        run.wait()
print(run.name)
"""


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """The embedded hosts, up: no root needed."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "inventory.yaml").write_text("sandbox: true\nhosts: ['local[1-2]']\n")
    command = Launcher(work / "inventory.yaml", work, tmp_path / "home")
    monkeypatch.setenv("LAUNCHER_HOME", str(command.home))
    monkeypatch.chdir(work)
    assert command.call("sandbox", "up", "2").returncode == 0
    yield command
    assert command.call("sandbox", "down").returncode == 0


def test_ctrl_c_in_a_program_stops_its_run(sandbox: Launcher) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "close"],
        cwd=sandbox.work,
        env=sandbox.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout
    name = program.stdout.readline().strip()
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=180)
    # What was asked for in that very moment may complain behind it.
    assert "KeyboardInterrupt" in err.splitlines(), err
    receipt = library.Client().attach(name).receipt
    assert receipt
    assert (receipt.reason, receipt.left) == ("by-user", 0)


def test_a_program_that_ends_without_closing_leaves_its_run_to_the_next(sandbox: Launcher) -> None:
    """It prints nothing; the run continues, and a process in the background follows it."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=sandbox.work,
        env=sandbox.environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    with library.Client() as client:
        run = client.attach(ended.stdout.strip())
        assert run.followed_by_another
        receipt = run.stop()
        assert (receipt.reason, receipt.left) == ("by-user", 0)


def test_a_forked_process_leaves_the_run_to_its_parent(sandbox: Launcher) -> None:
    """It reads its records, is told what to do for more, and ends as one does."""
    program = """
import launcher, os
words = ["sh", "-c", f"until test -e {os.getcwd()}/go; do sleep 0.1; done"]
with launcher.Client("inventory.yaml") as client:
    run = client.run(words, framework="env")
    assert run.wait_until_started() is None
    child = os.fork()
    if not child:
        assert (run.status, client.names()) == ("running", [run.name])
        for ask in (run.wait, run.stop, run.request_stop, client.queue):
            try:
                ask()
            except launcher.LauncherError as error:
                assert "forked" in str(error) and "launcher.Client" in error.hint
            else:
                raise AssertionError(ask)
        with launcher.Client() as other:
            assert other.attach(run.name).followed_by_another
    else:
        assert os.waitpid(child, 0)[1] == 0
        open("go", "w").close()
        assert run.wait().status == "succeeded"
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=sandbox.work, env=sandbox.environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_program_that_logs_gets_no_lines_of_ssh(sandbox: Launcher) -> None:
    """Hydra logs at INFO, as do many; who asks for asyncssh's own lines gets them."""
    program = """
import logging, sys, launcher
logging.basicConfig(level="INFO")
if sys.argv[1:]:
    logging.getLogger("asyncssh").setLevel("INFO")
with launcher.Client("inventory.yaml") as client:
    assert client.run("true", framework="env").wait().status == "succeeded"
"""
    for words, is_told in ((), False), (("ask",), True):
        ended = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=sandbox.work, env=sandbox.environment(), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (ended.returncode, "Opening SSH connection" in ended.stderr) == (0, is_told)
        assert is_told or ended.stderr == ""


#: Starts a run that lasts until a file is there, and ends without closing anything.
ENDS = """
import launcher, os, sys
words = ["sh", "-c", f"until test -e {os.getcwd()}/go; do sleep 0.1; done"]
run = launcher.Client("inventory.yaml").run(words, framework="env", setup=sys.argv[1])
print(run.name)
"""


def test_a_program_that_ends_at_once_waits_until_its_run_has_begun(sandbox: Launcher) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, "true"],
        cwd=sandbox.work, env=sandbox.environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    name = ended.stdout.strip()
    waits = (
        f"launcher: {name} has not begun yet; this program waits until it has: Ctrl-C stops it\n"
    )
    assert (ended.returncode, ended.stderr) == (0, waits)
    (sandbox.work / "go").touch()
    with library.Client() as client:
        assert client.attach(name).wait(timeout=60).status == "succeeded"


def test_ctrl_c_ends_that_waiting_and_the_run(sandbox: Launcher) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", ENDS, "sleep 600"],
        cwd=sandbox.work, env=sandbox.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stderr
    assert "has not begun yet" in program.stderr.readline()
    program.send_signal(signal.SIGINT)
    name, err = program.communicate(timeout=120)
    assert (program.returncode, err) == (0, "")
    receipt = library.Client().attach(name.strip()).receipt
    assert receipt
    assert (receipt.reason, receipt.left) == ("by-user", 0)


def test_a_run_of_a_program_that_died_at_once_is_over_for_everybody(sandbox: Launcher) -> None:
    """Nothing was started, and whoever looks is told so, and what to do."""
    program = """
import os, signal, launcher
run = launcher.Client("inventory.yaml").run("true", framework="env", name="killed")
print(run.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=sandbox.work, env=sandbox.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    name = killed.stdout.strip()
    with library.Client() as client:
        (listed,) = client.list(library.Wanted(failed=True))
        assert (listed.run, listed.reason, listed.command) == (name, "launcher-died", "true")
        assert (listed.followed, listed.began) == (False, False)
        run = client.attach(name)
        assert (run.status, run.job.name) == ("failed", "killed")
    assert f"never started\n  {name}  launcher-died" in sandbox.call("ls").stdout
    shown = sandbox.call("show", name)
    assert shown.returncode == 0, shown.stderr
    assert "failed (launcher-died)" in shown.stdout
    assert "nothing was started" in shown.stdout and "start it again" in shown.stdout
    for command in ("attach", "stop"):
        said = sandbox.call(command, name).stderr
        assert "launcher-died" in said and "start it again" in said, said
    assert library.Client().attach(name).receipt is not None


def test_the_examples_of_the_docstrings_are_true(
    sandbox: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the package and of api, in this order, on embedded hosts."""
    (sandbox.work / "inventory").mkdir()
    (sandbox.work / "inventory" / "lab.yaml").write_text(sandbox.inventory.read_text())
    sandbox.script("print('trained')\n")
    env = {"framework": "env", "shell": True}
    for module in (library, api):
        text = re.search(r"::\n\n((?:    .*\n|\n)+)", module.__doc__ or "")
        assert text
        lines = [line[4:] for line in text.group(1).splitlines()]
        program = "\n".join(lines).replace('run=("train.py", "--epochs", "3")', "run=RUN, **ENV")
        program = program.replace('attach("calm-owl")', 'attach("-")')
        program = program.replace('"nvidia-smi"', '"true"')
        names = {"launcher": library, "RUN": ("echo trained",), "ENV": env}
        exec(program, names)
    assert "local1 None trained\n" in capsys.readouterr().out


WAITS = """
import launcher, sys
with launcher.Client(sys.argv[1]) as client:
    run = client.run(launcher.make_job(run=(sys.argv[2],), shell=True, framework="env"))
    run.wait_until_started()
    print(run.name, flush=True)
    run.wait()
"""
COUNT = "n=0; until [ -e $LAUNCHER_RUN_DIR/end ]; do n=$((n+1)); echo line $n; sleep 0.02; done"


def test_a_killed_program_loses_nothing(
    launcher: Launcher, home: Path, clean: labs.Lab, nothing_left: None
) -> None:
    """The run goes on, and another program finds it, with every byte, and gets its receipt."""
    program = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(launcher.inventory), COUNT],
        cwd=launcher.work, env=launcher.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with program:
        assert program.stdout
        name = program.stdout.readline().strip()
        program.kill()
    (host,) = (one for one in clean.hosts.values() if of_runs(one))
    place = f"/root/.launcher/host/runs/{name}"
    log = f"{place}/logs/attempt-0/node-0.out"
    before = len(host.read(log))
    labs.wait_until(lambda: len(host.read(log)) > before, "more output", 10)
    with library.Client() as client:
        run = client.attach(name)
        assert (run.status, run.followed) == ("running", False)
        host.write(f"{place}/end", b"")
        receipt = run.wait(timeout=60)
    assert (receipt.status, receipt.left) == ("succeeded", 0)
    assert (run.folder / "logs/attempt-0/node-0.out").read_bytes() == host.read(log)
    lines = host.read(log).split(b"\n")[:-1]
    assert lines == [b"line %d" % number for number in range(1, len(lines) + 1)]
