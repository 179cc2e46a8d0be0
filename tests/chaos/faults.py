"""The faults, and how a run may end after each. The round around them is in round.py."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.round import ORPHAN_SECONDS, ORPHAN_TIMEOUT, Round
from support import lab as labs
from support.command import kill_follower

#: Seconds in which all ranks have started on this machine; an early fault comes within them.
STARTING = 2.5


@dataclass(frozen=True)
class Fault:
    """``strike`` breaks something at a random moment; the run may then end as ``allowed``.

    prepare: called before the run starts.
    options: more options for ``launcher run``.
    early: strike while the launcher connects, copies and starts; there may be no run at all.
    beside: another run is under way on the same hosts.
    afterwards: what the user does once everything is whole again and the launcher has exited.
    slow: takes half a minute or more.
    lasts: seconds for which the ranks must still train after it, so that it can be judged.
    """

    strike: Callable[[Round], object]
    allowed: frozenset[str]
    prepare: Callable[[Round], object] = lambda now: None
    options: tuple[str, ...] = ()
    early: bool = False
    beside: bool = False
    afterwards: Callable[[Round], object] = lambda now: None
    slow: bool = False
    lasts: float = 0.0


def _fault(strike: Callable[[Round], object], *allowed: str, **more: object) -> Fault:
    return Fault(strike, frozenset(allowed), **more)  # type: ignore[arg-type]


# -- hosts and cables


def _power_cut(now: Round) -> None:
    now.gone.add(now.host.name)
    now.host.power_cut()


def _cable_for_long(now: Round) -> None:
    now.gone.add(now.host.name)
    now.host.unplug()


def _reach_each_other(now: Round) -> bool:
    """Whether ARP between the hosts has recovered: the kernel remembers failures for a while."""
    one, other = now.lab.hosts.values()
    script = f"exec 3<>/dev/tcp/{other.address}/{other.port}"
    return one.run("timeout", "2", "bash", "-c", script, check=False).returncode == 0


def _reached_again(now: Round) -> None:
    """Reach the host with some other command, now that its cable is back: the receipt is amended."""
    words = ("ls", "--all-users", "-i", "../inventory.yaml")
    if now.dice.random() < 0.5:
        words = (
            "run",
            "-i",
            "../inventory.yaml",
            "--nodes",
            "2",
            "--framework",
            "env",
            "--",
            "true",
        )
    labs.wait_until(lambda: _reach_each_other(now), "resolve each other's addresses", 20)
    done = now.call(*words)
    if done.returncode:
        raise labs.LabError(done.stderr)
    for folder in now.folders:
        if "torch" in (folder / "receipt.json").read_text():
            now.call("pull", folder.name)  # what could not be pulled at the end
    now.back, now.gone = now.gone, set()


def _cable_for_a_moment(now: Round) -> None:
    now.host.unplug()
    time.sleep(now.dice.uniform(0.5, 4.0))
    now.host.plug()


def _frozen_sshd(now: Round) -> None:
    now.host.freeze_sshd()
    now.host.kill_sshd_sessions()
    time.sleep(now.dice.uniform(0.5, 3.0))
    now.host.thaw_sshd()


def _disk_full(now: Round) -> None:
    now.host.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")


def _other_clock(now: Round) -> None:
    now.host.set_clock(now.dice.choice([-600, 600]))
    now.undo.append(lambda: now.host.set_clock(0))


# -- processes on a host


def _is_rank(process: labs.Process) -> bool:
    return "RANK" in process.environ and "LAUNCHER_RUN_ID" in process.environ


def _kill_supervisor(now: Round) -> None:
    ranks = now.pids(_is_rank)
    parents = {
        now.host.run("sh", "-c", f"cut -d' ' -f4 /proc/{pid}/stat", check=False).stdout.strip()
        for pid in ranks
    }
    now.kill([int(pid) for pid in parents if pid])


def _relays(now: Round) -> list[int]:
    return now.pids(lambda p: "relay" in p.argv and not _is_rank(p))[:1]


def _supervisors(now: Round) -> list[str]:
    """Return the parents of the ranks, as words for kill."""
    ranks = now.pids(_is_rank)
    read = [f"cut -d' ' -f4 /proc/{pid}/stat" for pid in ranks]
    found = now.host.run("sh", "-c", "; ".join(read) or "true", check=False).stdout.decode().split()
    return sorted(set(found) - {"1"})


def _slow_to_leave(now: Round) -> None:
    """Kill a rank, and hold its supervisor up while it leaves and the next attempt begins."""
    supervisors, ranks = _supervisors(now), now.pids(_is_rank)[:1]
    if supervisors:
        now.kill(ranks)
        time.sleep(now.dice.uniform(0.0, 0.3))
        now.host.run("kill", "-STOP", *supervisors, check=False)
        time.sleep(now.dice.uniform(0.5, 3.0))
        now.host.run("kill", "-CONT", *supervisors, check=False)


def _freeze_supervisor(now: Round) -> None:
    if supervisors := _supervisors(now):
        now.host.run("kill", "-STOP", *supervisors, check=False)


def _kill_relay(now: Round) -> None:
    now.kill(_relays(now))


def _freeze_relay(now: Round) -> None:
    """Stop the relay, as a disk that hangs does, until the run is over."""
    if relays := _relays(now):
        now.frozen = relays[0]
        now.host.run("kill", "-STOP", str(now.frozen))


def _thaw_relay(now: Round) -> None:
    if now.frozen:
        now.host.run("kill", "-CONT", str(now.frozen), check=False)


def _kill_rank(now: Round) -> None:
    if ranks := now.pids(_is_rank)[:1]:
        now.failing = now.host.name
        now.kill(ranks)


def _kill_rank_anywhere(now: Round) -> None:
    """Kill a rank on either host: the first failure must be named, whatever the clocks say."""
    now.host = now.dice.choice([now.lab.hosts[name] for name in sorted(now.lab.hosts)])
    _kill_rank(now)


# -- the launcher's side


def _launcher(now: Round) -> subprocess.Popen[bytes]:
    assert now.process
    return now.process


def _kill_launcher(now: Round) -> None:
    _launcher(now).kill()


def _kill_follower(now: Round) -> None:
    """Kill the process that follows the run, and leave the run without one for a while."""
    for folder in now.folders:
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            kill_follower(folder)
    time.sleep(now.dice.uniform(0, now.training))


def _kill_follower_early(now: Round) -> None:
    _kill_follower(now)
    _launcher(now).wait(30)  # it notices, and reports it


def _ctrl_c(now: Round) -> None:
    _launcher(now).send_signal(signal.SIGINT)
    if now.dice.random() < 0.3:
        time.sleep(now.dice.uniform(0, 0.5))
        now.impatient = True
        _launcher(now).send_signal(signal.SIGINT)


def _small_disk(now: Round) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "chaos", now.home], check=True)


def _disk_full_here(now: Round) -> None:
    ballast = now.home / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    now.undo.append(ballast.unlink)


def _read_by_head(now: Round) -> None:
    now.head = 2000


def _exited_with_the_run(now: Round) -> None:
    if code := _launcher(now).returncode:
        now.wrong.append(f"the exit code is {code} because nobody read the screen")


def _hostile_records(now: Round) -> None:
    """Damage what is recorded here and on the host, and have another launcher take the run up."""
    _launcher(now).kill()
    _launcher(now).wait()
    junk = (b"not json\n", b"\0" * 64, b'{"event":"ProcessExited"}\n', b"[" * 5000 + b"\n", b"{}\n")
    for folder in now.folders:
        with (folder / "events.jsonl").open("ab") as file:
            file.write(b"".join(now.dice.sample(junk, 3)))
        (folder / "shown.json").write_bytes(now.dice.choice(junk))
        now.host.write(f"/root/.launcher/host/runs/{folder.name}/logs/odd", b"no folder")
    (now.home / "unfinished").mkdir(exist_ok=True)
    (now.home / "unfinished" / "emptied.json").touch()
    for name, text in (("run.json", b"[" * 5000), ("journal.jsonl", b"\0\0\0\0\n[]\n{}\n")):
        now.host.run("mkdir", "-p", "/root/.launcher/host/runs/odd")
        now.host.write(f"/root/.launcher/host/runs/odd/{name}", text)


def _lists_work(now: Round) -> None:
    for words in (["ls"], ["ls", "--all-users", "-i", "../inventory.yaml"], ["show", "-"]):
        done = now.call(*words)
        if done.returncode or "internal error" in done.stderr:
            now.wrong.append(f"{' '.join(words)}: {done.stderr[:300]}")
    now.host.run("sh", "-c", "cd /root/.launcher/host/runs && rm -rf odd */logs/odd")


def _stop_one(now: Round) -> None:
    folder = now.dice.choice(now.folders)
    now.stopped.add(folder.name)
    now.call("stop", folder.name, "--grace", "2s")


# -- another user of a host

#: Puts FIFOs where 0.1 had its locks, removes what else is there, claims locks and runs, fills the
#: queues of those who hold locks, and starts processes that look like ours.
_NEIGHBOUR = """
import os, socket, time
place, kept, seen = "/var/tmp/launcher-leases", [], 0
for name in ("gpu/7", "gpu/7/calm-owl-1/1", "run/calm-owl-1/1", "run/" + "x" * 90):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind("\\0launcher/" + name)
mark = {"LAUNCHER_RUN_DIR": "/root/.launcher/host/runs/../../../../var/tmp/launcher-leases"}
for _ in range(3):
    os.posix_spawn("/bin/sleep", ["sleep", "1000"], mark)
while True:
    os.makedirs(place, exist_ok=True)
    for name in ("supervisor.lock", *("gpu-%d" % n for n in range(8))):
        try:
            os.unlink(place + "/" + name)
        except OSError:
            pass
        os.mkfifo(place + "/" + name)
    for gpu in range(8):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            caller.connect_ex("\\0launcher/gpu/%d" % gpu)
    time.sleep(0.01)
"""


def _neighbour(now: Round) -> None:
    for host in now.lab.hosts.values():
        host.write("/tmp/neighbour.py", _NEIGHBOUR.encode())
        python = ("/usr/bin/python3", "/tmp/neighbour.py")
        host.spawn("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *python)

        def gone(host: labs.LabHost = host) -> None:
            host.run("pkill", "-KILL", "-u", "nobody", check=False)
            labs.wait_until(
                lambda: host.run("pgrep", "-u", "nobody", check=False).returncode == 1,
                "the end of another user's processes",
            )
            host.run("rm", "-rf", "/var/tmp/launcher-leases")

        now.undo.append(gone)


FAULTS: dict[str, Fault] = {
    "power cut": _fault(_power_cut, "lost", slow=True),
    "cable pulled for good": _fault(_cable_for_long, "lost", "stopped", slow=True),
    f"cable back when the orphan timeout of {ORPHAN_TIMEOUT} is over": _fault(
        _cable_for_long,
        *("lost", "stopped"),
        afterwards=_reached_again,
        slow=True,
        lasts=ORPHAN_SECONDS + 5,  # ranks that finish earlier leave nothing for the timeout to stop
    ),
    "cable pulled for seconds": _fault(_cable_for_a_moment, "succeeded"),
    "20 % packet loss": _fault(lambda now: now.host.loss(20), "succeeded"),
    "link of 1 Mbit/s": _fault(lambda now: now.host.slow(1), "succeeded"),
    "sshd sessions killed": _fault(lambda now: now.host.kill_sshd_sessions(), "succeeded"),
    "sshd frozen": _fault(_frozen_sshd, "succeeded"),
    "clock 10 minutes off, and a rank killed": _fault(
        _kill_rank_anywhere, "failed", prepare=_other_clock
    ),
    "disk full on a host": _fault(_disk_full, "failed", "succeeded"),
    "disk full here": _fault(_disk_full_here, "succeeded", prepare=_small_disk),
    "kill -9 of a supervisor": _fault(_kill_supervisor, "lost", "failed"),
    "a supervisor that leaves slowly": _fault(
        _slow_to_leave, "succeeded", options=("--max-restarts", "1")
    ),
    "a supervisor that stands still": _fault(_freeze_supervisor, "lost", slow=True),
    "kill -9 of a relay": _fault(_kill_relay, "succeeded"),
    "a relay that stands still": _fault(
        _freeze_relay, "succeeded", "stopped", afterwards=_thaw_relay, slow=True
    ),
    "kill -9 of a rank": _fault(_kill_rank, "failed"),
    "kill -9 of the launcher": _fault(_kill_launcher, "succeeded"),
    "kill -9 of the launcher before training": _fault(
        _kill_launcher, "not begun", "failed", "stopped", "succeeded", early=True
    ),
    "kill -9 of the follower": _fault(_kill_follower, "succeeded", options=("--detach",)),
    "kill -9 of the follower before training": _fault(
        _kill_follower_early,
        "not begun",
        "failed",
        "stopped",
        "succeeded",
        early=True,
        options=("--detach",),
    ),
    "nobody reads the screen, and sshd sessions killed": _fault(
        lambda now: now.host.kill_sshd_sessions(),
        "succeeded",
        prepare=_read_by_head,
        afterwards=_exited_with_the_run,
    ),
    "hostile records": _fault(_hostile_records, "succeeded", afterwards=_lists_work),
    "Ctrl-C": _fault(_ctrl_c, "stopped"),
    "Ctrl-C before training": _fault(_ctrl_c, "stopped", early=True),
    "another user's FIFOs, locks and claims": _fault(
        lambda now: None, "succeeded", prepare=_neighbour
    ),
    "one of two runs stopped": _fault(_stop_one, "succeeded", beside=True),
}


def missing(name: str) -> str | None:
    """Return what this machine needs for a fault and does not have, or None."""
    if FAULTS[name].prepare is _other_clock and not shutil.which("cc"):
        return "a clock of one host needs a C compiler (cc)"
    return None
