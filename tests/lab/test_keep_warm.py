"""What a run has imported is kept for the next one (--keep-warm), on real hosts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT, journals
from support import lab as labs
from support.command import Launcher, Ran, kill_follower, of_runs, wait_for

#: Where a host has a package of its own, which counts how often it is imported.
PACKAGES = "/root/packages"
COUNTS = "with open('/root/imports', 'a') as file:\n    file.write('imported\\n')\n"
RUN = ("--framework", "torch", "--env", f"PYTHONPATH={PACKAGES}", "--grace", "1s")
KEEP = ("--preload", "big", "--keep-warm", "5m")
ONE, TWO = (*RUN, "--nodes", "1"), (*RUN, "--nodes", "2")
#: Says whether it was imported before, and fails with "fail".
SCRIPT = "import sys\nprint('before', 'big' in sys.modules, *sys.argv[1:])\nsys.exit('fail' in sys.argv)\n"
#: Runs until it is let go.
WAITS = (
    "import os, pathlib, sys, time\nprint('before', 'big' in sys.modules, flush=True)\n"
    "while not pathlib.Path('/root/go').exists():\n    time.sleep(0.01)\n"
)
#: Makes a folder where what is kept needs a file.
MEDDLED = (
    "import glob, os\nprint('before', 'big' in __import__('sys').modules)\n"
    "for place in glob.glob('/root/.launcher/host/warm/*'):\n    os.makedirs(place + '/{}/x')\n"
)


@pytest.fixture(autouse=True)
def _package(clean: labs.Lab) -> Iterator[None]:
    """Give every host a module ``big``, and keep nothing for the next test."""
    for host in clean.hosts.values():
        host.run("sh", "-c", f"rm -rf /root/imports /root/go {PACKAGES}; mkdir -p {PACKAGES}")
        host.write(f"{PACKAGES}/big.py", COUNTS.encode())
    yield
    for host in clean.hosts.values():
        for one in _kept(host):
            host.run("kill", "-9", str(one.pid), check=False)
    labs.wait_until(lambda: not any(map(_helpers, clean.hosts.values())), "all are gone", 10)


def _kept(host: labs.LabHost) -> list[labs.Process]:
    """The processes on a host that keep a Python for the next run."""
    return [one for one in host.processes() if one.argv[4:5] == ["kept"]]


def _helpers(host: labs.LabHost) -> list[labs.Process]:
    """The Pythons on a host that have imported for the next run."""
    words = "(launcher keeps big for the next run"
    return [one for one in host.processes() if one.argv and one.argv[-1].startswith(words)]


def _counted(lab: labs.Lab, name: str = "lab1") -> int:
    return lab.hosts[name].run("cat", "/root/imports", check=False).stdout.count(b"imported")


def _events(launcher: Launcher, kind: str) -> list[dict[str, object]]:
    files = sorted(launcher.home.glob("runs/*/events.jsonl"), key=lambda file: file.stat().st_mtime)
    events = [event for file in files for event in journals.lines(file.read_bytes())]
    return [event for event in events if event["event"] == kind]


def _keep(launcher: Launcher, lab: labs.Lab, *words: str) -> Ran:
    """Have a run on the first host leave what it has imported."""
    ran = launcher.run(*ONE, *KEEP, *words, "train.py")
    assert ran.code == 0 and _counted(lab) == 1, ran.err
    assert len(_kept(lab.hosts["lab1"])) == 1
    return ran


def test_the_next_runs_are_forked_from_what_the_first_one_imported(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Also after a run that has failed, and with other arguments."""
    launcher.script(SCRIPT)
    for words in ((), ("fail",), ("again",)):
        ran = launcher.run(*TWO, *KEEP, "train.py", *words)
        assert ran.code == int("fail" in words), ran.err
        assert " ".join(["before True", *words]) in ran.out
        assert "nothing left running" in ran.out + ran.err
        stays = (
            r"^warm     big stays on lab\[1-2\] until \d\d:\d\d, for the next run; launcher warm"
        )
        assert re.search(stays, ran.err, re.MULTILINE), ran.err
        assert _counted(clean) == _counted(clean, "lab2") == 1
        assert not any(map(of_runs, clean.hosts.values()))
    assert not _events(launcher, "StartedCold") and not _events(launcher, "ImportedAnew")
    shown = " ".join(launcher.call("show", "-").stdout.split())
    assert "left by an earlier run on lab[1-2]" in shown and "stays on lab[1-2] until" in shown


def test_a_run_that_keeps_nothing_uses_nothing_that_is_kept(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    ran = launcher.run(*ONE, "--preload", "big", "train.py")
    assert ran.code == 0 and "before True" in ran.out and _counted(clean) == 2, ran.err
    assert len(_kept(clean.hosts["lab1"])) == 1


#: What a process has of a run: variables, folder, descriptors, control group.
LOOK = r"""
for pid in "$@"; do
  tr '\0' '\n' < /proc/$pid/environ; readlink /proc/$pid/cwd; ls -l /proc/$pid/fd; cat /proc/$pid/cgroup
  tr '\0' ' ' < /proc/$pid/cmdline
done
"""


#: Looks for two words in the memory of processes.
SEARCH = (
    "import sys\nfor pid in sys.argv[3:]:\n"
    "  with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as memory:\n"
    "    for line in maps:\n"
    "      span, mode, *rest = line.split()\n"
    "      if mode[0] == 'r' and not line.rstrip().endswith(('[vvar]', '[vsyscall]')):\n"
    "        first, last = (int(n, 16) for n in span.split('-'))\n"
    "        memory.seek(first)\n"
    "        try: text = memory.read(last - first) or b''\n"
    "        except OSError: continue\n"
    "        for word in sys.argv[1:3]:\n"
    "          if word.encode() in text: print('found', word, 'in', pid, line)\n"
)


def test_nothing_of_the_run_is_left_in_what_is_kept(launcher: Launcher, clean: labs.Lab) -> None:
    """No variable, argument or secret, in its environment or its memory; no folder, no file, no group."""
    launcher.script(
        "import os, sys\nprint('before', 'big' in sys.modules, sorted(os.environ), sys.argv)\n"
        "print('secret', os.environ.get('TOKEN'), os.environ.get('OTHER'))\n"
    )
    os.environ["TOKEN"], token = "hush-" + "Zebra-" * 3, "hush-" + "Zebra-" * 3
    os.environ["OTHER"] = "other-secret"
    try:
        words = ("--secret", "TOKEN", "train.py", "--argument-of-first")
        ran = launcher.run(*ONE, *KEEP, *words)
        assert ran.code == 0 and f"secret {token} None" in ran.out, ran.err
        host = clean.hosts["lab1"]
        (keeper,), (helper,) = _kept(host), _helpers(host)
        pids = [str(one.pid) for one in (keeper, helper)]
        seen = host.run("sh", "-c", LOOK, "look", *pids).stdout.decode()
        for word in (
            ran.folder.name,
            token,
            "LAUNCHER_RUN",
            "--argument-of-first",
            "supervisor.log",
        ):
            assert word not in seen, word
        place = host.run("readlink", f"/proc/{keeper.pid}/cwd").stdout.decode().strip()
        there = host.run("find", place, "-printf", "%P %l\n").stdout.decode()
        assert "about.json" in there and "code" not in there and "runs/" not in there
        found = host.run("python3", "-c", SEARCH, token, "--argument-of-first", *pids)
        assert b"found" not in found.stdout, found.stdout.decode()
        ran = launcher.run(*ONE, *KEEP, "--secret", "OTHER", "train.py", "second")
        assert "secret None other-secret" in ran.out and "before True" in ran.out, ran.out
        assert "--argument-of-first" not in ran.out and _counted(clean) == 1
    finally:
        del os.environ["TOKEN"], os.environ["OTHER"]


def test_nothing_of_a_run_that_does_not_fit_gets_into_what_is_kept(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """It is asked with names and digests: no value of the run is in its memory."""
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    host = clean.hosts["lab1"]
    (keeper,), (helper,) = _kept(host), _helpers(host)
    token = launcher.env["TOKEN"] = "hush-" + "Zebra-" * 3
    words = ("--secret", "TOKEN", "--env", "MARK=plain-" + "Zebra-" * 3)
    ran = launcher.run(*ONE, "--preload", "big,json", "--keep-warm", "5m", *words, "train.py")
    assert "imports anew: what an earlier run has left is big" in ran.err and len(_kept(host)) == 2
    pids = (str(keeper.pid), str(helper.pid))
    found = host.run("python3", "-c", SEARCH, token, "plain-" + "Zebra-" * 3, *pids)
    assert b"found" not in found.stdout, found.stdout.decode()


def test_what_another_version_of_launcher_has_left_is_not_used_and_ends(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    (old,) = _kept(clean.hosts["lab1"])
    shutil.copytree(ROOT / "launcher", tmp_path / "other" / "launcher")
    with (tmp_path / "other" / "launcher" / "agent" / "main.py").open("a") as file:
        file.write("# another version\n")
    launcher.env["PYTHONPATH"] = str(tmp_path / "other")
    ran = launcher.run(*ONE, *KEEP, "train.py")
    assert ran.code == 0 and "before True" in ran.out and _counted(clean) == 2, ran.err
    assert "imports anew: another version of launcher has left what is there" in ran.err
    labs.wait_until(lambda: len(_kept(clean.hosts["lab1"])) == 1, "the old one has ended", 10)
    assert _kept(clean.hosts["lab1"])[0].argv[3] != old.argv[3]  # each has its own agent


def test_what_is_kept_is_listed_and_ends_when_it_is_told_to(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    inventory = ("-i", str(launcher.inventory), "--hosts", "lab1")
    (one,) = json.loads(launcher.call("warm", *inventory, "--json").stdout)["lab1"]["kept"]
    host = clean.hosts["lab1"]
    assert one["modules"] == ["big"] and one["command"] == "train.py" and 200 < one["left"] < 301
    assert set(one["pids"]) == {_kept(host)[0].pid, _helpers(host)[0].pid} and one["memory"]
    shown = launcher.call("warm", *inventory).stdout
    assert "big" in shown and "(4 min)" in shown and "launcher warm --end" in shown
    assert "ended 1 Python on lab1" in launcher.call("warm", *inventory, "--end").stdout
    labs.wait_until(lambda: not _helpers(host) and not _kept(host), "it is gone", 10)
    assert "nothing is kept" in launcher.call("warm", *inventory).stdout


def test_it_ends_by_itself_after_its_time(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(SCRIPT)
    ran = launcher.run(*ONE, "--preload", "big", "--keep-warm", "1s", "train.py")
    assert ran.code == 0, ran.err
    host = clean.hosts["lab1"]
    labs.wait_until(lambda: not _helpers(host) and not _kept(host), "its time is over", 10)
    ran = launcher.run(*ONE, *KEEP, "train.py")
    assert ran.code == 0 and _counted(clean) == 2 and "imports anew" not in ran.err


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        ("package", (), f"{PACKAGES}/big.py has changed"),
        ("", ("--env", "OMP_NUM_THREADS=2"), "OMP_NUM_THREADS has another value"),
        ("limits", (), "this login has another Max open files than that of the earlier run"),
        ("script", (), "the command is another one"),
        ("modules", (), "what an earlier run has left is big"),
    ],
)
def test_what_does_not_fit_is_not_used_and_the_screen_says_why(
    launcher: Launcher, clean: labs.Lab, change: str, words: tuple[str, ...], why: str
) -> None:
    launcher.script(SCRIPT)
    launcher.script(SCRIPT, "other.py")
    _keep(launcher, clean)
    host, modules, script = clean.hosts["lab1"], "big", "train.py"
    if change == "package":
        host.write(f"{PACKAGES}/big.py", (COUNTS + "NEW = 1\n").encode())
    elif change == "limits":
        pid = host.run("sh", "-c", "cat /run/sshd.pid /var/run/sshd.pid | head -1").stdout.decode()
        host.run("prlimit", "--pid", pid.strip(), "--nofile=512:4096")
    elif change == "script":
        script = "other.py"
    elif change == "modules":
        modules = "big,json"
    ran = launcher.run(*ONE, "--preload", modules, "--keep-warm", "5m", *words, script)
    assert ran.code == 0 and "before True" in ran.out, ran.err
    assert f"lab1: imports anew: {why}" in ran.err and _counted(clean) == 2
    # One for the same script and modules is asked to end, and does so by itself.
    stay = 2 if change in ("script", "modules") else 1
    labs.wait_until(lambda: len(_kept(host)) == stay, f"{stay} are kept", 10)


#: Where Environment Modules look, and an environment of conda on a host.
MODULES, CONDA = "/usr/share/modules", "/root/miniconda3/envs/kept"
#: Says which of what bash prepares the rank has got.
PREPARED = "import os, sys\nprint('before', 'big' in sys.modules, 'mark', os.environ['MARK'])\n"


@pytest.mark.parametrize("kind", ["modules", "conda"])
def test_what_bash_prepares_otherwise_is_imported_anew(
    launcher: Launcher, clean: labs.Lab, kind: str
) -> None:
    """A module file, or a script in activate.d of conda, that was changed between two runs."""
    if kind == "modules" and not Path(MODULES, "init/bash").exists():
        pytest.skip("needs environment-modules (sh tests/support/install-system-packages.sh test)")
    host = clean.hosts["lab1"]
    launcher.script(PREPARED)
    if kind == "modules":
        place, text = f"{MODULES}/modulefiles/kept/1", "#%Module1.0\nsetenv MARK {}\n"
        words = ("--module", "kept/1")
    else:
        host.run(sys.executable, "-m", "venv", "--without-pip", CONDA)
        place, text = f"{CONDA}/etc/conda/activate.d/x.sh", "export MARK={}\n"
        words = ("--conda", CONDA)
    host.run("mkdir", "-p", f"{CONDA}/conda-meta", os.path.dirname(place))
    try:
        host.write(place, text.format("one").encode())
        assert "before True mark one" in _keep(launcher, clean, *words).out
        ran = launcher.run(*ONE, *KEEP, *words, "train.py")
        assert "before True mark one" in ran.out and _counted(clean) == 1, ran.err
        host.write(place, text.format("two").encode())
        ran = launcher.run(*ONE, *KEEP, *words, "train.py")
        assert "before True mark two" in ran.out and _counted(clean) == 2, ran.err
        assert "lab1: imports anew: " in ran.err and "MARK" in ran.err
        labs.wait_until(lambda: len(_kept(host)) == 1, "the earlier one has ended", 10)
    finally:
        host.run("rm", "-rf", f"{MODULES}/modulefiles/kept", "/root/miniconda3")


def test_of_two_runs_at_once_one_takes_it_and_neither_waits(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    launcher.script(WAITS)
    both = [launcher.start(*ONE, "--hosts", "lab1", *KEEP, "train.py") for _ in range(2)]
    labs.wait_until(lambda: len(_events(launcher, "AllStarted")) == 3, "both run", 60)
    clean.hosts["lab1"].run("touch", "/root/go")
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and b"before True" in out, err
    assert _counted(clean) == 2
    # They are for the same: the one that was kept last is enough.
    labs.wait_until(lambda: len(_kept(clean.hosts["lab1"])) == 1, "one is left", 10)


@pytest.mark.parametrize("who", ["keeper", "helper"])
def test_kill_9_of_what_is_kept_leaves_nothing(
    launcher: Launcher, clean: labs.Lab, who: str
) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    host = clean.hosts["lab1"]
    (killed,) = _kept(host) if who == "keeper" else _helpers(host)
    host.run("kill", "-9", str(killed.pid))
    labs.wait_until(lambda: not _helpers(host) and not _kept(host), "nothing is left", 10)
    ran = launcher.run(*ONE, *KEEP, "train.py")
    assert ran.code == 0 and "before True" in ran.out and _counted(clean) == 2, ran.err


def test_one_that_stands_still_does_not_hold_a_run_up(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    (kept,) = _kept(clean.hosts["lab1"])
    clean.hosts["lab1"].run("kill", "-STOP", str(kept.pid))
    ran = launcher.run(*ONE, *KEEP, "train.py")
    assert ran.code == 0 and "before True" in ran.out and _counted(clean) == 2, ran.err
    # It hears of the run when that is over, and must not begin it again.
    clean.hosts["lab1"].run("kill", "-CONT", str(kept.pid))
    labs.wait_until(lambda: len(_kept(clean.hosts["lab1"])) == 1, "the old one has ended", 10)
    (_, second) = sorted(launcher.home.glob("runs/*"), key=os.path.getmtime)
    path = f"/root/.launcher/host/runs/{second.name}/journal.jsonl"
    journal = clean.hosts["lab1"].run("cat", path).stdout
    assert [one["event"] for one in journals.lines(journal)][-1] == "HostEnded"
    # One that does not move is ended all the same.
    (kept,) = _kept(clean.hosts["lab1"])
    clean.hosts["lab1"].run("kill", "-STOP", str(kept.pid))
    assert "ended" in launcher.call("warm", "-i", str(launcher.inventory), "--end").stdout
    labs.wait_until(lambda: not _kept(clean.hosts["lab1"]), "all are gone", 10)


@pytest.mark.parametrize("end", ["stop", "launcher", "supervisor"])
def test_a_run_that_took_it_ends_like_any_other(
    launcher: Launcher, clean: labs.Lab, end: str
) -> None:
    launcher.script(WAITS)
    clean.hosts["lab1"].run("touch", "/root/go")
    _keep(launcher, clean)
    clean.hosts["lab1"].run("rm", "/root/go")
    process = launcher.start(*ONE, *KEEP, "train.py")
    labs.wait_until(lambda: len(_events(launcher, "AllStarted")) == 2, "it runs", 60)
    host, run = clean.hosts["lab1"], max(launcher.home.glob("runs/*"), key=os.path.getmtime)
    wait_for(run / "logs" / "attempt-0" / "rank-0.out", b"before True", process)
    if end == "stop":
        os.kill(process.pid, signal.SIGINT)
    elif end == "launcher":
        kill_follower(run)
        process.wait(30)
        assert launcher.call("stop", run.name).returncode in (0, 130)
    else:
        (rank,) = (one.pid for one in of_runs(host) if "train.py" in one.argv)
        parent = host.run("cut", "-d ", "-f4", f"/proc/{rank}/stat").stdout.decode().strip()
        host.run("kill", "-9", parent)
    process.communicate(timeout=90)
    assert process.returncode == {"stop": 130, "launcher": -9, "supervisor": 125}[end]
    labs.wait_until(lambda: not of_runs(host), "nothing of the run is left", 30)
    assert all(event["left"] == 0 for event in _events(launcher, "HostEnded"))
    kept = 0 if end == "supervisor" else 1
    labs.wait_until(lambda: len(_kept(host)) == kept, f"{kept} is kept", 10)
    assert _counted(clean) == 1


@pytest.mark.parametrize(
    ("before", "script", "why"),
    [
        ("echo > ~/.launcher/host/warm", SCRIPT, "File exists"),
        ("true", MEDDLED.format("keeper.log"), "Is a directory"),
        ("true", MEDDLED.format("about.json.new"), "Is a directory"),
        ("true", MEDDLED.format("sock"), "Address already in use"),
    ],
)
def test_where_nothing_can_stay_the_run_goes_on_and_says_so(
    launcher: Launcher, clean: labs.Lab, before: str, script: str, why: str
) -> None:
    host = clean.hosts["lab1"]
    host.run("sh", "-c", "mkdir -p ~/.launcher/host; rm -rf ~/.launcher/host/warm; " + before)
    launcher.script(script)
    try:
        ran = launcher.run(*ONE, *KEEP, "train.py")
        assert ran.code == 0 and "before True" in ran.out, ran.err
        assert f"lab1: what was imported does not stay: launcher's folder there: {why}" in ran.err
        assert "nothing left running" in ran.out + ran.err and "stays" not in ran.err
        labs.wait_until(lambda: not _helpers(host) and not _kept(host), "nothing stays", 10)
    finally:
        host.run("sh", "-c", "rm -rf ~/.launcher/host/warm")


def test_keep_warm_needs_preload(launcher: Launcher, clean: labs.Lab) -> None:
    ran = launcher.run(*ONE, "--keep-warm", "5m", "train.py")
    assert ran.code == 2 and "--preload torch --keep-warm 10m" in ran.err
    ran = launcher.run(*ONE, "--preload", "big", "--keep-warm", "2d", "train.py")
    assert ran.code == 2 and "a day at most" in ran.err


#: Connects to a socket in a folder, and asks whoever listens to end.
MEDDLES = (
    "import os, socket, sys\nos.chdir(sys.argv[1])\ns = socket.socket(socket.AF_UNIX)\n"
    "s.connect('sock')\n"
    'try:\n    s.sendall(b\'{"op":"end"}\\n\')\n    said = s.recv(9)\n'
    "except OSError:\n    said = b''\nprint('said', said)\n"
)


def test_another_user_cannot_talk_to_what_is_kept(launcher: Launcher, clean: labs.Lab) -> None:
    """Not even where all folders on the way were opened: the kernel says who it is."""
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    host = clean.hosts["lab1"]
    host.add_user("mallory", "not needed")
    (kept,) = _kept(host)
    place = host.run("readlink", f"/proc/{kept.pid}/cwd").stdout.decode().strip()
    meddle = ("su", "mallory", "-s", "/usr/bin/python3", "--", "-c", MEDDLES, place)
    assert host.run(*meddle, check=False).returncode != 0
    folders = [place, *(str(folder) for folder in Path(place).parents)][:-1]
    modes = [host.run("stat", "-c", "%a", one).stdout.decode().strip() for one in folders]
    host.run("chmod", "755", *folders)
    host.run("chmod", "777", f"{place}/sock")
    try:
        assert b"said b''" in host.run(*meddle).stdout
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            host.run("chmod", mode, folder)
    assert [one.pid for one in _kept(host)] == [kept.pid]
    ran = launcher.run(*ONE, *KEEP, "train.py")
    assert ran.code == 0 and "before True" in ran.out and _counted(clean) == 1, ran.err


def test_the_last_attempt_of_a_run_that_restarts_leaves_it(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(
        "import os, sys\nprint('before', 'big' in sys.modules)\n"
        "sys.exit(os.environ['LAUNCHER_ATTEMPT'] < sys.argv[1])\n"
    )
    for restarts, code in (("1", 0), ("3", 1)):  # the second run fails to its end
        ran = launcher.run(*ONE, *KEEP, "--max-restarts", "2", "train.py", restarts)
        assert ran.code == code, ran.err
        run = launcher.home / "runs" / ran.err.split()[1]
        logs = [log.read_text() for log in run.glob("logs/*/rank-0.out")]
        assert logs == ["before True\n"] * (int(restarts) + 1 - code), ran.err
        assert _counted(clean) == len(_kept(clean.hosts["lab1"])) == 1


def test_it_ends_when_a_file_of_it_changes(launcher: Launcher, clean: labs.Lab) -> None:
    """It looks every half minute, while no run asks for it."""
    launcher.script(SCRIPT)
    _keep(launcher, clean)
    host = clean.hosts["lab1"]
    host.write(f"{PACKAGES}/big.py", (COUNTS + "NEW = 1\n").encode())
    labs.wait_until(lambda: not _helpers(host) and not _kept(host), "it has noticed", 60)


def test_a_host_keeps_four_at_most(launcher: Launcher, clean: labs.Lab) -> None:
    host = clean.hosts["lab1"]
    for number in range(5):
        launcher.script(SCRIPT, f"part{number}.py")
        assert launcher.run(*ONE, *KEEP, f"part{number}.py").code == 0
    labs.wait_until(lambda: len(_kept(host)) == 4, "the oldest one has ended", 10)
    shown = launcher.call("warm", "-i", str(launcher.inventory)).stdout
    assert "part4.py" in shown and "part0.py" not in shown
