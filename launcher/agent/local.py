"""Reaches those who listen in a run's folder on this host: its supervisor and its peer.

Not responsible for what is said.
"""

import json
import os
import socket

from . import frames

SUPERVISOR, PEER = "sock", "peer.sock"


def connect(run_dir, name):
    """A connection to one of the two. Raises OSError."""
    here = os.open(".", os.O_RDONLY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(run_dir)  # a socket's path may be 107 bytes at most: name it from its own folder
        connection.connect(name)
    except OSError:
        connection.close()
        raise
    finally:
        os.fchdir(here)
        os.close(here)
    return connection


def node_of(run_dir):
    """``(environment, folder)`` that processes of this node of a run have. Raises OSError."""
    with connect(run_dir, PEER) as peer, peer.makefile("rb") as stream:
        peer.sendall(frames.frame(frames.ASK, {"ask": "environment"}))
        head = stream.read(frames.HEAD.size)
        if len(head) < frames.HEAD.size:
            raise OSError(0, "it went away")
        node = json.loads(stream.read(frames.size_of(head)[1]).decode("utf-8"))
    return node["env"], node["cwd"]
