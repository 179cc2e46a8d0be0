"""What a user of torchrunx writes: by_torchrunx.py HOST,HOST RANKS KIND ADDRESS:PORT OUTPUTS."""

import logging
import sys

import rank
import torchrunx

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)  # what ranks print is shown by this alone
    hosts, each = sys.argv[1].split(","), int(sys.argv[2])
    torchrunx.Launcher(hostnames=hosts, workers_per_host=each, backend="gloo").run(
        rank.main, *sys.argv[3:6]
    )
