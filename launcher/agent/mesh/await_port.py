"""Waits until a port listens, then becomes the command: for ranks whose server starts beside them."""

from __future__ import annotations

import os
import socket
import sys
import time

from ..base import protocol
from ..processes import processes

#: Seconds after which the command starts in any case, and between two tries.
PATIENCE, PAUSE = 60.0, 0.1


def main(argv: list[str]) -> None:
    """Run ``await-port ADDRESS PORT -- COMMAND ...``."""
    where, command = (argv[0], int(argv[1])), argv[3:]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(where, 5.0).close()
            break
        except OSError:
            time.sleep(PAUSE)
    try:
        program = processes.find_program(command[0], os.environ.get("PATH", os.defpath), ".")
        os.execv(program, command)
    except OSError as error:
        sys.stderr.write("launcher: cannot start %s: %s\n" % (command[0], error.strerror))
        os._exit(protocol.not_started(error))
