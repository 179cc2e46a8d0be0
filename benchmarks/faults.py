"""What a fault costs: from a crash to the last process gone, from a pulled cable to the report, from
`attach` to the first line, a log flood through a reconnect, and a run that idles.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .job import by_hand
from .measure import CommandError, Sample, race, ratios, spread, table
from .place import Place, labs, place

#: Seconds after which what has not ended counts as staying for ever.
FOR_EVER = 15.0
#: Seconds over which an idle run is sampled.
IDLE = 60.0
#: Lines of 100 bytes that each of two ranks prints.
LINES = 1_000_000

CRASH = """
import os, sys, time
if "talk" in sys.argv:
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
open(f"/tmp/begun-{os.environ['RANK']}", "w").close()
while True:
    if "talk" in sys.argv:
        dist.all_reduce(torch.ones(1000))
    time.sleep(0.02)
"""
TICKER = "import itertools, time\nfor n in itertools.count():\n    print(n, flush=True)\n    time.sleep(0.05)\n"
FLOOD = f"import sys\nfor n in range({LINES}):\n    sys.stdout.write('%099d\\n' % n)\n"


def main(rounds: int) -> str:
    """Five tables. Cables and idling take their time: two rounds and one."""
    with place(2) as here:
        for name, text in (("crash", CRASH), ("ticker", TICKER), ("flood", FLOOD)):
            (here.empty / f"{name}.py").write_text(text)
        for host in here.lab.hosts.values():
            host.write("/root/code/train.py", CRASH.encode())
        return "\n\n".join(
            [
                _crash(here, rounds),
                _cable(here, min(rounds, 2)),
                _attach(here, rounds),
                _reconnect(here, rounds),
                _idle(here),
            ]
        )


@contextlib.contextmanager
def _running(here: Place, argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command; its output goes nowhere, and at the end it is killed."""
    process = subprocess.Popen(
        argv,
        env=here.env,
        cwd=here.empty,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _events(here: Place) -> list[dict[str, object]]:
    text = (here.run_folder() / "events.jsonl").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


# -- a crash


def _crash(here: Place, rounds: int) -> str:
    rows = []
    for how, words in (("in all_reduce", ["talk"]), ("on their own", [])):
        script = f"train.py {' '.join(words)}"

        def hand(script: str = script) -> list[str]:
            return [w.replace("train.py --epochs 1", script) for w in by_hand(here)]

        def ours(framework: str, words: list[str] = words) -> list[str]:
            more = ["--nproc-per-node", "2", "--framework", framework, "crash.py"]
            return here.launcher(2, *more, *words)

        ways: dict[str, Callable[[], list[str]]] = {
            "launcher --framework torchrun": lambda: ours("torchrun"),
            "launcher --framework torch": lambda: ours("torch"),
            "by hand: ssh, torchrun": hand,
        }
        found = race(
            {name: lambda w=way: _one_crash(here, w()) for name, way in ways.items()}, rounds, 0
        )  # type: ignore[misc]
        mine = found["launcher --framework torchrun"]
        for name, samples in found.items():
            never = any(s.wall >= FOR_EVER for s in samples)
            wall = "never" if never else spread([s.wall for s in samples])
            ratio = "-" if never or samples is mine else spread(ratios(mine, samples))
            rows.append([how, name, wall, ratio])
    head = ["the others are", "way", "s to the last process gone", "launcher torchrun / it"]
    return "One rank of four on two hosts is killed (-9):\n\n" + table(head, rows)


def _ranks(host: labs.LabHost) -> list[int]:
    """Training scripts, and torchrun above them."""
    words = {"crash.py", "train.py", "torch.distributed.run"}
    return [p.pid for p in host.processes() if words & {w.rpartition("/")[2] for w in p.argv}]


def _one_crash(here: Place, argv: list[str]) -> Sample:
    hosts = list(here.lab.hosts.values())
    for host in hosts:
        host.run("sh", "-c", "rm -f /tmp/begun-*")
    with _running(here, argv):

        def begun() -> bool:
            return sum(len(list(host.path("/tmp").glob("begun-*"))) for host in hosts) == 4

        labs.wait_until(begun, "four ranks", 90)
        time.sleep(0.5)
        victim = next(
            p.pid
            for p in hosts[0].processes()
            if p.environ.get("RANK") == "1" and "python" in p.argv[0]
        )
        struck = time.perf_counter()
        hosts[0].run("kill", "-9", str(victim))
        with contextlib.suppress(labs.LabError):
            labs.wait_until(lambda: not any(map(_ranks, hosts)), "the end", FOR_EVER)
        wall = time.perf_counter() - struck
    for host in hosts:
        if left := _ranks(host):
            host.run("kill", "-9", *map(str, left), check=False)
    labs.wait_until(lambda: not any(map(_ranks, hosts)), "an empty host")
    return Sample(wall)


# -- a pulled cable


def _cable(here: Place, rounds: int) -> str:
    rows = []
    host = here.lab.hosts["lab2"]
    for lost_after in (5, 30):
        noticed, reported = [], []
        for _ in range(rounds):
            argv = here.launcher(
                2,
                "--lost-after",
                f"{lost_after}s",
                "--orphan-timeout",
                "10s",
                "--grace=2s",
                "--framework=env",
                "--",
                "sleep",
                "600",
            )
            with _running(here, argv) as process:
                labs.wait_until(lambda: any("sleep" in p.argv for p in host.processes()), "it", 60)
                struck, at = time.perf_counter(), time.time()
                host.unplug()
                process.wait(120)
                reported.append(time.perf_counter() - struck)
            dropped = [e["time"] for e in _events(here) if e["event"] == "ConnectionDropped"]
            noticed.append(float(str(dropped[0])) - at)
            host.plug()
            labs.wait_until(
                lambda: not any("sleep" in p.argv for p in host.processes()), "its end", 60
            )
        rows.append([f"{lost_after} s", spread(noticed, ".1f"), spread(reported, ".1f")])
    head = ["--lost-after", "s to notice", "s to the report"]
    return "A cable is pulled for good:\n\n" + table(head, rows)


# -- attach


def _attach(here: Place, rounds: int) -> str:
    detach = here.launcher(2, "--detach", "--framework", "torch", "ticker.py")
    subprocess.run(detach, env=here.env, cwd=here.empty, capture_output=True, check=True)
    folder = here.run_folder()
    log = f".launcher/host/runs/{folder.name}/logs/attempt-0/rank-1.out"
    attach = [sys.executable, "-m", "launcher", "attach", folder.name]
    tail = ["bash", "-c", f"{here.ssh()} lab2 tail -f -n 1 {shlex.quote(log)}"]
    watched = race(
        {
            "attach, a follower at work": lambda: _first_line(here, attach),
            "ssh host tail -f": lambda: _first_line(here, tail),
        },
        rounds,
    )
    os.kill(int((folder / "launcher.lock").read_text()), signal.SIGKILL)
    taken = race({"attach, nobody follows": lambda: _first_line(here, attach)}, rounds)
    subprocess.run(
        [sys.executable, "-m", "launcher", "stop", folder.name],
        env=here.env,
        capture_output=True,
        check=True,
    )
    rows = [
        [name, spread([s.wall for s in samples])] for name, samples in {**watched, **taken}.items()
    ]
    head = ["command", "s to the first line"]
    return "A run of two ranks on two hosts that print 20 lines a second:\n\n" + table(head, rows)


def _first_line(here: Place, argv: list[str]) -> Sample:
    began = time.perf_counter()
    process = subprocess.Popen(
        argv,
        env=here.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout
    try:
        if not process.stdout.readline():
            raise CommandError(f"no line of {' '.join(argv)}")
        return Sample(time.perf_counter() - began)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# -- a reconnect


def _reconnect(here: Place, rounds: int) -> str:
    found = race(
        {
            "undisturbed": lambda: _flood(here, broken=False),
            "sshd sessions of both hosts killed halfway": lambda: _flood(here, broken=True),
        },
        rounds,
    )
    total = 2 * LINES * 100
    calm = found["undisturbed"]
    rows = [
        [
            name,
            spread([s.wall for s in samples]),
            spread([total / 1e6 / s.wall for s in samples], ".0f"),
            "1" if samples is calm else spread(ratios(samples, calm)),
        ]
        for name, samples in found.items()
    ]
    head = ["", "wall, s", "MB/s", "it / undisturbed"]
    words = (
        f"Two ranks print {total // 2_000_000} MB each, all of the run counts; bytes are compared:"
    )
    return f"{words}\n\n{table(head, rows)}"


def _flood(here: Place, broken: bool) -> Sample:
    total = 2 * LINES * 100
    began = time.perf_counter()
    with _running(here, here.launcher(2, "--framework", "torch", "flood.py")) as process:
        if broken:
            labs.wait_until(
                lambda: process.poll() is not None or _here(here) > total / 2, "half", 60
            )
            if process.poll() is not None:
                raise CommandError("it was over before the connections were cut")
            for host in here.lab.hosts.values():
                host.kill_sshd_sessions()
        code = process.wait(120)
        wall = time.perf_counter() - began
    if code or _here(here) != total:
        raise CommandError(f"exit {code}, {_here(here)} bytes of {total}")
    for rank, host in enumerate(here.lab.hosts.values()):
        folder = here.run_folder()
        name = f"logs/attempt-0/rank-{rank}.out"
        there = host.path(f"/root/.launcher/host/runs/{folder.name}/{name}")
        if there.read_bytes() != (folder / name).read_bytes():
            raise CommandError(f"{name} differs")
        there.unlink()
        (folder / name).unlink()
    return Sample(wall)


def _here(here: Place) -> int:
    """Bytes of logs of the latest run on this machine."""
    try:
        return sum(log.stat().st_size for log in here.run_folder().glob("logs/attempt-0/*.out"))
    except (ValueError, FileNotFoundError):
        return 0


# -- an idle run


def _idle(here: Place) -> str:
    rows = []
    for words in ([], ["--orphan-timeout", "30m", "--stall-timeout", "10m"]):
        argv = here.launcher(2, "--detach", *words, "--framework=env", "--", "sleep", "600.25")
        subprocess.run(argv, env=here.env, cwd=here.empty, capture_output=True, check=True)
        folder = here.run_folder()
        host = here.lab.hosts["lab1"]
        places = {"follower, here": Path(f"/proc/{(folder / 'launcher.lock').read_text().strip()}")}
        for process in host.processes():
            if any("agent-" in word for word in process.argv):
                place_of = host.path(f"/proc/{process.pid}")
                kind = "supervisor" if _stat(place_of)[1] == "1" else "relay"
                places[f"{kind}, on a host"] = place_of
        time.sleep(2.0)
        before = {name: _ticks(place_of) for name, place_of in places.items()}
        time.sleep(IDLE)
        for name, place_of in places.items():
            used = (_ticks(place_of) - before[name]) / os.sysconf("SC_CLK_TCK") * 60 / IDLE
            kib = _memory(place_of)
            sizes = [f"{kib[key] / 1024:.1f}" for key in ("Rss", "Pss", "Private_Dirty")]
            rows.append([" ".join(words) or "-", name, *sizes, f"{used:.2f}", f"{used * 1440:.0f}"])
        subprocess.run(
            [sys.executable, "-m", "launcher", "stop", folder.name],
            env=here.env,
            capture_output=True,
            check=True,
        )
    head = ["options", "process", "RSS, MiB", "PSS", "private dirty", "CPU s a minute", "a day"]
    words_ = f"A detached run on two hosts sleeps; {IDLE:.0f} s sampled in steps of 10 ms, the day extrapolated:"
    return f"{words_}\n\n{table(head, rows)}"


def _stat(place_of: Path) -> list[str]:
    """The fields of proc(5) from the state on."""
    return (place_of / "stat").read_text().rpartition(")")[2].split()


def _ticks(place_of: Path) -> int:
    return sum(map(int, _stat(place_of)[11:13]))  # utime, stime


def _memory(place_of: Path) -> dict[str, int]:
    lines = (place_of / "smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}
