"""Data sets and outputs: from this machine and from a store to several hosts at once, and back.

Every cable has a limit where that is said, that of this machine and the store on it as well: what leaves
here is counted at its own end. Each contender begins on hosts that have nothing of the set.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measure import CommandError, Sample, race, ratios, run, spread, table
from .place import ROOT, Place, here_or_skipped, labs, place

sys.path.append(str(ROOT / "tests"))
from support import object_store

SIZES = (2, 4, 8)
MBIT = 200
#: Files of the set that does not change, and bytes of each.
MANY, LITTLE = 100_000, 1000
#: Bytes of the file whose way costs memory; less where the disk has not room for it and its copies.
LARGE, COPIES = 10_000_000_000, 5
GB = 1_000_000_000
COPY, KEY, BUCKET = "/root/copy", "/root/chain_key", "bench"


@dataclass(frozen=True)
class Files:
    """A set of ``count`` files of ``each`` bytes."""

    name: str
    count: int
    each: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.count * self.each

    def __str__(self) -> str:
        unit, name = (1_000_000, "MB") if self.each >= 1_000_000 else (1000, "kB")
        return f"{self.count:,} files of {self.each // unit} {name}"

    def source(self, here: Place) -> Path:
        """Return a folder of this machine with it."""
        return here.scratch / self.name

    def write(self, here: Place, s3: object_store.Store) -> None:
        """Make it here and in the store, and let launcher know both."""
        noise = random.Random(self.name)
        source = self.source(here)
        source.mkdir()
        s3.put(BUCKET, {})
        for number in range(self.count):
            folder = source / f"{number // 1000}"
            folder.mkdir(exist_ok=True)
            data = noise.randbytes(self.each)
            (folder / str(number)).write_bytes(data)
            s3.put(BUCKET, {f"{self.name}/{number // 1000}/{number}": data})
        run(_data(here, "add", f"{self.name}-here", str(source)), env=here.env, limit=900.0)
        stored = f"s3://{BUCKET}/{self.name}"
        run(_data(here, "add", f"{self.name}-stored", stored), env=here.env, limit=900.0)


#: A few large files, many small ones, and a fortieth of 20 GB in 4 files and in 200,000.
FEW, SMALL = Files("few", 4, 25_000_000), Files("small", 1000, 100_000)
LONG, WIDE = Files("long", 4, 125_000_000), Files("wide", 5000, 100_000)


def main(rounds: int, only: Sequence[str] = ()) -> str:
    """Some tables; ``only`` those of these names."""
    tables: dict[str, Callable[[Place, object_store.Store], str]] = {
        "memory": _memory,  # first: a child's peak is never less than the size of this process
        "here": lambda here, s3: _fan_out(here, FEW, rounds),
        "store": lambda here, s3: _from_store(here, s3, FEW, rounds),
        "small": lambda here, s3: "\n\n".join(
            [_fan_out(here, SMALL, rounds), _from_store(here, s3, SMALL, rounds)]
        ),
        "one": lambda here, s3: _one_host(here, s3, FEW, rounds),
        "one-small": lambda here, s3: _one_host(here, s3, SMALL, rounds),
        "unchanged": lambda here, s3: _unchanged(here, rounds),
        "scaled": lambda here, s3: _scaled(here, s3, rounds),
    }
    needs = {"here": [FEW], "store": [FEW], "one": [FEW], "small": [SMALL], "one-small": [SMALL]}
    names = [name for name in tables if name in only or not only]
    with (
        place(max(SIZES)) as here,
        object_store.running(here.scratch / "s3", here.lab.address) as s3,
    ):
        here.env |= s3.environment
        parts, written = [], set()
        for host in here.lab.hosts.values():
            host.write(KEY, here.lab.identity_file.read_bytes(), 0o600)
        for name in names:
            for files in needs.get(name, []):
                if files not in written:
                    files.write(here, s3)
                    run(_push(here, f"{files.name}-here", list(here.lab.hosts)), env=here.env)
                written.add(files)
            parts.append(tables[name](here, s3))
    return "\n\n".join(parts)


# -- several hosts at once


def _fan_out(here: Place, files: Files, rounds: int) -> str:
    source = files.source(here)
    contenders: dict[str, _Fresh] = {}
    for size in (1, *SIZES):
        names = here.names(size)
        contenders[f"{size} launcher"] = _Fresh(here, _push(here, f"{files.name}-here", names))
        if size > 1:
            contenders[f"{size} rsync, a star"] = _Fresh(here, _star(here, source, names))
            contenders[f"{size} rsync, a chain"] = _Fresh(here, _chain(here, source, names))
    with _limited(here, MBIT):
        samples = race(contenders, rounds, warm=0)
    title = f"{files} of this machine, all links {MBIT} Mbit/s:"
    return f"{title}\n\n{_table(samples, contenders, 'from here', files.bytes)}"


def _from_store(here: Place, s3: object_store.Store, files: Files, rounds: int) -> str:
    contenders: dict[str, _Fresh] = {}
    rclone = _found("rclone")
    for size in (1, *SIZES):
        names = here.names(size)
        contenders[f"{size} launcher"] = _Fresh(here, _push(here, f"{files.name}-stored", names))
        if rclone and size > 1:
            command = _rclone(rclone, s3, f"S:{BUCKET}/{files.name}", COPY)
            contenders[f"{size} rclone on each"] = _Fresh(here, _everywhere(here, names, command))
    with _limited(here, MBIT):
        samples = race(contenders, rounds, warm=0)
    title = f"{files} of an S3 store (SeaweedFS), all links {MBIT} Mbit/s:"
    return f"{title}\n\n{_table(samples, contenders, 'by the store', files.bytes)}"


def _table(
    samples: Mapping[str, list[Sample]],
    contenders: Mapping[str, _Fresh],
    sender: str,
    total: int,
) -> str:
    one = samples.get("1 launcher", [])
    rows = []
    for name, its in samples.items():
        size, _, way = name.partition(" ")
        ours = samples.get(f"{size} launcher", [])
        is_ours = way == "launcher"
        rows.append(
            [
                size,
                way,
                spread([sample.wall for sample in its]),
                "1" if is_ours or not ours else spread(ratios(ours, its)),
                spread(ratios(its, one)) if one else "",
                spread([count / total for count in contenders[name].sent]),
                spread([sample.hosts for sample in its]),
            ]
        )
    head = ["hosts", "way", "wall, s", "launcher / it", "of launcher to one host"]
    return table([*head, f"sent {sender}, of the set", "CPU on all hosts, s"], rows)


class _Fresh:
    """A command for hosts that have nothing of the set, and the bytes that this machine and the store on
    it have ``sent`` each time."""

    def __init__(self, here: Place, argv: Sequence[str]) -> None:
        self._here, self._once = here, here.timed(argv, limit=900.0)
        self.sent: list[int] = []

    def __call__(self) -> Sample:
        for host in self._here.lab.hosts.values():
            host.run("rm", "-rf", "/root/.launcher/host/data", COPY)
        os.sync()
        before = self._here.lab.sent()
        sample = self._once()
        self.sent.append(self._here.lab.sent() - before)
        return sample


def _data(here: Place, do: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "launcher", "data", do, *words]


def _push(here: Place, name: str, hosts: Sequence[str]) -> list[str]:
    return _data(here, "push", name, "-i", str(here.inventory), "--hosts", ",".join(hosts))


def _star(here: Place, source: Path, names: Sequence[str]) -> list[str]:
    return _together(f"rsync -a -e '{here.ssh()}' {source}/ {name}:{COPY}/" for name in names)


def _chain(here: Place, source: Path, names: Sequence[str]) -> list[str]:
    """Each host gives the next one all of it, once it has that itself."""
    lines = [f"rsync -a -e '{here.ssh()}' {source}/ {names[0]}:{COPY}/"]
    there = f"ssh -i {KEY} -o StrictHostKeyChecking=no"
    for name, following in itertools.pairwise(names):
        address = here.lab.hosts[following].address
        command = f'rsync -a -e "{there}" {COPY}/ {address}:{COPY}/'
        lines.append(f"{here.ssh()} {name} {shlex.quote(command)}")
    return ["bash", "-c", " && ".join(lines)]


def _everywhere(here: Place, names: Sequence[str], command: str) -> list[str]:
    return _together(f"{here.ssh()} {name} {shlex.quote(command)}" for name in names)


def _together(commands: Iterator[str]) -> list[str]:
    """All at once; one that fails is a failure."""
    lines = [f"({command}) & p+=($!)" for command in commands]
    return ["bash", "-c", "\n".join([*lines, 'for one in "${p[@]}"; do wait $one || exit; done'])]


def _rclone(rclone: str, s3: object_store.Store, source: str, dest: str) -> str:
    values = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": object_store.KEY,
        "SECRET_ACCESS_KEY": object_store.SECRET,
        "ENDPOINT": s3.endpoint,
    }
    env = [f"RCLONE_CONFIG_S_{name}={value}" for name, value in values.items()]
    words = [
        rclone,
        "copy",
        "--config",
        "/dev/null",
        "--s3-no-check-bucket",
        "--ignore-times",
        source,
        dest,
    ]
    return shlex.join(["env", *env, *words])


def _s5cmd(s5cmd: str, s3: object_store.Store, source: str, dest: str) -> str:
    env = [f"{name}={value}" for name, value in s3.environment.items()]
    return shlex.join(["env", *env, s5cmd, "--endpoint-url", s3.endpoint, "cp", source, dest])


def _found(tool: str) -> str:
    """Where a tool is, in this environment or on PATH; "" where it is not, which is said."""
    wrapped = Path(sys.prefix).glob(f"lib/*/site-packages/{tool}/bin/{tool}")
    for path in (*wrapped, Path(sys.prefix, "bin", tool)):
        if path.exists():
            return str(path)
    return (shutil.which(tool) or "") if here_or_skipped(tool) else ""


@contextlib.contextmanager
def _limited(here: Place, mbit: int) -> Iterator[None]:
    """Limit the cables of all hosts, and what this machine sends to them."""
    bridge = here.lab._bridge
    shape = ["tbf", "rate", f"{mbit}mbit", "burst", f"{mbit * 1250}", "latency", "100ms"]
    for host in here.lab.hosts.values():
        host.slow(mbit)
    subprocess.run(["tc", "qdisc", "replace", "dev", bridge, "root", *shape], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", bridge, "root"], check=True)
        for host in here.lab.hosts.values():
            host.slow(0)


# -- one host and a store


def _one_host(here: Place, s3: object_store.Store, files: Files, rounds: int) -> str:
    name = here.names(1)[0]
    script = f'cp -r {COPY}/* "$LAUNCHER_OUTPUT_DIR"'
    words = ("--framework", "env", "--keep-on-host", "*", "--output-to", f"s3://{BUCKET}/runs")
    upload = here.timed(here.launcher(1, *words, "--", "sh", "-c", script), limit=900.0)

    def stored() -> Sample:
        sample = upload()
        return Sample(here.receipt()["stages"]["store"], sample.cpu, sample.rss, sample.hosts)

    downs: dict[str, Callable[[], Sample]] = {
        "launcher": _Fresh(here, _push(here, f"{files.name}-stored", [name]))
    }
    ups: dict[str, Callable[[], Sample]] = {"launcher": stored}
    if rclone := _found("rclone"):
        command = _rclone(rclone, s3, f"S:{BUCKET}/{files.name}", COPY)
        downs["rclone"] = _Fresh(here, _everywhere(here, [name], command))
        command = _rclone(rclone, s3, COPY, f"S:{BUCKET}/rclone")
        ups["rclone"] = here.timed(_everywhere(here, [name], command), limit=900.0)
    if s5cmd := _found("s5cmd"):
        command = _s5cmd(s5cmd, s3, f"s3://{BUCKET}/{files.name}/*", f"{COPY}/")
        downs["s5cmd"] = _Fresh(here, _everywhere(here, [name], command))
        command = _s5cmd(s5cmd, s3, f"{COPY}/", f"s3://{BUCKET}/s5cmd/")
        ups["s5cmd"] = here.timed(_everywhere(here, [name], command), limit=900.0)
    down = race(downs, rounds)
    run(_star(here, files.source(here), [name]), env=here.env)
    up = race(ups, rounds)
    rows = [
        [way, tool, spread([one.wall for one in its]), spread(ratios(samples["launcher"], its))]
        for way, samples in (("download", down), ("upload", up))
        for tool, its in samples.items()
    ]
    title = f"{files} between the store and one host, without a limit; of an upload, the stage that stores:"
    return f"{title}\n\n{table(['way', 'tool', 'wall, s', 'launcher / it'], rows)}"


# -- as much as there is room for


def _scaled(here: Place, s3: object_store.Store, rounds: int) -> str:
    """launcher alone; what hosts have is compared by their own sums in the end."""
    found = []
    for files in (LONG, WIDE):
        files.write(here, s3)
        for name, sender in (("here", "from here"), ("stored", "by the store")):
            contenders = {
                f"{size} launcher": _Fresh(
                    here, _push(here, f"{files.name}-{name}", here.names(size))
                )
                for size in (1, max(SIZES))
            }
            with _limited(here, MBIT):
                samples = race(contenders, rounds, warm=0)
            verify = _data(here, "verify", f"{files.name}-{name}", "-i", str(here.inventory))
            run(verify, env=here.env, limit=900.0)
            title = f"{files}, {name}, all links {MBIT} Mbit/s; then all hosts had all of it:"
            found.append(f"{title}\n\n{_table(samples, contenders, sender, files.bytes)}")
        shutil.rmtree(files.source(here))
        for host in here.lab.hosts.values():
            host.run("rm", "-rf", "/root/.launcher/host/data")
    return "\n\n".join(found)


# -- what does not change


def _unchanged(here: Place, rounds: int) -> str:
    source = here.scratch / "many"
    noise = random.Random(1)
    for number in range(MANY):
        folder = source / f"folder{number // 1000}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(noise.randbytes(LITTLE))
    names = here.names(max(SIZES))
    run(_data(here, "add", "many", str(source)), env=here.env, limit=900.0)
    first = run(_push(here, "many", names), env=here.env, limit=1800.0)
    run(_star(here, source, names), env=here.env, limit=1800.0)
    samples = race(
        {
            "launcher": here.timed(_push(here, "many", names)),
            f"{len(names)} rsync": here.timed(_star(here, source, names)),
        },
        rounds,
    )
    rows = [
        [way, spread([one.wall for one in its]), spread(ratios(samples["launcher"], its))]
        for way, its in samples.items()
    ]
    shutil.rmtree(source)
    title = f"A set of {MANY:,} files that {len(names)} hosts have, unchanged (goal: at most 1 s):"
    return (
        f"{title}\n\n{table(['way', 'wall, s', 'launcher / it'], rows)}\n\n"
        f"- the first time, launcher took {first.wall:.0f} s"
    )


# -- memory


def _memory(here: Place, s3: object_store.Store) -> str:
    s3.put(BUCKET, {})
    free = shutil.disk_usage(here.scratch).free
    size = min(LARGE, free // COPIES // GB * GB)
    source = here.scratch / "large"
    source.mkdir()
    with (source / "one").open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    run(_data(here, "add", "large", str(source)), env=here.env, limit=900.0)
    names = here.names(2)
    rows = [["to two hosts", *_peaks(here, _push(here, "large", names), names)]]
    script = 'ln "$LAUNCHER_DATA_LARGE/one" "$LAUNCHER_OUTPUT_DIR/one"'
    words = ("--framework", "env", "--data", "large", "--keep-on-host", "*")
    argv = here.launcher(1, *words, "--output-to", f"s3://{BUCKET}/runs", "--", "sh", "-c", script)
    rows.append(["from one host to the store", *_peaks(here, argv, names)])
    shutil.rmtree(source)
    for host in here.lab.hosts.values():
        host.run("rm", "-rf", "/root/.launcher/host")
    head = [
        "a file on its way",
        "wall, s",
        "launcher, peak RSS, MiB",
        "largest of the agent on a host, MiB",
    ]
    return f"A file of {size / GB:.0f} GB:\n\n{table(head, rows)}"


def _peaks(here: Place, argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """Seconds, and the peaks of launcher and of what it leaves on hosts, in MiB."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for name in names:
                for process in here.lab.hosts[name].processes():
                    if any("agent-" in word for word in process.argv):
                        peak[0] = max(peak[0], _high_water(here.lab.hosts[name], process.pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        sample = run(argv, env=here.env, cwd=here.empty, limit=3600.0)
    except CommandError as error:
        print(error, file=sys.stderr)
        return ["failed", "", ""]
    finally:
        over.set()
        looking.join()
    return [f"{sample.wall:.0f}", f"{sample.rss:.0f}", f"{peak[0] / 1024:.0f}"]


def _high_water(host: labs.LabHost, pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in host.path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
