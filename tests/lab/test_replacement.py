"""A host is lost: a spare takes its place with the newest outputs, or the run goes on with fewer."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher, Ran, wait_for

THREE = tuple(labs.HostSpec(f"lab{number}") for number in (1, 2, 3))
FOUR = (*THREE, labs.HostSpec("lab4"))

#: Every rank writes a checkpoint, and so does the first one alone; then it trains for ever, in the
#: first attempt. Later ones say what they have found, and end.
SCRIPT = """
import os, pathlib, time
rank, size, attempt = (os.environ[n] for n in ("RANK", "WORLD_SIZE", "LAUNCHER_ATTEMPT"))
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
own, common = out / f"shard-{rank}.txt", out / "model.txt"
code = pathlib.Path("version.txt").read_text()
found = " ".join(p.read_text() if p.exists() else "nothing" for p in (own, common))
print(f"rank {rank} of {size} on {os.environ['LAUNCHER_HOST']}, code {code}, found {found}", flush=True)
def write(path, text):
    half = pathlib.Path(f"half-{rank}")  # not one that is pulled before it is written
    half.write_text(text)
    half.replace(path)
write(own, f"shard-{rank}-of-{attempt}")
if rank == "0":
    write(common, f"model-of-{attempt}")
while attempt == "0" or pathlib.Path("/tmp/hold").exists():
    time.sleep(0.05)
"""


class Running:
    """A run that is under way, with all of its outputs here."""

    def __init__(self, launcher: Launcher, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.launcher, self.process, self.folder = launcher, process, folder

    def end(self) -> Ran:
        """Waits for the end."""
        out, err = self.process.communicate(timeout=60)
        return Ran(self.process.returncode, out.decode(), err.decode(), self.launcher.home)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was recorded so far."""
        return journals.lines((self.folder / "events.jsonl").read_bytes())


@contextlib.contextmanager
def _running(
    own: labs.Lab, launcher: Launcher, *words: str, script: str = SCRIPT
) -> Iterator[Running]:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script(script)
    (launcher.work / "version.txt").write_text("1")
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", *words)
    words = ("--lost-after", "2s", "--pull-every", "0.2s", "--max-restarts", "1", *words)
    process = launcher.start(*words, name)
    try:
        wanted = ["lab1/outputs/model.txt", "lab1/outputs/shard-0.txt", "lab2/outputs/shard-1.txt"]
        labs.wait_until(
            lambda: (
                process.poll() is not None
                or all(any(launcher.home.glob(f"runs/*/.hosts/{path}")) for path in wanted)
            ),
            "the outputs of both hosts",
        )
        assert process.poll() is None, process.communicate()
        (folder,) = (launcher.home / "runs").iterdir()
        (launcher.work / "version.txt").write_text("2")  # somebody edits meanwhile
        yield Running(launcher, process, folder)
    finally:
        process.kill()
        process.communicate()


def _lose(host: labs.LabHost) -> None:
    """Nobody can come there, and is told so at once (a dead cable is noticed after 20 s); what runs
    there goes on, and still reaches the other hosts."""
    host.stop_sshd()
    host.kill_sshd_sessions()


def _ranks(host: labs.LabHost) -> list[labs.Process]:
    return [process for process in host.processes() if "LAUNCHER_RUN_ID" in process.environ]


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_spare_takes_the_place_of_a_lost_host(own: labs.Lab, launcher: Launcher) -> None:
    """With the code of the run, the checkpoints, and data whose source was on the lost one; that is
    cleaned when it comes back. What it imports stays there for the next run, if that was asked for."""
    own.hosts["lab2"].write("/root/set/a", b"data of lab2")
    keep = ("--preload", "json", "--keep-warm", "5m")
    with _running(own, launcher, "--data", "mine=lab2:/root/set", *keep) as run:
        own.hosts["lab2"].drop_packets("lab1")  # nor is it to hear of its loss from there
        _lose(own.hosts["lab2"])
        ran = run.end()
    assert ran.code == 0, ran.err
    said = ran.log("rank-1.out", attempt=1).decode()
    assert said == "rank 1 of 2 on lab3, code 1, found shard-1-of-0 model-of-0\n"
    first = ran.log("rank-0.out", attempt=1).decode()
    assert first == "rank 0 of 2 on lab1, code 1, found shard-0-of-0 model-of-0\n"
    assert "lab3 replaces lab2 (host-unreachable)" in ran.err
    kept = "/root/.launcher/host/data/*/files/a"
    assert own.hosts["lab3"].run("sh", "-c", f"cat {kept}").stdout == b"data of lab2"
    receipt = ran.receipt
    assert (receipt["status"], receipt["world_size"]) == ("succeeded", 2)
    hosts = {host["host"]: host for host in receipt["hosts"]}
    assert [host["ranks"] for host in hosts.values()] == [[0], [1], []]
    assert [host["left"] for host in hosts.values()] == [0, 0, None]
    assert (hosts["lab2"]["departed"], hosts["lab2"]["problem"]) == ("lab3", "host-unreachable")
    assert "lost     lab2 (host-unreachable): lab3 replaced it" in ran.err
    stays = [one for one in own.hosts["lab3"].processes() if one.argv[4:5] == ["kept"]]
    assert len(stays) == 1 and "stays on lab[1,3] until" in ran.err
    outputs = {path.name: path.read_text() for path in (run.folder / "outputs").iterdir()}
    assert outputs == {
        "model.txt": "model-of-1",
        "shard-0.txt": "shard-0-of-1",
        "shard-1.txt": "shard-1-of-1",
    }, "what a host was given and left alone is no second version"
    back = own.hosts["lab2"]
    assert _ranks(back), "nobody has told it"
    back.start_sshd()
    assert launcher.call("stop", run.folder.name).returncode == 0
    assert not _ranks(back)
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0, 0]


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_lost_host_is_told_by_the_others(own: labs.Lab, launcher: Launcher) -> None:
    """Only the launcher cannot reach it: its GPUs are free at once, not when somebody comes again."""
    cut_off = own.hosts["lab2"]
    with _running(own, launcher, "--max-restarts", "0") as run:
        assert _ranks(cut_off)
        _lose(cut_off)
        ran = run.end()
    assert (ran.code, ran.receipt["status"]) == (125, "lost"), ran.err
    labs.wait_until(lambda: not _ranks(cut_off), "the end of the other part")
    cut_off.start_sshd()
    assert launcher.call("stop", run.folder.name).returncode == 0
    (folder,) = (launcher.home / "runs").iterdir()
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_the_first_host_is_replaced_after_its_supervisor_died(
    own: labs.Lab, launcher: Launcher
) -> None:
    """Another host is node 0 then, prepared as the first one was."""
    with _running(own, launcher, "--setup", "echo prepared >prepared.txt") as run:
        lost = own.hosts["lab1"]
        (rank,) = [p.pid for p in _ranks(lost) if "train.py" in p.argv]
        stat = lost.read(f"/proc/{rank}/stat").decode()
        lost.run("kill", "-9", stat.rpartition(")")[2].split()[1])
        ran = run.end()
    assert ran.code == 0, ran.err
    said = ran.log("rank-0.out", attempt=1).decode()
    assert said == "rank 0 of 2 on lab3, code 1, found shard-0-of-0 model-of-0\n"
    there = own.hosts["lab3"].read(f"/root/.launcher/host/runs/{run.folder.name}/code/prepared.txt")
    assert there == b"prepared\n"
    hosts = {host["host"]: host for host in ran.receipt["hosts"]}
    assert (hosts["lab1"]["problem"], hosts["lab1"]["left"]) == ("supervisor-died", 0)
    assert all(host["logs_complete"] for host in hosts.values())
    plan = json.loads((run.folder / "plan.json").read_text())
    assert [node["host"] for node in plan["nodes"]] == ["lab3", "lab2"]


@pytest.mark.parametrize("own", [THREE[:2]], indirect=True)
def test_without_a_spare_fewer_hosts_go_on(own: labs.Lab, launcher: Launcher) -> None:
    """Ranks close up, and find what a rank of another host had written."""
    lost, left = "lab1", "lab2"
    with _running(own, launcher, "--min-nodes", "1") as run:
        _lose(own.hosts[lost])
        ran = run.end()
    assert ran.code == 0, ran.err
    said = ran.log("rank-0.out", attempt=1).decode()
    assert said == f"rank 0 of 1 on {left}, code 1, found shard-0-of-0 model-of-0\n"
    assert f"no spare for {lost} (host-unreachable): continuing with 1 host, 1 rank" in ran.err
    assert "the run continued without it" in ran.err
    receipt = ran.receipt
    assert (receipt["status"], receipt["world_size"]) == ("succeeded", 1)
    assert {host["host"]: host["left"] for host in receipt["hosts"]} == {left: 0, lost: None}
    assert (run.folder / "outputs" / "shard-1.txt").read_text() == "shard-1-of-0"
    assert (run.folder / "outputs" / "shard-0.txt").read_text() == "shard-0-of-1"


@pytest.mark.parametrize("own", [THREE[:2]], indirect=True)
def test_with_neither_it_ends_as_lost(own: labs.Lab, launcher: Launcher) -> None:
    with _running(own, launcher) as run:
        _lose(own.hosts["lab2"])
        ran = run.end()
    assert (ran.code, ran.receipt["status"]) == (125, "lost"), ran.err
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, None]
    assert not [event for event in run.events if event["event"] == "RunRestarted"]


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_spare_never_runs_other_code(own: labs.Lab, launcher: Launcher) -> None:
    """The version of the run is nowhere any more, and the folder here holds a newer one."""
    with _running(own, launcher) as run:
        own.hosts["lab1"].run("rm", "-rf", "/root/.launcher/host/code")
        _lose(own.hosts["lab2"])
        ran = run.end()
    assert (ran.code, ran.receipt["status"]) == (125, "lost"), ran.err
    assert f"lab3: the code of {run.folder.name} is not available" in ran.err
    assert "has changed since, and no host of the run keeps that version" in ran.err


@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_a_spare_that_cannot_is_passed_over(own: labs.Lab, launcher: Launcher) -> None:
    """Its setup fails there: the next one is taken, and nothing is left on the first."""
    setup = 'echo here; test "$LAUNCHER_HOST" != lab3'
    with _running(own, launcher, "--setup", setup) as run:
        run.process.send_signal(signal.SIGKILL)  # the one that takes it up does the rest
        run.process.communicate()
        _lose(own.hosts["lab2"])
        attached = launcher.call("attach", "-")
    assert attached.returncode == 0, attached.stderr
    assert "lab3: setup exited with 1" in attached.stderr
    assert "lab4 replaces lab2" in attached.stderr
    assert "lab4 [1] │ rank 1 of 2 on lab4, code 1, found shard-1-of-0" in attached.stdout
    receipt = json.loads((run.folder / "receipt.json").read_text())
    assert receipt["status"] == "succeeded"
    ends = {host["host"]: (host["left"], host["problem"]) for host in receipt["hosts"]}
    assert ends == {
        "lab1": (0, ""),
        "lab4": (0, ""),
        "lab2": (None, "host-unreachable"),
        "lab3": (0, "setup-failed"),
    }
    assert not _ranks(own.hosts["lab3"])


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_spare_without_the_framework_is_no_spare(own: labs.Lab, launcher: Launcher) -> None:
    """A torch that hosts find by the job's variables: the spare has none there."""
    for name in ("lab1", "lab2"):
        own.hosts[name].write("/srv/site/torch/__init__.py", b"")
    text = "import torch\n" + SCRIPT
    with _running(own, launcher, "--env", "PYTHONPATH=/srv/site", script=text) as run:
        _lose(own.hosts["lab2"])
        ran = run.end()
    assert "lab3: framework torch needs torch, which /usr/bin/python3" in ran.err
    assert (ran.code, ran.receipt["status"]) == (125, "lost"), ran.err
    assert not _ranks(own.hosts["lab3"])


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_stopped_while_a_spare_gets_ready(own: labs.Lab, launcher: Launcher) -> None:
    """At once, and nothing is left on the spare either."""
    setup = 'test "$LAUNCHER_HOST" != lab3 || { echo begun; sleep 600; }'
    with _running(own, launcher, "--setup", setup) as run:
        _lose(own.hosts["lab2"])
        log = run.folder / "logs" / "attempt-1" / "setup-1.out"
        wait_for(log, b"begun", run.process)
        run.process.send_signal(signal.SIGINT)
        ran = run.end()
    hosts = {host["host"]: host["left"] for host in ran.receipt["hosts"]}
    assert hosts == {"lab1": 0, "lab2": None, "lab3": 0}, ran.err
    assert not _ranks(own.hosts["lab3"])
    assert (ran.receipt["status"], ran.receipt["reason"]) == ("stopped", "by-user")
    assert ran.code == 130, "it would have gone on without the lost host"


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_who_attaches_later_knows_the_hosts_of_all_attempts(
    own: labs.Lab, launcher: Launcher
) -> None:
    """And which log came from which."""
    for host in own.hosts.values():
        host.write("/tmp/hold", b"")
    with _running(own, launcher) as run:
        _lose(own.hosts["lab2"])
        log = run.folder / "logs" / "attempt-1" / "rank-1.out"
        wait_for(log, b"on lab3", run.process)
        run.process.kill()
        run.process.communicate()
        for host in own.hosts.values():
            host.run("rm", "/tmp/hold")
        attached = launcher.call("attach", "-")
    assert attached.returncode == 0, attached.stderr
    receipt = json.loads((run.folder / "receipt.json").read_text())
    hosts = {host["host"]: host for host in receipt["hosts"]}
    assert list(hosts) == ["lab1", "lab3", "lab2"]
    assert all(hosts[name]["logs_complete"] for name in ("lab1", "lab3"))
    lost = hosts["lab2"]
    sizes = [(run.folder / f"logs/attempt-{n}/rank-1.out").stat().st_size for n in (0, 1)]
    assert (lost["left"], [lost["logs_here"], hosts["lab3"]["logs_here"]]) == (None, sizes)
    assert (lost["departed"], lost["problem"]) == ("lab3", "host-unreachable")
    outputs = {path.name: path.read_text() for path in (run.folder / "outputs").iterdir()}
    assert outputs["shard-1.txt"] == "shard-1-of-1"
    shown = launcher.call("logs", "-", "--ranks", "1").stdout.splitlines()
    assert [line.partition(" │ ")[0].strip() for line in shown] == ["lab2 [1]", "lab3 [1]"]


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_failure_that_is_noticed_before_the_loss_is_the_same_restart(
    own: labs.Lab, launcher: Launcher
) -> None:
    """Ranks fail when a peer falls silent, long before its host counts as lost."""
    with _running(own, launcher) as run:
        run.process.send_signal(signal.SIGSTOP)  # it is to notice both at the same time
        _lose(own.hosts["lab2"])
        (rank,) = [p.pid for p in _ranks(own.hosts["lab1"]) if "train.py" in p.argv]
        own.hosts["lab1"].run("kill", "-9", str(rank))
        labs.wait_until(lambda: not _ranks(own.hosts["lab1"]), "the end of the rank")
        run.process.send_signal(signal.SIGCONT)
        ran = run.end()
    assert ran.code == 0, ran.err
    assert "restarting after signal-SIGKILL: attempt 1" in ran.err
    assert "on lab3, code 1, found shard-1-of-0" in ran.log("rank-1.out", attempt=1).decode()


#: On the spare alone, as long as it is told to.
SLOW_SETUP = (
    'test "$LAUNCHER_HOST" != lab3 || { echo begun; while test -e /tmp/slow; do sleep 0.1; done; }'
)


@contextlib.contextmanager
def _launcher_died_while_a_spare_got_ready(own: labs.Lab, launcher: Launcher) -> Iterator[Running]:
    own.hosts["lab3"].write("/tmp/slow", b"")
    with _running(own, launcher, "--setup", SLOW_SETUP) as run:
        _lose(own.hosts["lab2"])
        wait_for(run.folder / "logs" / "attempt-1" / "setup-1.out", b"begun", run.process)
        run.process.kill()
        run.process.communicate()
        assert _ranks(own.hosts["lab3"])
        yield run


@pytest.mark.parametrize("own", [THREE], indirect=True)
@pytest.mark.parametrize("back", [False, True])
def test_stop_ends_a_spare_that_another_launcher_was_getting_ready(
    own: labs.Lab, launcher: Launcher, back: bool
) -> None:
    """It stands in the receipt; and it is the stop that ended the run, not the loss."""
    with _launcher_died_while_a_spare_got_ready(own, launcher) as run:
        if back:
            own.hosts["lab2"].start_sshd()
        stopped = launcher.call("stop", "-", "--grace", "1s")
    receipt = json.loads((run.folder / "receipt.json").read_text())
    assert not _ranks(own.hosts["lab3"])
    hosts = {host["host"]: host["left"] for host in receipt["hosts"]}
    assert hosts == {"lab1": 0, "lab2": 0 if back else None, "lab3": 0}, stopped.stderr
    assert (receipt["status"], receipt["reason"]) == ("stopped", "by-user")


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_attach_goes_on_with_a_spare_that_another_launcher_was_getting_ready(
    own: labs.Lab, launcher: Launcher
) -> None:
    """From the beginning of its preparation, and within the restarts that the run has."""
    with _launcher_died_while_a_spare_got_ready(own, launcher) as run:
        own.hosts["lab3"].run("rm", "/tmp/slow")
        attached = launcher.call("attach", "-")
    assert attached.returncode == 0, attached.stderr
    receipt = json.loads((run.folder / "receipt.json").read_text())
    assert receipt["status"] == "succeeded"
    hosts = {host["host"]: (host["left"], host["logs_complete"]) for host in receipt["hosts"]}
    assert (hosts["lab1"], hosts["lab3"]) == ((0, True), (0, True)), receipt
    assert "on lab3, code 1, found shard-1-of-0" in attached.stdout
