"""The nodes of a run as programs of Slurm choose them, and what these have in common."""

from __future__ import annotations

import os
import re
import select

from .slurm_options import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Dict, List, Tuple

    from .slurm_options import Options

    #: ``name``, ``address``, ``tasks`` and ``gpus`` (what programs call each) of a host.
    Node = Dict[str, Any]

#: The variable that describes the nodes.
NODES = "LAUNCHER_SLURM"
#: The exit status of a program for an error of its own.
FAILED = 1


def number(options: Options, name: str, least: int = 1) -> int | None:
    """Return the number of an option, of ``2-4`` the first; None without it. Raises Wrong."""
    if name not in options:
        return None
    text = options[name].partition("-")[0]
    if not re.match(r"[0-9]{1,6}\Z", text) or int(text) < least:
        raise Wrong("--%s=%s: not a number" % (name, options[name]))
    return int(text)


def expand(text: str) -> List[str]:
    """Return the names of a node list such as ``gpu[01-03,7],n2``."""
    found: List[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        opened = re.match(r"(.*?)\[([^\]]*)\](.*)\Z", part)
        if not opened:
            found.append(part)
            continue
        before, inside, after = opened.groups()
        for piece in inside.split(","):
            first, dash, last = piece.partition("-")
            if not dash:
                found += expand(before + piece + after)
            elif first.isdigit() and last.isdigit() and int(last) - int(first) < 65536:
                for one in range(int(first), int(last) + 1):
                    found += expand(before + str(one).zfill(len(first)) + after)
    return found


def chosen(nodes: List[Node], options: Options) -> List[Node]:
    """Return the nodes of a step. Raises Wrong."""
    found = nodes
    if "nodelist" in options:
        names = expand(options["nodelist"])
        unknown = [n for n in names if not any(n in (o["name"], o["address"]) for o in nodes)]
        if unknown:
            known = ", ".join(node["name"] for node in nodes)
            raise Wrong("%s is no host of this run (%s)" % (unknown[0], known))
        found = [o for o in nodes if o["name"] in names or o["address"] in names]
    without = expand(options.get("exclude", ""))
    found = [o for o in found if o["name"] not in without and o["address"] not in without]
    first = number(options, "relative", 0) or 0
    if first and not {"nodelist", "exclude"}.isdisjoint(options):
        raise Wrong("--relative goes with neither --nodelist nor --exclude")
    if first >= len(found) > 0:
        raise Wrong("--relative=%d: the run has nodes 0 to %d" % (first, len(found) - 1))
    found = found[first:]
    count = number(options, "nodes")
    if first and (count or 0) > len(found):  # as srun does
        warn("--relative=%d leaves %d of --nodes=%s" % (first, len(found), options["nodes"]))
        count = None
    if not found or (count or 0) > len(found):
        raise Wrong("the run has %d hosts, and %s are asked for" % (len(found), count or "some"))
    return found[:count] if count else found


def spread(nodes: List[Node], options: Options) -> List[Tuple[Node, int]]:
    """Return the nodes of a step that have tasks, each with their number. Raises Wrong."""
    total, each = number(options, "ntasks"), number(options, "ntasks-per-node")
    if total is None:
        return [(node, each or node["tasks"]) for node in nodes]
    if each is None and total == sum(node["tasks"] for node in nodes):
        return [(node, node["tasks"]) for node in nodes]
    if each is not None and total > each * len(nodes):
        raise Wrong("%d tasks do not fit: %d on each of %d nodes" % (total, each, len(nodes)))
    base, more = divmod(total, len(nodes))
    parts = [(node, base + (place < more)) for place, node in enumerate(nodes)]
    return [part for part in parts if part[1]]


def repeated(counts: Iterable[int]) -> str:
    """Return numbers as Slurm writes them: ``4(x2),2``."""
    runs: List[List[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ",".join("%d(x%d)" % (c, n) if n > 1 else str(c) for c, n in runs)


def count(run_dir: str, name: str) -> int:
    """Return the number of this step or job: those before it have a byte each in a file of the run."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    file = os.open(os.path.join(run_dir, name), flags, 0o600)
    try:
        os.write(file, b".")
        return os.fstat(file).st_size - 1
    finally:
        os.close(file)


def write(stream: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(stream, data) :]
        except BlockingIOError:
            select.select([], [stream], [])
        except OSError:
            os._exit(FAILED)  # the reader is gone


def warn(text: str) -> None:
    write(2, b"srun: warning: %s\n" % os.fsencode(text))
