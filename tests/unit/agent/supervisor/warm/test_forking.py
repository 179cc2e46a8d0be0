"""Ranks that are forked from a Python which has imported modules already, beside ranks started by themselves:
real processes on this machine, as the supervisor starts both."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base.lean import prctl
from launcher.agent.processes import processes
from launcher.agent.supervisor.warm.command import INSIDE
from launcher.agent.supervisor.warm.forking import Warm
from support import lab as labs

#: What a script and its user can see of a process.
FACTS = r"""
import gc, json, multiprocessing, os, random, resource, signal, sys, threading

def frames():
    frame = sys._getframe(1)
    while frame:
        yield frame.f_code.co_name
        frame = frame.f_back

if __name__ == "__main__":
    main = sys.modules["__main__"]
    status = open("/proc/self/status").read().splitlines()
    kept = ("SigBlk", "SigIgn", "SigCgt", "Cpus_allowed_list", "Groups")
    print(json.dumps({
        "main": {k: str(v).split(" at 0x")[0] for k, v in vars(main).items() if k[:2] == "__" and k != "__loader__"},
        "loader": type(main.__loader__).__name__,
        "argv": sys.argv, "orig_argv": getattr(sys, "orig_argv", []), "path": sys.path,
        "flags": str(sys.flags), "frames": list(frames()), "environ": dict(os.environ),
        "environment": str(type(os.environ)), "cwd": os.getcwd(),
        "shown": sorted(open("/proc/self/environ").read().rstrip("\0").split("\0")),
        "title": open("/proc/self/cmdline").read().rstrip("\0").split("\0"),
        "name": open("/proc/self/comm").read(),
        "leads": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
        "parent": os.getppid(), "descriptors": sorted(os.listdir("/proc/self/fd")),
        "streams": [os.readlink("/proc/self/fd/%d" % n) for n in range(3)],
        "threads": len(os.listdir("/proc/self/task")),
        "signals": {int(s): str(signal.getsignal(s)) for s in signal.valid_signals()},
        "status": [line for line in status if line.startswith(kept)],
        "limits": [resource.getrlimit(n) for n in range(16)],
        "out": [repr(sys.stdout), sys.stdout.line_buffering, sys.stdout.write_through],
        "thread": threading.current_thread() is threading.main_thread(),
        "process": multiprocessing.current_process().name,
        "collects": [gc.isenabled(), gc.get_threshold()], "executable": sys.executable, "hook": str(sys.excepthook),
    }))
"""
#: Ways to end, and what they leave.
ENDS = {
    "message": "import sys\nprint('so far')\nsys.exit('nothing to train on')\n",
    "number": "import atexit, os\natexit.register(print, 'at exit')\nraise SystemExit(7)\n",
    "traceback": "def train():\n    raise ValueError('no loss')\ntrain()\n",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError('more') from e\n",
    "signal": "import os, signal\nprint('x', end='')\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n",
    "at once": "import os\nprint('lost')\nos._exit(9)\n",
    "hook": "import sys\nsys.excepthook = lambda *a: print('mine', a[0])\nboom\n",
    "syntax": "def broken(:\n",
    "faulthandler": "import faulthandler, sys\nfaulthandler.dump_traceback(sys.stderr)\n",
    "spawn": (
        "import multiprocessing as m, os, sys\n"
        "def work(q):\n    q.put((sys.argv, __name__, os.environ['RANK']))\n"
        "if __name__ == '__main__':\n    c = m.get_context('spawn')\n    q = c.SimpleQueue()\n"
        "    p = c.Process(target=work, args=(q,))\n    p.start()\n    print(q.get())\n    p.join()\n"
        "    print(p.exitcode)\n"
    ),
}


class Bench:
    """A folder of a run on a host, and a helper in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, folder / "code"
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.warm = Warm(lambda event, **fields: self.said.append((event, fields)))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PWD": "/elsewhere",
            "LAUNCHER_RUN_ID": "calm-otter-3f9a",
            "LAUNCHER_HOST": "h1",
            "LAUNCHER_RUN_DIR": str(folder),
        }
        self._number = 0

    def script(self, text: str, name: str = "train.py") -> None:
        """Put a file into the run's copy of the code."""
        path = self.code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def preload(self, *modules: str, words: tuple[str, ...] = ("train.py",), **env: str) -> None:
        """Import modules, and wait until that is over."""
        self.env.update(env)
        argv = [sys.executable, *words]
        self.warm.begin(modules or ("json",), argv, dict(self.env), str(self.code), False)
        self.until_imported()

    def keep(self) -> str:
        """Have what is imported kept for other runs; return its place."""
        place = self.folder / "warm" / "0123456789ab"
        place.mkdir(parents=True)
        self.warm.place = str(place)
        return str(place)

    def until_imported(self) -> None:
        """Wait until imports are over, or have failed."""
        deadline = time.monotonic() + 180
        while not any(event == "Preloaded" for event, _ in self.said):
            assert time.monotonic() < deadline
            if select.select(self.warm.readable, [], [], 0.02)[0]:
                self.warm.heard()
            self.warm.look(time.monotonic())
            self.reap()

    def next(self, *words: str, **env: str) -> list[tuple[str, dict[str, Any]]]:
        """Begin another attempt, as its supervisor does; return what was said until imports are over."""
        self.said.clear()
        self.warm.serve(lambda event, **fields: self.said.append((event, fields)))
        argv = [sys.executable, *(words or ("train.py",))]
        self.warm.begin(("big",), argv, {**self.env, **env}, str(self.code), False)
        self.until_imported()
        return self.said

    def reap(self) -> None:
        """Have the helper know of its end, as the supervisor's loop does."""
        for pid in self.warm.pids:
            with suppress(ChildProcessError):  # what the helper has started
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self.warm.reaped(pid)

    @property
    def problem(self) -> tuple[str, str]:
        """Why nothing was imported."""
        fields = next(fields for event, fields in self.said if event == "Preloaded")
        return str(fields["problem"] or ""), str(fields["detail"])

    @property
    def cold(self) -> list[tuple[str, str]]:
        """Why ranks were started by themselves."""
        return [(f["why"], f["detail"]) for event, f in self.said if event == "StartedCold"]

    def fork(self, *words: str, **env: str) -> int | None:
        """Fork a rank."""
        return self._start(self.warm_start, words, env)

    def warm_start(self, launch: processes.Launch, out: str, err: str) -> int | None:
        return self.warm.start(launch, None, out, err)

    def _start(
        self,
        how: Callable[[processes.Launch, str, str], int | None],
        words: tuple[str, ...],
        env: dict[str, str],
    ) -> int | None:
        argv = [sys.executable, *(words or ("train.py",))]
        env = {**self.env, "RANK": "0", "MASTER_PORT": "4711", **env}
        launch = processes.Launch(argv, env, str(self.code))
        self._number += 1
        stem = self.folder / str(self._number)
        return how(launch, f"{stem}.out", f"{stem}.err")

    def end_of(self, pid: int | None) -> tuple[int, str, str]:
        """Return exit code and output of the process that was started last; None was not."""
        assert pid is not None, self.said
        status = os.waitpid(pid, 0)[1]
        out, err = (self.folder / f"{self._number}.{end}" for end in ("out", "err"))
        return processes.exit_code(status), out.read_text(), err.read_text()

    def both(self, *words: str, **env: str) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
        """Return how a rank ends that is forked, and one that is started by itself."""
        forked = self.end_of(self._start(self.warm_start, words, env))
        return forked, self.end_of(self._start(processes.start, words, env))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A run's folder; this process is what the supervisor is: the one that gets all orphans."""
    monkeypatch.chdir(tmp_path)
    prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
    monkeypatch.setattr("launcher.agent.supervisor.warm.fork.ANSWERS", 120.0)
    made = Bench(tmp_path)
    yield made
    made.warm.close()
    while made.warm.pids:
        made.reap()
    prctl(processes.PR_SET_CHILD_SUBREAPER, 0)


MODULES = ("json", "multiprocessing.pool", "random", "resource")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [("train.py", "--x", "a b"), ("-u", "-m", "train", "1"), ("-X", "utf8", "part/train.py")],
    ids=["script", "module", "folder"],
)
def test_a_forked_rank_is_as_one_started_by_itself(bench: Bench, words: tuple[str, ...]) -> None:
    bench.preload(*MODULES, words=words)  # before there is any code
    bench.script(FACTS, "part/train.py" if "part/train.py" in words else "train.py")
    forked, started = bench.both(*words, RANK="3")
    assert (forked[0], forked[2]) == (started[0], started[2]) == (0, "")
    ours, theirs = json.loads(forked[1]), json.loads(started[1])
    for facts in (ours, theirs):
        facts["streams"] = [os.path.basename(path)[1:] for path in facts["streams"]]
    assert ours == theirs
    assert ours["environ"]["RANK"] == "3" and not bench.cold


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [("train.py", "--x", "a b"), ("-u", "-m", "train", "1"), ("part/train.py",)],
    ids=["script", "module", "folder"],
)
def test_so_is_one_of_another_run_than_the_one_that_imported(
    bench: Bench, words: tuple[str, ...]
) -> None:
    """Only /proc/PID/environ has another PATH, and no more variables of the rank than fit there."""
    place, path = bench.keep(), bench.env["PATH"]
    own = {"PATH": f"{bench.folder}/bin:{path}", "TOKEN": "of the first run"}
    argv = [sys.executable, *words, "--of-the-first-run"]
    env = {**bench.env, **own}
    bench.warm.begin(MODULES, argv, env, str(bench.code), False, ["TOKEN"])
    bench.until_imported()
    other = bench.folder / "runs" / "vivid-lynx-1c2d"
    other.mkdir(parents=True)
    bench.code = other / "code"
    bench.env |= {
        "PATH": f"{other}/bin:{path}",
        "TOKEN": "of the second run",
        "LAUNCHER_RUN_ID": other.name,
        "LAUNCHER_RUN_DIR": str(other),
        "LAUNCHER_OUTPUT_DIR": f"{other}/outputs",
    }
    bench.said.clear()
    bench.warm.begin(
        MODULES, [sys.executable, *words], dict(bench.env), str(bench.code), False, ["TOKEN"]
    )
    bench.until_imported()
    assert [fields.get("kept") for _, fields in bench.said] == [True]
    bench.script(FACTS, "part/train.py" if "part/train.py" in words else "train.py")
    forked, started = bench.both(*words, RANK="3")
    assert (forked[0], forked[2]) == (started[0], started[2]) == (0, "")
    ours, theirs = json.loads(forked[1]), json.loads(started[1])
    shown = set(ours.pop("shown")) ^ set(theirs.pop("shown"))
    assert shown == {f"PATH={place}/bin:{path}", f"PATH={other}/bin:{path}"}
    for facts in (ours, theirs):
        facts["streams"] = [os.path.basename(path)[1:] for path in facts["streams"]]
    assert ours == theirs and ours["environ"]["TOKEN"] == "of the second run"
    bench.script(
        "def train():\n    raise ValueError('no loss')\ntrain()\n",
        words[-1] if words[-1].endswith(".py") else "train.py",
    )
    forked, started = bench.both(*words)
    assert forked == started and (not words[0].endswith(".py") or str(other) in forked[2])


@pytest.mark.parametrize("stacks", [False, True], ids=["plain", "stacks"])
@pytest.mark.parametrize("path", ["", "/elsewhere/packages"], ids=["no path", "path"])
def test_others_see_the_variables_of_a_rank(bench: Bench, path: str, stacks: bool) -> None:
    """Such as ``ps e`` and whoever looks for the processes of a run."""
    bench.script("print(open('/proc/self/environ').read().rstrip('\\0').replace('\\0', '\\n'))\n")
    own = {"PYTHONPATH": path} if path else {}
    if stacks:
        own["PYTHONPATH"] = ":".join(filter(None, [INSIDE, path]))
    bench.env.update(own)
    argv = [sys.executable, "train.py"]
    bench.warm.begin(("json",), argv, dict(bench.env), str(bench.code), stacks)
    bench.until_imported()
    forked, started = bench.both(RANK="3", LAUNCHER_ATTEMPT="1")
    assert sorted(forked[1].splitlines()) == sorted(started[1].splitlines())
    assert "RANK=3" in forked[1] and "LAUNCHER_PRELOAD" not in forked[1]
    code, out, _ = bench.end_of(bench.fork(RANK="4", TORCHELASTIC_ERROR_FILE="/" + "x" * 9000))
    assert code == 0 and "RANK=4" in out, "what has no room is left out"


def test_others_see_the_variables_of_a_rank_whose_python_a_script_starts(bench: Bench) -> None:
    """A shell orders variables anew, as the one does that pyenv has in front of each Python."""
    wrapper = bench.folder / "python3"
    wrapper.write_text(f'#!/bin/sh\nexport X=1 Y=2 Z=3\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    bench.script("print(open('/proc/self/environ').read().rstrip('\\0').replace('\\0', '\\n'))\n")
    argv, env = [str(wrapper), "train.py"], {**bench.env, "RANK": "3"}
    bench.warm.begin(("json",), argv, dict(bench.env), str(bench.code), False)
    bench.until_imported()
    pid = bench.warm.start(processes.Launch(argv, env, str(bench.code)), None, "0.out", "0.err")
    code, out, _ = bench.end_of(pid)
    shown = set(out.splitlines())
    assert code == 0 and {"RANK=3", "Z=3", "LAUNCHER_RUN_ID=calm-otter-3f9a"} <= shown
    assert "" not in shown, "psutil takes that for the end"


def test_arguments_of_a_rank_are_its_own(bench: Bench) -> None:
    bench.script(FACTS)
    bench.preload(*MODULES, words=("train.py", "--rank", "{{rank}}", "--from", "{{master_addr}}"))
    words = ("train.py", "--rank", "12", "--from", "10.0.0.1")
    forked, started = bench.both(*words)
    for name in ("argv", "orig_argv", "title"):
        assert json.loads(forked[1])[name] == json.loads(started[1])[name], name
    longer = ("train.py", "--rank", "x" * 5000)
    assert json.loads(bench.end_of(bench.fork(*longer))[1])["argv"] == list(longer)


@pytest.mark.thorough
@pytest.mark.parametrize("end", ENDS)
def test_a_forked_rank_ends_as_one_started_by_itself(bench: Bench, end: str) -> None:
    bench.preload()
    bench.script(ENDS[end])
    forked, started = bench.both()
    if end == "faulthandler":  # the addresses of threads
        forked, started = ((a, b, c.split("\n", 1)[1]) for a, b, c in (forked, started))
    assert forked == started


def test_what_imports_print_is_in_every_log(bench: Bench) -> None:
    packages = bench.folder / "packages"
    packages.mkdir()
    text = "import sys\nprint('a banner')\nsys.stderr.write('a warning\\n')\n"
    (packages / "loud.py").write_text(text)
    bench.script("import loud\nprint('trains')\n")
    bench.preload("loud", PYTHONPATH=str(packages))
    for _ in range(2):
        forked, started = bench.both()
        assert forked == started == (0, "a banner\ntrains\n", "a warning\n")


def test_a_python_that_bash_runs_before_is_a_python_as_any(bench: Bench) -> None:
    """As conda is, which says how to activate an environment."""
    bench.script("import os\nprint(os.environ['SAID'], os.environ.get('PYTHONPATH'))\n")
    front = f'export SAID=$({sys.executable} -c "print(40 + 2)"); exec "$@"'
    argv = ["bash", "-c", front, "prepare", sys.executable, "train.py"]
    bench.warm.begin(("json",), argv, dict(bench.env), str(bench.code), False)
    bench.until_imported()
    launch = processes.Launch(argv, {**bench.env, "RANK": "0"}, str(bench.code))
    pid = bench.warm.start(launch, None, "0.out", "0.err")
    assert bench.end_of(pid) == (0, "42 None\n", "")


def test_ranks_draw_different_numbers(bench: Bench) -> None:
    pytest.importorskip("numpy")
    bench.script(
        "import logging, random, multiprocessing as m, numpy\n"
        "print(random.random(), numpy.random.rand(), logging._startTime, bytes(m.current_process().authkey))\n"
    )
    bench.preload("numpy", "random", "multiprocessing", "logging")
    one, other = (bench.end_of(bench.fork())[1].split(" ", 3) for _ in range(2))
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_a_rank_dies_with_the_supervisor_and_not_with_the_helper(bench: Bench) -> None:
    bench.script("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    bench.preload()
    pid = bench.fork()
    assert pid and processes.table()[pid][0] == os.getpid()
    labs.wait_until(lambda: (bench.folder / "1.out").read_text() == "up\n", "the script")
    bench.warm.close()
    while bench.warm.pids:
        bench.reap()
    assert processes.table()[pid][1] not in "ZX"
    reader = processes.output_of(
        ["grep", "-c", "LAUNCHER_RUN_ID=calm-otter-3f9a", f"/proc/{pid}/environ"]
    )
    assert reader and reader.strip() == "1", "the run's processes are found by their environment"
    os.kill(pid, signal.SIGKILL)
    assert bench.end_of(pid)[0] == -signal.SIGKILL
    assert bench.fork() is None and bench.cold == [("exited", "")]


def _package(bench: Bench, text: str) -> None:
    packages = bench.folder / "packages"
    packages.mkdir()
    (packages / "big.py").write_text(text)
    bench.script("import big\n")
    bench.preload("big", PYTHONPATH=str(packages))


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n", "threads", "1"),
        ("import nowhere\n", "import-failed", "ModuleNotFoundError: No module named 'nowhere'"),
        ("import os\nos._exit(3)\n", "exited", ""),
        ("import sys\nsys.exit('no licence')\n", "exited", "SystemExit: no licence"),
        ("import os\nf = open('/dev/null')\nos.readlink = lambda p: '/dev/nvidia0'\n", "gpu-in-use", "/dev/nvidia0"),
    ],
    ids=["threads", "missing", "exit", "message", "gpu"],
)  # fmt: skip
def test_an_import_that_no_rank_could_share(
    bench: Bench, text: str, code: str, detail: str
) -> None:
    _package(bench, text)
    assert bench.problem == (code, detail)
    assert bench.fork() is None and not bench.cold, "the host has said why already"


def test_an_import_that_hangs_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = bench.folder / "packages"
    packages.mkdir()
    (packages / "big.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    argv, env = [sys.executable, "train.py"], {**bench.env, "PYTHONPATH": str(packages)}
    bench.warm.begin(("big",), argv, env, str(bench.code), False)
    deadline = time.monotonic() + 180
    while not (bench.folder / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (pid,) = bench.warm.pids
    bench.warm.look(bench.warm.next_look)
    assert bench.problem == ("too-slow", "120")
    assert processes.exit_code(os.waitpid(pid, 0)[1]) == -signal.SIGKILL and bench.warm.reaped(pid)


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        ("import os\nos.environ['OMP_NUM_THREADS'] = '4'\nimport big\n", "sets-variable", "train.py:2 OMP_NUM_THREADS"),
        ("import big, os\nos.environ['OMP_NUM_THREADS'] = '4'\n", "", ""),
        ("import os\nos.environ['MASTER_PORT'] = '1'\nimport big\n", "", ""),
        ("import own\nimport big\n", "sets-variable", "own.py:1 A"),
    ],
)  # fmt: skip
def test_a_script_that_sets_variables_before_the_import(
    bench: Bench, text: str, code: str, detail: str
) -> None:
    bench.script("from os import environ; environ.setdefault('A', '1')\n", "own.py")
    _package(bench, "")
    bench.script(text)
    pid = bench.fork()
    assert bench.cold == ([(code, detail)] if code else [])
    if pid:
        assert bench.end_of(pid)[0] == 0


def test_a_module_of_the_run_in_the_place_of_an_imported_one(bench: Bench) -> None:
    bench.script("import colorsys\n")
    bench.preload("colorsys")
    bench.script("print('mine')\n", "colorsys.py")
    assert bench.fork() is None and bench.cold == [("hides-module", "colorsys.py")]


def test_an_import_that_asks_for_a_rank(bench: Bench) -> None:
    _package(bench, "import os\nmine = os.environ.get('RANK')\n")
    assert bench.fork() is None and bench.cold == [("read-already", "RANK")]
    assert bench.fork() is None and len(bench.cold) == 1, "a reason is given once"


def test_other_variables_and_commands(bench: Bench) -> None:
    bench.script("")
    bench.preload()
    assert bench.fork(CUDA_VISIBLE_DEVICES="1") is None
    assert bench.fork("other.py") is None
    assert bench.cold == [("other-variable", "CUDA_VISIBLE_DEVICES"), ("other-command", "")]


def test_a_python_without_our_hook_never_starts_the_script(bench: Bench) -> None:
    bench.script("open('ran', 'w').close()\n")
    wrapper = bench.folder / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')
    wrapper.chmod(0o755)
    bench.warm.begin(("json",), [str(wrapper), "train.py"], dict(bench.env), str(bench.code), False)
    bench.until_imported()
    assert bench.problem == ("exited", f"{wrapper} does not run sitecustomize")
    assert not (bench.code / "ran").exists()


COUNTS = "open('imports', 'a').write('.')\nN = 1\n"  # in the run's folder


def test_the_next_attempt_takes_what_was_imported(bench: Bench) -> None:
    _package(bench, COUNTS)
    bench.script("import big, os, sys\nprint(big.N, os.environ['LAUNCHER_ATTEMPT'])\n")
    assert bench.end_of(bench.fork(LAUNCHER_ATTEMPT="0"))[1] == "1 0\n"
    (pid,) = bench.warm.pids
    assert bench.warm.is_kept
    said = bench.next()
    assert [(event, fields["kept"], fields["problem"]) for event, fields in said] == [
        ("Preloaded", True, None)
    ]
    assert bench.end_of(bench.fork(LAUNCHER_ATTEMPT="1", MASTER_PORT="4712"))[1] == "1 1\n"
    assert bench.warm.pids == {pid} and (bench.folder / "imports").read_text() == "."


def _kill(bench: Bench) -> None:
    (pid,) = bench.warm.pids
    os.kill(pid, signal.SIGKILL)
    while bench.warm.pids:
        bench.reap()


def _kill_unseen(bench: Bench) -> None:
    (pid,) = bench.warm.pids
    os.kill(pid, signal.SIGKILL)


def _stop(bench: Bench) -> None:
    (pid,) = bench.warm.pids
    os.kill(pid, signal.SIGSTOP)


def _edit(bench: Bench) -> None:
    (bench.folder / "packages" / "big.py").write_text(COUNTS + "\n")


@pytest.mark.parametrize("what", ["library", "package"])
def test_what_was_imported_depends_on_more_than_files_of_modules(bench: Bench, what: str) -> None:
    """A library that a module loads, and packages that it would use if they were there."""
    site = bench.folder / "site-packages"
    site.mkdir()
    library = site / "libfast.so"
    (site / "found.py").touch()
    maps = Path("/proc/self/maps").read_text().splitlines()
    loaded = next(Path(line.split()[-1]) for line in maps if "/libm" in line)
    shutil.copy(loaded, library)
    text = f"import ctypes\nkept = ctypes.CDLL({str(library)!r})\n"
    text += "try:\n    import extra\nexcept ImportError:\n    pass\n"
    (site / "big.py").write_text(text)
    bench.script("import big, found\n")
    bench.preload("big", PYTHONPATH=str(site))
    assert bench.end_of(bench.fork())[0] == 0
    said = bench.next()
    assert [event for event, _ in said] == ["Preloaded"], "ranks write byte code there"
    if what == "library":
        newer = site / "libfast.so.new"
        shutil.copy(loaded, newer)
        newer.rename(library)
    else:
        (site / "extra").mkdir()
    said = bench.next()
    assert [event for event, _ in said] == ["ImportedAnew", "Preloaded"]
    changed = library if what == "library" else site
    assert (said[0][1]["why"], said[0][1]["detail"]) == ("file-changed", str(changed))


@pytest.mark.parametrize("what", ["pth", "earlier", "file", "output"])
def test_what_was_imported_depends_on_where_python_looks(bench: Bench, what: str) -> None:
    """A .pth file that names another folder, and a module that comes before the one that was found."""
    site, early = bench.folder / "site-packages", bench.folder / "early"
    site.mkdir()
    early.mkdir()
    (site / "own.pth").write_text("/somewhere\n")
    (site / "big.py").write_text("import json\n")
    bench.script("import big\n")
    bench.preload("big", PYTHONPATH=f"{early}:{site}")
    if what == "pth":
        (site / "own.pth").write_text("/elsewhere/\n")
    elif what == "earlier":
        (early / "json").mkdir()
    else:
        (early / ("big.py" if what == "file" else "model.pt")).touch()
    said = bench.next()
    if what == "output":  # none that Python could import
        assert [event for event, _ in said] == ["Preloaded"]
        return
    assert [event for event, _ in said] == ["ImportedAnew", "Preloaded"]
    changed = site / "own.pth" if what == "pth" else early
    assert (said[0][1]["why"], said[0][1]["detail"]) == ("file-changed", str(changed))


def test_an_environment_that_bash_prepares_otherwise_is_another_one(bench: Bench) -> None:
    """As a module file that was changed, or an activate.d of conda."""
    packages, prepares = bench.folder / "packages", bench.folder / "modulefile"
    packages.mkdir()
    (packages / "big.py").touch()
    bench.keep()
    bench.env["PYTHONPATH"] = str(packages)
    bench.script("import big, os\nprint(os.environ['MARK'])\n")
    script = f'. {prepares}; exec "$@"\n'
    argv = ["bash", "-c", script, "prepare", sys.executable, "train.py"]

    def begin() -> list[str]:
        bench.said.clear()
        bench.warm.serve(lambda event, **fields: bench.said.append((event, fields)))
        bench.warm.begin(("big",), argv, dict(bench.env), str(bench.code), False)
        bench.until_imported()
        return [f"{event} {fields.get('detail')}" for event, fields in bench.said]

    prepares.write_text("export MARK=one\n")
    assert begin() == ["Preloaded "] and begin() == ["Preloaded "]
    prepares.write_text("export MARK=two\n")
    assert begin() == ["ImportedAnew MARK", "Preloaded "]
    assert begin() == ["Preloaded "]
    prepares.write_text("exit 1\n")
    assert begin()[0] == "ImportedAnew "


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("harm", "env", "why", "detail"),
    [
        (_kill, {}, "exited", ""),
        (_kill_unseen, {}, "exited", ""),
        (_stop, {}, "no-answer", ""),
        (_edit, {}, "file-changed", "packages/big.py"),
        (None, {"CUDA_VISIBLE_DEVICES": "1"}, "other-variable", "CUDA_VISIBLE_DEVICES"),
    ],
    ids=["killed", "killed unseen", "stopped", "edited", "variable"],
)
def test_what_the_next_attempt_cannot_take(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Bench], None] | None,
    env: dict[str, str],
    why: str,
    detail: str,
) -> None:
    _package(bench, COUNTS)
    (before,) = bench.warm.pids
    if harm:
        harm(bench)
    with monkeypatch.context() as patched:
        if harm is _stop:  # nobody but the old helper has to answer so soon
            patched.setattr("launcher.agent.supervisor.warm.fork.ANSWERS", 1.0)
        said = bench.next(**env)
    assert [event for event, _ in said] == ["ImportedAnew", "Preloaded"]
    assert said[0][1]["why"] == why and said[0][1]["detail"].endswith(detail)
    assert "kept" not in said[1][1] and said[1][1]["problem"] is None
    assert bench.end_of(bench.fork(**env))[0] == 0
    assert (bench.folder / "imports").read_text() == ".."
    while len(bench.warm.pids) > 1:  # the old one
        bench.reap()
    assert before not in bench.warm.pids


def test_nothing_is_kept_of_what_was_closed_or_failed(bench: Bench) -> None:
    _package(bench, "import nowhere\n")
    assert not bench.warm.is_kept
    said = bench.next()
    assert [event for event, _ in said] == ["Preloaded"], "nothing was lost"
    bench.warm.close()
    assert not bench.warm.is_kept
