"""Modules that hosts import ahead of their ranks (--preload), on real hosts."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher, Started, of_runs

#: Where a host has a package of its own.
PACKAGES = "/root/packages"
RUN = ("--nodes", "2", "--framework", "torch", "--env", f"PYTHONPATH={PACKAGES}", "--grace", "1s")
HANGS = "import os, time\nif os.environ['LAUNCHER_HOST'] == 'lab1': time.sleep(600)\n"


def _give(lab: labs.Lab, text: str) -> None:
    """Give every host a module ``big``."""
    for host in lab.hosts.values():
        host.run("mkdir", "-p", PACKAGES)
        host.write(f"{PACKAGES}/big.py", text.encode())


def _helpers(lab: labs.Lab, name: str = "lab1") -> list[int]:
    """The Pythons on a host that have imported, or do. A rank that was forked writes elsewhere, and a
    Python that only shows whether one can preload there (see ``_TRY`` of warm/forking.py) is none of them."""
    host = lab.hosts[name]
    asked = {one.pid: one.environ.get("LAUNCHER_PRELOAD") for one in of_runs(host)}
    there = [pid for pid, words in asked.items() if words not in (None, "try")]
    told = [host.run("readlink", f"/proc/{pid}/fd/1", check=False).stdout for pid in there]
    return [pid for pid, path in zip(there, told, strict=True) if path.endswith(b"/preload.out\n")]


def _events(launcher: Launcher, kind: str) -> list[dict[str, object]]:
    files = list(launcher.home.glob("runs/*/events.jsonl"))
    events = [event for file in files for event in journals.lines(file.read_bytes())]
    return [event for event in events if event["event"] == kind]


def test_ranks_train_with_a_torch_that_was_imported_before(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Also in an environment that bash activates."""
    launcher.script(
        "import sys, os\n"
        "before = 'torch' in sys.modules\n"
        "import torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "grown = torch.ones(2) * (dist.get_rank() + 1)\n"
        "dist.all_reduce(grown)\n"
        "print('before', before, grown.tolist(), os.environ.get('VIRTUAL_ENV'), flush=True)\n"
        "dist.destroy_process_group()\n"
    )
    words = ("--nodes", "2", "--framework", "torch", "--nproc-per-node", "2")
    ran = launcher.run(*words, "--venv", sys.prefix, "--preload", "torch", "train.py", timeout=300)
    assert ran.code == 0, ran.err
    for rank in range(4):
        log = ran.log(f"rank-{rank}.out").decode()
        assert log == f"before True [10.0, 10.0] {sys.prefix}\n"
    assert not _events(launcher, "StartedCold")
    assert "preload  torch imported on lab[1-2] in " in launcher.call("show", "-").stdout


def test_ranks_share_the_memory_of_what_was_imported(launcher: Launcher, clean: labs.Lab) -> None:
    """A collection of garbage, as also at the end of Python, does not copy what no rank has touched."""
    _give(clean, "kept = [[number] for number in range(300_000)]\n")
    launcher.script(
        "import gc, resource\n"
        "def faults():\n"  # the pages it had to copy are among them
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults()\n"
        "gc.collect()\n"
        "print(faults() - before, 'pages copied')\n"
        "import big\n"
        "print(len(big.kept))\n"
    )
    ran = launcher.run(*RUN, "--preload", "big", "train.py")
    assert ran.code == 0, ran.err
    assert not _events(launcher, "StartedCold")
    for rank in range(2):
        copied, count = ran.log(f"rank-{rank}.out").decode().splitlines()
        assert (int(copied.split()[0]) < 1000, count) == (True, "300000"), copied


def test_ctrl_c_while_modules_are_imported(launcher: Launcher, clean: labs.Lab) -> None:
    _give(clean, HANGS)
    launcher.script("print('never')\n")
    process = launcher.start(*RUN, "--preload", "big", "train.py")
    labs.wait_until(lambda: len(_events(launcher, "Preloaded")) == 1, "lab2 has imported", 40)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"nothing left running" in err + out and b"never" not in out


@pytest.mark.parametrize("who", ["helper", "launcher"])
def test_kill_9_while_modules_are_imported(launcher: Launcher, clean: labs.Lab, who: str) -> None:
    _give(clean, HANGS)
    launcher.script("import sys\nprint('ran', 'big' in sys.modules)\n")
    process = launcher.start(*RUN, "--preload", "big", "train.py")
    labs.wait_until(lambda: len(_events(launcher, "Preloaded")) == 1, "lab2 has imported", 40)
    if who == "helper":
        labs.wait_until(lambda: _helpers(clean), "lab1 imports", 40)
        (pid,) = _helpers(clean)
        clean.hosts["lab1"].run("kill", "-9", str(pid))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert b"lab1: not preloaded: the Python that imports ended" in out + err
        assert b"ran False" in out and b"ran True" in out
        return
    process.kill()
    process.communicate(timeout=60)
    run = next(launcher.home.glob("runs/*")).name
    assert launcher.call("stop", run).returncode in (0, 130)
    assert not [one.argv for host in clean.hosts.values() for one in of_runs(host)]


def test_what_keeps_ranks_from_being_forked_is_said_and_they_run(
    launcher: Launcher, clean: labs.Lab
) -> None:
    _give(clean, "")
    launcher.script("import os\nos.environ['OMP_NUM_THREADS'] = '2'\nimport big\nprint('ran')\n")
    ran = launcher.run(*RUN, "--preload", "big", "train.py")
    assert ran.code == 0 and ran.out.count("ran") >= 1, ran.err
    why = "ranks import for themselves: train.py:2 OMP_NUM_THREADS is set before the import"
    # Hosts with the same to tell share a line if they tell it at about the same time.
    assert re.search(rf"^lab(1|\[1-2\]): {why}$", ran.err, re.MULTILINE), ran.err
    ran = launcher.run(*RUN, "--preload", "big", "--prepare", "ulimit -n 512", "train.py")
    assert ran.code == 0, ran.err
    assert "lab2: not preloaded: prepare: may differ between ranks" in ran.out + ran.err
    ran = launcher.run("--nodes", "2", "--preload", "big", "train.py")
    assert ran.code == 2 and "--framework torch starts the same scripts" in ran.err


#: Counts imports, instead of measuring them.
COUNTS = "with open('/root/imports', 'a') as file:\n    file.write('imported\\n')\n"
#: Fails in its first attempts, once rank 1 of that may.
FAILS = (
    "import os, pathlib, sys, time\n"
    "before = 'big' in sys.modules\n"
    "import big\n"
    "attempt, rank = os.environ['LAUNCHER_ATTEMPT'], os.environ['RANK']\n"
    "print('ran', attempt, before, flush=True)\n"
    "while not pathlib.Path('/root/go-' + attempt).exists():\n    time.sleep(0.01)\n"
    "sys.exit(rank == '1' and attempt in os.environ['FAILS'])\n"
)
HELPED = ("--max-restarts", "2", "--preload", "big")


def _prepare(lab: labs.Lab, *let_go: int) -> None:
    """Give every host ``big``, which counts, and let these attempts go on."""
    _give(lab, COUNTS)
    for host in lab.hosts.values():
        host.run("sh", "-c", "rm -f /root/imports /root/go-*")
        for attempt in let_go:
            host.run("touch", f"/root/go-{attempt}")


def _counted(lab: labs.Lab, name: str) -> int:
    return lab.hosts[name].run("cat", "/root/imports").stdout.count(b"imported")


def _supervisor(lab: labs.Lab, name: str) -> int:
    """The parent of the helper."""
    (pid,) = _helpers(lab, name)
    return int(lab.hosts[name].run("cut", "-d ", "-f4", f"/proc/{pid}/stat").stdout)


def _until_second_host_stays(launcher: Launcher, lab: labs.Lab) -> Started:
    """Start a run whose rank 1 fails, and rank 0 takes its time to end: the second host waits for it."""
    late = "import signal\nif os.environ['RANK'] == '0': signal.signal(15, lambda *_: None)\n"
    launcher.script(FAILS.replace("before =", late + "before ="))
    process = launcher.start(*RUN, *HELPED, "--env", "FAILS=0", "--grace", "600s", "train.py")
    log = "runs/*/logs/attempt-0/rank-0.out"
    labs.wait_until(
        lambda: any(b"ran 0" in file.read_bytes() for file in launcher.home.glob(log)),
        "rank 0 is deaf to SIGTERM",
        60,
    )
    lab.hosts["lab2"].run("touch", "/root/go-0")
    labs.wait_until(lambda: _events(launcher, "HostFinished"), "a host is over", 30)
    (over,) = _events(launcher, "HostFinished")
    assert over["host"] == "lab2" and len(_helpers(lab, "lab2")) == 1
    return process


def test_restarts_take_what_setup_installed_and_the_first_attempt_imported(
    launcher: Launcher, clean: labs.Lab
) -> None:
    _prepare(clean)
    for host in clean.hosts.values():
        host.run("rm", "-rf", PACKAGES)
    setup = f"mkdir {PACKAGES}; cat > {PACKAGES}/big.py << 'END'\n{COUNTS}END"
    launcher.script(FAILS)
    process = launcher.start(*RUN, *HELPED, "--env", "FAILS=01", "--setup", setup, "train.py")
    for attempt, kept in ((0, 1), (1, 1), (2, 0)):  # no attempt follows the last one
        started = attempt + 1
        labs.wait_until(lambda: len(_events(launcher, "AllStarted")) == started, "it runs", 60)  # noqa: B023
        labs.wait_until(lambda: len(_helpers(clean)) == kept, f"{kept} keep it", 20)  # noqa: B023
        for host in clean.hosts.values():
            host.run("touch", f"/root/go-{attempt}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"ran 2 True" in out and b"imports anew" not in out + err
    assert _counted(clean, "lab1") == _counted(clean, "lab2") == 1
    done = [(one["host"], one["attempt"], one["kept"]) for one in _events(launcher, "Preloaded")]
    every = [(host, n, n > 0) for host in ("lab1", "lab2") for n in (0, 1, 2)]
    assert sorted(map(str, done)) == sorted(map(str, every))
    assert not _events(launcher, "OrphansFound")
    shown = launcher.call("show", "-").stdout
    assert "used again on lab[1-2] by attempts 1-2" in " ".join(shown.split()), shown
    profile = launcher.call("show", "--profile", "-").stdout
    assert {"preload", "kept"} <= {line.split(" ")[0] for line in profile.splitlines()}


@pytest.mark.parametrize("lost", ["helper", "supervisor"])
def test_what_was_imported_is_lost_before_the_next_attempt(
    launcher: Launcher, clean: labs.Lab, lost: str
) -> None:
    _prepare(clean, 1)
    process = _until_second_host_stays(launcher, clean)
    killed = _supervisor(clean, "lab2") if lost == "supervisor" else _helpers(clean, "lab2")[0]
    clean.hosts["lab2"].run("kill", "-9", str(killed))
    clean.hosts["lab1"].run("touch", "/root/go-0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    why = {
        "helper": "the Python that had imported ended",
        "supervisor": "nothing of the attempt before was left there",
    }[lost]
    assert f"lab2: imports anew: {why}" in (out + err).decode()
    assert b"lab1: imports anew" not in out + err
    assert (_counted(clean, "lab1"), _counted(clean, "lab2")) == (1, 2)
    assert b"ran 1 True" in out


def test_a_launcher_dies_while_a_host_waits_for_the_restart(
    launcher: Launcher, clean: labs.Lab
) -> None:
    _prepare(clean)
    process = _until_second_host_stays(launcher, clean)
    process.kill()
    process.communicate(timeout=60)
    labs.wait_until(lambda: not of_runs(clean.hosts["lab2"]), "nothing is left there", 30)
    run = next(launcher.home.glob("runs/*")).name
    assert launcher.call("stop", run, "--grace", "0s").returncode in (0, 130)


@pytest.mark.parametrize("end", ["stop", "supervisor"])
def test_nothing_is_kept_for_a_restart_that_does_not_come(
    launcher: Launcher, clean: labs.Lab, end: str
) -> None:
    """A spare takes the place of a host whose supervisor was killed, and imports."""
    _prepare(clean, 1)
    launcher.script(FAILS)
    process = launcher.start(*RUN, *HELPED, "--env", "FAILS=1", "train.py")
    labs.wait_until(lambda: len(_events(launcher, "AllStarted")) == 1, "attempt 0 runs", 60)
    # A rank that was forked a moment ago writes where the helper does.
    labs.wait_until(lambda: len(_helpers(clean)) == 1, "the helper alone", 20)
    if end == "supervisor":
        clean.hosts["lab1"].run("kill", "-9", str(_supervisor(clean, "lab1")))
        labs.wait_until(lambda: not of_runs(clean.hosts["lab1"]), "lab1 is clean", 30)
        for host in clean.hosts.values():
            host.run("touch", "/root/go-2")
    else:
        os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == {"stop": 130, "supervisor": 0}[end]
    swept = _events(launcher, "HostSwept")
    assert swept and all(one["killed"] == 0 and not one["left"] for one in swept)
    if end == "supervisor":
        assert (_counted(clean, "lab2"), _counted(clean, "lab3")) == (1, 1)


def test_code_that_is_edited_is_what_a_forked_rank_runs(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The helper starts before there is any code, and whatever an earlier run had there."""
    _give(clean, "")
    for number in (1, 2):
        launcher.script(f"import own, sys\nprint('text {number}', own.N, 'big' in sys.modules)\n")
        launcher.script(f"N = {number}\n", "own.py")
        ran = launcher.run(*RUN, "--preload", "big", "train.py")
        assert ran.code == 0, ran.err
        assert ran.out.count(f"text {number} {number} True") >= 1, ran.out
