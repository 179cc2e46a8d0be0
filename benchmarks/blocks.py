"""What a host computes while a data set comes to it in blocks: without a network, in one process.

Seconds of CPU, of the user and of the kernel: also on a busy machine, the least of several rounds says
what the code costs.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import struct
import tempfile
from pathlib import Path

from launcher.agent.base import blocks, manifest
from launcher.agent.relay.data.passing import DataPassing
from launcher.agent.relay.data.proving import Proving
from launcher.agent.relay.data.store import DataStore

from .measure import table

#: Files, and bytes of each.
SETS = {"4 files of 25 MB": (4, 25_000_000), "1,000 files of 100 kB": (1000, 100_000)}
STEPS = ("begin", "take all blocks", "give each once", "the end")


def main(rounds: int) -> str:
    """The table."""
    rows = []
    for name, (count, each) in SETS.items():
        for kind in (manifest.SHA256, manifest.ETAG):
            found = [_in_a_child(count, each, kind) for _ in range(rounds)]
            source = "a folder" if kind == manifest.SHA256 else "a store"
            least = [f"{min(one[step] for one in found):.3f}" for step in STEPS]
            rows.append([name, source, *least, f"{min(sum(one.values()) for one in found):.3f}"])
    return table(["set", "from", *(f"{step}, s" for step in STEPS), "all, s"], rows)


def _in_a_child(count: int, each: int, kind: bytes) -> dict[str, float]:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with tempfile.TemporaryDirectory() as folder:
                os.write(writing, json.dumps(_measure(Path(folder), count, each, kind)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        found: dict[str, float] = json.loads(file.read())
    os.waitpid(pid, 0)
    return found


def _measure(folder: Path, count: int, each: int, kind: bytes) -> dict[str, float]:
    digest = hashlib.sha256 if kind == manifest.SHA256 else hashlib.md5
    data = os.urandom(count * each)
    names = sorted(f"{number // 1000}/{number}".encode() for number in range(count))
    entries = [
        manifest.Entry(
            name,
            each,
            False,
            kind + digest(data[at * each : (at + 1) * each]).hexdigest().encode(),
        )
        for at, name in enumerate(names)
    ]
    text = manifest.HEADER + b"".join(map(manifest.encode, entries))
    version = hashlib.sha256(text).hexdigest()[: manifest.LENGTH]
    found, last = {}, _cpu()

    def lap(step: str) -> None:
        nonlocal last
        found[step], last = _cpu() - last, _cpu()

    store = DataStore(str(folder), lambda *_: None)
    store.begin(version, "set", len(data), count)
    store.take_manifest(version, text)
    store.note_times(version, struct.pack(f">{count}q", *[1] * count))
    copy = store.blocks(version)
    lap("begin")
    arrived = [data[at * copy.cut.length : (at + 1) * copy.cut.length] for at in range(copy.count)]
    sums = [blocks.summed(copy.cut.pieces(at), one).block for at, one in enumerate(arrived)]
    passing = DataPassing(store, lambda: None)
    passing._version, passing._copy, passing._passing = version, copy, object()  # type: ignore[assignment]
    passing._proving = Proving(copy, copy.place)
    last = _cpu()
    for number, block in enumerate(arrived):
        copy.write(number, block, sums[number])
    lap("take all blocks")
    for number in range(copy.count):
        copy.read(number)
    lap("give each once")
    sealed = passing.part_seal({"keyed": False})
    lap("the end")
    shutil.rmtree(folder / "data", ignore_errors=True)
    if sealed["count"]:
        raise SystemExit(f"what arrived is not what was sent: {sealed}")
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
