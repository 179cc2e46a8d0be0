"""Shared folders of three hosts: from the moment that a writer is done until every host has it whole.

All hosts of the lab have one clock, so their times can be compared.
"""

from __future__ import annotations

import json

from .measure import run, spread, table
from .place import Place, place

HOSTS = 3
#: Runs on every host; the first one writes, all others note when they have it.
SCRIPT = r"""
import json, os, pathlib, time
me, folder = int(os.environ["NODE_RANK"]), pathlib.Path("shared")
GB, FILES, TIMES = 1_000_000_000, 10_000, 20

def has(name):
    while not (folder / name).exists():
        time.sleep(0.01)
    return time.time()

def cpu():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = pathlib.Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            if b"share" in words:
                fields = pathlib.Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            pass
    return 0.0

def step(name, write, last):
    (folder / f"{name}-ready-{me}").touch()
    for host in range(3):
        has(f"{name}-ready-{host}")
    before = cpu()
    if me == 0:
        write()
        print(json.dumps({"step": name, "written": time.time()}), flush=True)
    print(json.dumps({"step": name, "arrived": has(last), "cpu": cpu() - before}), flush=True)

def gigabyte():
    with (folder / "big").open("wb") as file:
        for _ in range(1000):
            file.write(bytes(GB // 1000))

def many():
    (folder / "many").mkdir()
    for number in range(FILES):
        (folder / "many" / str(number)).write_text("x" * 1000)
    (folder / "many" / "end").touch()

step("1 GB", gigabyte, "big")
step("10,000 files of 1 kB", many, "many/end")
(folder / f"times-ready-{me}").touch()
for host in range(3):
    has(f"times-ready-{host}")
for number in range(TIMES):
    name, path = f"rewritten {number}", folder / "latest"
    if me == 0:
        path.write_text(str(number))
        print(json.dumps({"step": name, "written": time.time()}), flush=True)
        time.sleep(1)
        continue
    while True:
        try:
            if int(path.read_text() or -1) >= number:
                break
        except OSError:
            pass
        time.sleep(0.01)
    print(json.dumps({"step": name, "arrived": time.time()}), flush=True)
(folder / f"end-{me}").touch()
for host in range(3):
    has(f"end-{host}")
"""


def main(rounds: int) -> str:
    """The table: seconds until the last host has it, and the CPU of all three."""
    seconds: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    with place(HOSTS) as here:
        (here.empty / "share.py").write_text(SCRIPT)
        for _ in range(rounds):
            _round(here, seconds, spent)
    rows = [
        [name, spread(seconds[name]), spread(spent[name]) if name in spent else ""]
        for name in seconds
    ]
    return table(["what", "arrived after, s", "CPU of all three, s"], rows)


def _round(here: Place, seconds: dict[str, list[float]], spent: dict[str, list[float]]) -> None:
    words = ("--framework", "env", "--share", "shared", "--keep-on-host", "*", "python share.py")
    run(here.launcher(HOSTS, *words), env=here.env, limit=600.0)
    runs = sorted((here.home / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
    logs = [(runs[-1] / f"logs/attempt-0/node-{n}.out").read_text() for n in range(HOSTS)]
    written, arrived, cpu = {}, {}, {}  # type: ignore[var-annotated]
    for line in "".join(logs).splitlines():
        told = json.loads(line)
        name = told["step"]
        if "written" in told:
            written[name] = told["written"]
        else:
            arrived[name] = max(arrived.get(name, 0.0), told["arrived"])
            cpu[name] = cpu.get(name, 0.0) + told.get("cpu", 0.0)
    for name, last in arrived.items():
        kind = "rewritten every second" if name.startswith("rewritten") else name
        seconds.setdefault(kind, []).append(last - written[name])
        if kind == name:
            spent.setdefault(kind, []).append(cpu[name])
