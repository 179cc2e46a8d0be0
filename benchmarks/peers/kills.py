"""What happens to a job when its starter is killed, and when one of its ranks is, with `kill -9`.

Who has not noticed within the bound is taken for somebody who never will. The ranks only sleep: who talks to others by torch notices, sooner or later, that they are gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from .starters import Scene, Starter
from .watched import Watched

#: Until all ranks are there.
LIMIT = 600.0
PIDS = "/tmp/peers"


@dataclass(frozen=True)
class StarterKilled:
    """Seconds until no rank was left, or None; how many ranks and other processes were left then."""

    gone: float | None
    ranks: int
    others: int

    def cells(self) -> list[str]:
        """Return the cells of a row."""
        left = (
            f"{self.ranks} ranks, {self.others} others" if self.ranks or self.others else "nothing"
        )
        return [_seconds(self.gone), left]


@dataclass(frozen=True)
class RankKilled:
    """Seconds until no rank was left, and until the starter ended, with its exit code; or None."""

    gone: float | None
    ended: float | None
    code: int | None

    def cells(self) -> list[str]:
        """Return the cells of a row."""
        code = "" if self.code is None else str(self.code)
        return [_seconds(self.gone), _seconds(self.ended), code]


def starter_killed(scene: Scene, one: Starter, bound: float) -> StarterKilled:
    """Kill the program that somebody started, and nothing else."""
    before = _all(scene)
    watched, ranks = _holding(scene, one)
    began = time.monotonic()
    watched.kill()
    gone = None
    left = ranks
    while left and time.monotonic() - began < bound:
        left = _all(scene) - before
        if gone is None and not left & ranks:
            gone = time.monotonic() - began
        time.sleep(0.1)
    return StarterKilled(gone, len(left & ranks), len(left - ranks))


def rank_killed(scene: Scene, one: Starter, bound: float) -> RankKilled:
    """Kill the last rank, on the last host; Ray puts ranks on hosts in an order of its own."""
    watched, ranks = _holding(scene, one)
    file = f"{PIDS}/rank-{scene.world - 1}"
    last = next(host for host in scene.hosts if host.path(file).exists())
    began = time.monotonic()
    last.run("kill", "-9", last.path(file).read_text())
    gone = ended = None
    while (gone is None or ended is None) and time.monotonic() - began < bound:
        if gone is None and not ranks & _all(scene):
            gone = time.monotonic() - began
        if ended is None and watched.has_ended:
            ended = time.monotonic() - began
        time.sleep(0.1)
    return RankKilled(gone, ended, None if ended is None else watched.code)


def _holding(scene: Scene, one: Starter) -> tuple[Watched, set[tuple[str, int]]]:
    """Start a job whose ranks sleep; return it when all of them are there, with their hosts and pids."""
    watched = Watched(one.command("hold"), scene.env, scene.cwd)
    found: set[tuple[str, int]] = set()
    began = time.monotonic()
    while len(found) < scene.world:
        if watched.has_ended or time.monotonic() - began > LIMIT:
            raise watched.failure(f"{len(found)} of {scene.world} ranks began")
        found = {
            (host.name, int(file.read_text()))
            for host in scene.hosts
            for file in host.path(PIDS).glob("rank-*[0-9]")
        }
        time.sleep(0.1)
    return watched, found


def _all(scene: Scene) -> set[tuple[str, int]]:
    return {(host.name, one.pid) for host in scene.hosts for one in host.processes()}


def _seconds(found: float | None) -> str:
    return "never" if found is None else f"{found:.1f}"
