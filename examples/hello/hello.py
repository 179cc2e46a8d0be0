"""Says which process it is and where: the smallest script for launcher, with no package needed.

It reads the variables that launcher sets for every process and writes one file under
LAUNCHER_OUTPUT_DIR. It does not talk to the other processes.
"""

import os
import socket
from pathlib import Path

SHOWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")


def greeting() -> str:
    """One line: rank, host name and the variables in SHOWN ("-" where one is not set)."""
    rank = os.environ.get("RANK", "0")
    values = " ".join(f"{name}={os.environ.get(name, '-')}" for name in SHOWN)
    return f"hello from rank {rank} on {socket.gethostname()}: {values}"


def main() -> None:
    """Prints the greeting and leaves it as hello-<rank>.txt for launcher to bring back."""
    folder = Path(os.environ.get("LAUNCHER_OUTPUT_DIR", "outputs"))
    folder.mkdir(parents=True, exist_ok=True)
    line = greeting()
    (folder / f"hello-{os.environ.get('RANK', '0')}.txt").write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)


if __name__ == "__main__":
    main()
