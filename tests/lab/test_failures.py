"""A rank fails: all others are stopped at once, the first failure is named, outputs come back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

# Rank and way to fail come as arguments; all other ranks would go on for ever, deaf to SIGTERM.
SCRIPT = """
import os, pathlib, signal, sys, time
rank = int(os.environ["RANK"])
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], f"before-{rank}.txt")
out.write_text("saved")
bad, how = int(sys.argv[1]), sys.argv[2]
if rank != bad:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready = pathlib.Path("ready"); ready.mkdir(exist_ok=True)
(ready / str(rank)).touch()
while rank == bad and len(list(ready.iterdir())) < 2:
    time.sleep(0.01)
if rank == bad:
    if how == "raise":
        raise RuntimeError("loss is NaN in step 7")
    if how == "exit":
        print("giving up", file=sys.stderr)
        sys.exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "memory":
        raise MemoryError("cannot allocate 64 GiB")
time.sleep(600)
"""

CASES = [
    ("torch", 2, "raise", (1, "exit-1", "loss is NaN in step 7")),
    ("torchrun", 2, "raise", (1, "exit-1", "loss is NaN in step 7")),
    ("torch", 1, "exit", (7, "exit-7", "giving up")),
    ("torchrun", 1, "exit", (7, "exit-7", "giving up")),
    ("torch", 0, "kill", (137, "signal-SIGKILL", "killed by SIGKILL")),
    ("torchrun", 0, "segv", (139, "signal-SIGSEGV", "killed by SIGSEGV")),
    ("torch", 3, "memory", (1, "out-of-memory", "cannot allocate 64 GiB")),
]


@pytest.mark.parametrize(("framework", "rank", "how", "expected"), CASES)
def test_first_failure_is_named_and_its_code_passes_through(
    launcher: Launcher,
    clean: labs.Lab,
    framework: str,
    rank: int,
    how: str,
    expected: tuple[int, str, str],
) -> None:
    """Also when the other ranks ignore SIGTERM: after the grace they are killed."""
    code, reason, words = expected
    name = launcher.script(SCRIPT)
    ran = launcher.run(
        "--nodes=2",
        "--nproc-per-node=2",
        f"--framework={framework}",
        "--grace=1s",
        name,
        str(rank),
        how,
    )
    receipt = ran.receipt
    assert ran.code == code, ran.err
    assert (receipt["status"], receipt["reason"]) == ("failed", reason)
    assert receipt["failure"]["rank"] == rank
    assert receipt["failure"]["host"] == ("lab1" if rank < 2 else "lab2")
    assert words in ran.err
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    outputs = {output["path"] for output in receipt["outputs"]}
    mates = (0, 1) if rank < 2 else (2, 3)  # the others may not have come as far
    assert {f"before-{r}.txt" for r in mates} <= outputs <= {f"before-{r}.txt" for r in range(4)}
    assert all(host["logs_complete"] for host in receipt["hosts"])
    assert _seconds_from_failure_to_end(ran.folder) < 9, "a grace of 1 s, and not of 10 s"


def _seconds_from_failure_to_end(folder: object) -> float:
    """From the first failing exit to the last host that says that nothing is left."""
    lines = [json.loads(x) for x in Path(str(folder), "events.jsonl").read_text().splitlines()]
    failed = min(e["time"] for e in lines if e["event"] == "ProcessExited" and e["code"])
    ended = max(e["time"] for e in lines if e["event"] == "HostEnded")
    return float(ended - failed)


def test_processes_that_leave_their_session_are_ended(launcher: Launcher, clean: labs.Lab) -> None:
    """A daemonised grandchild with an empty environment is still a descendant of the supervisor."""
    name = launcher.script(
        "import os, subprocess\n"
        # run, not Popen: a setsid that has not ended yet would count, too
        "subprocess.run(['setsid', '--fork', 'sleep', '601'], env={}, check=True)\n"
        "subprocess.run(['setsid', '--fork', 'nohup', 'sleep', '602'], check=True)\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", name)
    assert ran.code == 0, ran.err
    for host in ("lab1", "lab2"):
        sleeping = [p for p in clean.hosts[host].processes() if p.argv[:1] == ["sleep"]]
        assert sleeping == []
    assert [host["orphans"] for host in ran.receipt["hosts"]] == [2, 2]


def test_a_command_that_does_not_exist_is_127(launcher: Launcher, clean: labs.Lab) -> None:
    """As a shell says it, with the name in the last words."""
    ran = launcher.run("--framework", "torch", "no-such-program-here")
    assert ran.code == 127
    assert "no-such-program-here" in ran.err


@pytest.mark.parametrize("framework", ["torch", "torchrun"])
def test_a_file_that_may_not_be_executed_is_126(
    launcher: Launcher, clean: labs.Lab, framework: str
) -> None:
    """Whether the supervisor starts it or the shim below torchrun; the hint fits."""
    script = launcher.work / "train.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o644)
    ran = launcher.run("--framework", framework, "./train.sh")
    assert ran.code == 126, ran.err
    assert "cannot start ./train.sh: Permission denied" in ran.err
    assert "chmod +x" in ran.err


def test_a_port_that_is_taken_in_between_is_replaced(launcher: Launcher, clean: labs.Lab) -> None:
    """By a process of the master that takes MASTER_PORT before rank 0 can: the run succeeds."""
    name = launcher.script(
        "import os, pathlib, subprocess, sys, time\n"
        "port, attempt = os.environ['MASTER_PORT'], os.environ['LAUNCHER_ATTEMPT']\n"
        "if attempt == '0' and os.environ['RANK'] == '0':\n"
        '    code = \'import socket,time; s=socket.socket(); s.bind(("", %s)); s.listen();'
        " print(1, flush=True); time.sleep(600)' % port\n"
        "    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "    p.stdout.read(1)\n"
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "dist.barrier()  # rank 1 may not leave while rank 0 still connects to it\n"
        "print('met at', port, 'attempt', attempt)\n"
        "dist.destroy_process_group()\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", "--grace", "1s", name)
    assert ran.code == 0, ran.err
    assert b"attempt 1" in ran.log("rank-0.out", attempt=1)
    assert "was taken" in ran.err


# Waits until somebody listens on ports of the range for runs, and takes each once it is let go.
SNATCHES = """
import pathlib, socket, time
ports = []
while not ports:
    time.sleep(0.02)
    tables = [open(name).readlines()[1:] for name in ("/proc/net/tcp", "/proc/net/tcp6")]
    rows = [line.split() for table in tables for line in table]
    listening = [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"]
    ports = [port for port in listening if 20000 <= port <= 32000]
pathlib.Path("/tmp/seen").touch()
taken = []
while ports:
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        thief.bind(("", ports[0]))
        thief.listen()
        taken.append((thief, ports.pop(0)))
    except OSError:
        thief.close()
        time.sleep(0.02)
pathlib.Path("/tmp/taken").touch()
time.sleep(600)
"""
TELLS_ITS_PORT = """
import json, os
print(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"], os.environ["LAUNCHER_ATTEMPT"])
"""


def test_a_port_that_another_host_finds_taken_is_replaced(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """By its supervisor, when the first host's processes run already: all start again. The first host
    is held up while all listen, and again before the start, so that there is time to take the port."""
    one, two = clean.hosts["lab1"], clean.hosts["lab2"]
    two.run("rm", "-f", "/tmp/go", "/tmp/seen", "/tmp/taken")
    launcher.script(TELLS_ITS_PORT)
    (launcher.work / "job.yaml").write_text(
        "framework: tensorflow\nnum_nodes: 2\nrun: train.py\ngrace: 1\n"
        'setup: "[ $(hostname) = lab1 ] || until [ -e /tmp/go ]; do sleep 0.05; done"\n'
    )
    process = launcher.start("job.yaml")
    thief = two.spawn(sys.executable, "-c", SNATCHES)
    try:
        labs.wait_until(lambda: "setup-0" in _ended(launcher), "the first host's setup", 30)
        (folder,) = (launcher.home / "runs").iterdir()
        journal = one.read(f"/root/.launcher/host/runs/{folder.name}/journal.jsonl")
        supervisor = str(json.loads(journal.splitlines()[0])["pid"])
        agents = [str(p.pid) for p in one.processes() if "relay" in p.argv]
        one.run("kill", "-STOP", *agents, check=False)  # its relay and its supervisor
        two.write("/tmp/go", b"")
        labs.wait_until(lambda: two.exists("/tmp/seen"), "the second host to listen", 30)
        one.run("kill", "-CONT", *(pid for pid in agents if pid != supervisor), check=False)
        labs.wait_until(lambda: two.exists("/tmp/taken"), "the ports to be taken", 30)
        one.run("kill", "-CONT", supervisor)
        err = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
        process.communicate()
        two.run("kill", str(thief))
    assert process.returncode == 0, err
    assert "restarting after the port was taken: attempt 1" in err
    said = [(folder / f"logs/attempt-1/rank-{rank}.out").read_bytes() for rank in (0, 1)]
    assert said[0] == said[1] and said[0].endswith(b" 1\n")


def _ended(launcher: Launcher) -> set[str]:
    """Keys of the processes that have ended so far."""
    records = launcher.home.glob("runs/*/events.jsonl")
    events = [json.loads(line) for file in records for line in file.read_text().splitlines()]
    return {str(event["key"]) for event in events if event["event"] == "ProcessExited"}


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group with 60 MiB: the real out-of-memory killer of the real kernel."""
    one, two = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    limits = {one / "tasks": "limit_in_bytes", two / "cgroup.procs": "max"}
    base, limit = next(((p.parent, n) for p, n in limits.items() if p.exists()), (None, ""))
    if base is None or not os.access(base, os.W_OK):
        pytest.skip("no memory control group can be made here")
    group = base / f"launcher-test-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / f"memory.{limit}").exists():
            pytest.skip("the memory controller is not enabled here")
        (group / f"memory.{limit}").write_text(str(60 << 20))
        for no_swap in ("memory.swappiness", "memory.swap.max"):
            if (group / no_swap).exists():
                (group / no_swap).write_text("0")
        yield group
    finally:
        group.rmdir()


def test_the_kernel_kills_a_rank_for_want_of_memory(
    launcher: Launcher, clean: labs.Lab, little_memory: Path
) -> None:
    """137 alone could be anybody's kill -9; the kernel's own count tells."""
    name = launcher.script(
        "import os, pathlib, time\n"
        "print('ready', flush=True)\n"
        "while not pathlib.Path('/tmp/eat').exists():\n    time.sleep(0.02)\n"
        "hoard = bytearray(os.urandom(1 << 20)) * 200 if os.environ['RANK'] == '1' else 0\n"
        "time.sleep(600)\n"
    )
    hosts = [clean.hosts["lab1"], clean.hosts["lab2"]]
    for host in hosts:
        host.run("rm", "-f", "/tmp/eat")
    process = launcher.start("--nodes", "2", "--framework", "torch", "--grace", "1s", name)
    try:
        labs.wait_until(lambda: len(_ranks(launcher.home)) == 2, "both ranks", 30)
        for pid in _ranks(launcher.home):
            (little_memory / "cgroup.procs").write_text(str(pid))
        for host in hosts:
            host.write("/tmp/eat", b"")
        _, shown = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 137, shown
    assert b"failed (out-of-memory)" in shown
    assert b"lab2 rank 1 killed by the kernel, which was out of memory" in shown


def _ranks(home: Path) -> list[int]:
    """The ranks of the one run of ``home``, as this machine counts processes."""
    runs = [b"LAUNCHER_RUN_ID=" + os.fsencode(folder.name) for folder in home.glob("runs/*")]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if set(runs) & set(words) and any(word.startswith(b"RANK=") for word in words):
            found.append(int(folder.name))
    return found


RESTARTED = """
import os, pathlib, sys, time
rank, attempt = os.environ["RANK"], int(os.environ["LAUNCHER_ATTEMPT"])
checkpoint = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], f"step-{rank}.txt")
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
print("attempt", attempt, "goes on from step", step, flush=True)
checkpoint.write_text(str(step + 1))
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
if rank == "1" and attempt < 2:
    sys.exit(9)
if attempt < 2:
    time.sleep(600)  # in a collective it could fail before the other one has exited
dist.destroy_process_group()
"""


def test_a_failed_run_starts_again_and_finds_its_checkpoints(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """All ranks, on another port if need be, with the outputs of the attempt before."""
    name = launcher.script(RESTARTED)
    flags = ["--nodes", "2", "--framework", "torch", "--grace", "1s"]
    ran = launcher.run(*flags, "--max-restarts", "2", name)
    assert ran.code == 0, ran.err
    for attempt in range(3):
        for rank in (0, 1):
            log = ran.log(f"rank-{rank}.out", attempt)
            assert f"attempt {attempt} goes on from step {attempt}".encode() in log
    assert "restarting after exit-9: attempt 2" in ran.err
    assert ran.receipt["failure"] is None
    assert [host["exit_codes"] for host in ran.receipt["hosts"]] == [{"rank-0": 0}, {"rank-1": 0}]
    assert all(host["logs_complete"] for host in ran.receipt["hosts"])


def test_restarts_come_to_an_end(launcher: Launcher, clean: labs.Lab) -> None:
    ran = launcher.run(
        "--max-restarts", "1", "--framework", "env", "echo $LAUNCHER_ATTEMPT; exit 6"
    )
    assert ran.code == 6
    assert ran.receipt["reason"] == "exit-6"
    assert ran.out.split() == ["lab1", "│", "0", "lab1", "│", "1"]
    told = map(json.loads, (ran.folder / "events.jsonl").read_text().splitlines())
    stages = [event["stage"] for event in told if event["event"] == "StageStarted"]
    again = ["start", "run", "restart", "start", "run"]
    assert stages == ["connect", "sync", "setup", *again, "collect"]
