"""ssh: the command on the first host only, which reaches the others by ``ssh``."""

from __future__ import annotations

from ..spec.model import Process
from . import rsh
from .base import Framework, Place


class Ssh(Framework):
    """For programs that run ``ssh HOST COMMAND`` themselves; hosts need no keys for each other."""

    name = "ssh"
    about = "the command on the first host only; `ssh HOST` in it reaches the others"
    computed = frozenset({"HOSTS", "SLOTS", "CUDA_VISIBLE_DEVICES"})
    shell = True
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return the command on the first host, with the names of all hosts in HOSTS and SLOTS."""
        env = {**place.env, **rsh.names(place.layout)}
        return rsh.processes(place, place.command(), env, secrets=True)
