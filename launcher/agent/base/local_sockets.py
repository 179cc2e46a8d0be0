"""Connects to the two sockets in a run's folder on this host: its supervisor's and its peer's."""

from __future__ import annotations

import os

from . import frames, lean
from .lean import Socket, socket

SUPERVISOR, PEER = "sock", "peer.sock"


def connect(run_dir: str, name: str) -> Socket:
    """Connect to SUPERVISOR or PEER. Raises OSError."""
    here = os.open(".", os.O_RDONLY)
    connection = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(run_dir)  # a socket's path has at most 107 bytes: name it from its own folder
        connection.connect(name)
    except OSError:
        connection.close()
        raise
    finally:
        os.fchdir(here)
        os.close(here)
    return connection


def node_of(run_dir: str) -> tuple[dict[str, str], str]:
    """Return ``(environment, folder)`` of the processes of this node. Raises OSError."""
    with connect(run_dir, PEER) as peer:
        peer.sendall(frames.frame(frames.ASK, {"ask": "environment"}))
        size = frames.size_of(_take(peer, frames.HEAD.size))[1]
        node = lean.loads(_take(peer, size).decode("utf-8"))
    return node["env"], node["cwd"]


def _take(peer: Socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise OSError(0, "it closed the connection")
        data += piece
    return data
