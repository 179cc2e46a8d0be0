"""``python -m benchmarks [NAME...] [--rounds N]``: measures, and prints Markdown."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from . import (
    again,
    bandwidth,
    blocks,
    check,
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
    projects,
    queue,
    restart,
    share,
    start,
    storm,
    sync,
)

#: What measures memory comes first: a child's peak is never less than the size of this process,
#: which grows with the logs that it compares.
ALL = {
    "import": imports, "memory": memory, "start": start, "sync": sync, "job": job, "logs": logs,
    "check": check, "bandwidth": bandwidth, "faults": faults, "share": share,
    "counts": counts, "console": console, "live": live, "metrics": metrics,
    "images": images, "data": data, "queue": queue, "storm": storm, "listing": listing,
    "restart": restart, "again": again, "many": many, "projects": projects,
    "environments": environments, "blocks": blocks,
}  # fmt: skip


def main() -> None:
    """Each benchmark that was named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    parser.add_argument(
        "--sizes", help="numbers of hosts for `start`, `check`, `counts` and `many`, such as 2,8"
    )
    parser.add_argument(
        "--only", help="projects of `projects`, such as JAX,TensorFlow; tables of `data`"
    )
    parser.add_argument("--torch", action="store_true", help="with torch, for `environments`")
    args = parser.parse_args()
    if strangers := [name for name in args.names if name not in ALL]:
        parser.error(f"there is no benchmark {', '.join(strangers)}: only {', '.join(ALL)}")
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab goes, too
    for name in args.names or ALL:
        more = {}
        if name in ("start", "check", "counts", "many") and args.sizes:
            more["sizes"] = tuple(int(size) for size in args.sizes.split(","))
        if name in ("projects", "data") and args.only:
            more["only"] = args.only.split(",")
        if name == "environments":
            more["torch"] = args.torch
        began = time.monotonic()
        print(f"\n### {name}\n\n{ALL[name].main(args.rounds, **more)}", flush=True)
        print(f"\n({args.rounds} rounds; {time.monotonic() - began:.0f} s in all)", flush=True)


if __name__ == "__main__":
    main()
