"""``python -m benchmarks [NAME...] [--rounds N]``: measures, and prints Markdown."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from . import (
    again,
    bandwidth,
    blocks,
    check,
    collect,
    console,
    counts,
    data,
    environments,
    faults,
    images,
    imports,
    job,
    listing,
    live,
    logs,
    many,
    memory,
    metrics,
    peers,
    projects,
    queue,
    restart,
    share,
    start,
    storm,
    sync,
)
from .measure import Circumstances, CommandError
from .place import labs

#: What measures memory comes first: a child's peak is never less than the size of this process,
#: which grows with the logs that it compares.
ALL = {
    "import": imports, "memory": memory, "start": start, "sync": sync, "job": job, "logs": logs,
    "check": check, "bandwidth": bandwidth, "faults": faults, "share": share,
    "counts": counts, "console": console, "live": live, "metrics": metrics,
    "images": images, "data": data, "queue": queue, "storm": storm, "listing": listing,
    "restart": restart, "again": again, "many": many, "projects": projects,
    "environments": environments, "peers": peers, "blocks": blocks, "collect": collect,
}  # fmt: skip


#: What takes `--sizes`, and what takes `--only`.
SIZED = ("start", "check", "counts", "many", "peers")
CHOSEN = ("projects", "data", "peers")


def _options(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Return what a benchmark takes beside its rounds."""
    more: dict[str, object] = {}
    if name in SIZED and args.sizes:
        more["sizes"] = tuple(int(size) for size in args.sizes.split(","))
    if name in CHOSEN and args.only:
        more["only"] = args.only.split(",")
    if name == "peers" and args.bound:
        more["bound"] = args.bound
    if name == "environments":
        more["torch"] = args.torch
    return more


def main() -> None:
    """Each benchmark that was named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument(
        "--sizes",
        help="numbers of hosts for `start`, `check`, `counts`, `many` and `peers`, such as 2,8",
    )
    parser.add_argument(
        "--only",
        help="projects of `projects`, such as JAX,TensorFlow; tables of `data`; tables and starters of `peers`, such as kills,mpirun",
    )
    parser.add_argument("--torch", action="store_true", help="with torch, for `environments`")
    parser.add_argument(
        "--bound", type=float, help="seconds that `peers` waits for processes to end (default: 30)"
    )
    args = parser.parse_args()
    if strangers := [name for name in args.names if name not in ALL]:
        parser.error(f"there is no benchmark {', '.join(strangers)}: only {', '.join(ALL)}")
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab goes, too
    if os.getloadavg()[0] > (os.cpu_count() or 1) / 2:
        print("this machine has other work: read the ratios, not the seconds", file=sys.stderr)
    failed = []
    for name in args.names or ALL:
        about = Circumstances()
        try:
            found = ALL[name].main(args.rounds, **_options(name, args))
        except (CommandError, labs.LabError) as failure:  # the other tables are worth having
            failed.append(name)
            found = f"not measured: {failure}"
        print(f"\n### {name}\n\n{about} `--rounds {args.rounds}`.\n\n{found}", flush=True)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
