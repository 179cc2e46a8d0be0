"""One small job on 2 hosts with 2 ranks each, by launcher and by whatever else people start it with.

All start the same script with the same Python; the code is on the hosts, but launcher brings its own. All
take turns. Then each is killed with `kill -9`, and so is one rank of each: what is left, and for how long?
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..measure import CommandError, Sample, race, spread, table
from ..place import labs, place
from .kills import rank_killed, starter_killed
from .starters import MARK, Scene, Starter, starters
from .watched import Watched, end_marked

from support import environments  # isort: skip  # found by .place

SIZES = (2,)
KILLS = "kills"
KINDS = {"noop": "a script that says that it is there", "all_reduce": "torch adds up a tensor"}
HEAD = (
    "starter", "wall, s", "launcher / it", "first line of rank 0, s", "launcher / it", "CPU here, s",
    "CPU here and on all hosts, s", "ranks on the screen", "files that came back",
)  # fmt: skip
ENDS = (
    "starter", "starter killed: ranks gone after, s", "left after {bound:.0f} s",
    "a rank killed: ranks gone after, s", "starter ends after, s", "exit code",
)  # fmt: skip
#: A start that takes longer hangs.
LIMIT = 600.0
#: Seconds after which somebody who has not noticed that something was killed never will.
BOUND = 30.0


@dataclass(frozen=True)
class Started(Sample):
    """A start: seconds to the first line of rank 0, how many ranks were on the screen, and how many files
    came back. One that failed is not a number."""

    first: float = math.nan
    ranks: int = 0
    files: int = 0

    @property
    def all_cpu(self) -> float:
        """Of the starter and of everything on the hosts: some are on a host themselves."""
        return self.cpu + self.hosts


def main(
    rounds: int, sizes: tuple[int, ...] = SIZES, only: Sequence[str] = (), bound: float = BOUND
) -> str:
    """Three tables for each number of hosts. Who cannot be here says why in its row."""
    return "\n\n".join(_of(size, rounds, only, bound) for size in sizes)


def _of(size: int, rounds: int, only: Sequence[str], bound: float) -> str:
    tables = [name for name in (*KINDS, KILLS) if name in only] or [*KINDS, KILLS]
    names = set(only) - {*KINDS, KILLS}
    with _scene(size) as scene:
        known = starters(scene)
        if strangers := names - {one.name for one in known}:
            raise SystemExit(f"no such peer: {', '.join(sorted(strangers))}")
        wanted = [one for one in known if not names or one.name in names]
        reasons = {one.name: one.missing for one in wanted if one.missing}
        chosen = [one for one in wanted if not one.missing]
        for one in chosen:
            one.once()
        quiet = _Quiet(scene)
        parts = [f"{size} hosts, {scene.world} ranks, Python {scene.python}:"]
        for name in tables:
            if name == KILLS:
                part = _kills(scene, chosen, quiet, bound)
            else:
                part = _starts(scene, name, chosen, quiet, rounds, reasons)
            parts.append(part)
            print(part, file=sys.stderr, flush=True)
    notes = [f"- `{one.name}`: {one.note}" for one in wanted if one.note]
    return "\n\n".join([*parts, "\n".join(notes)])


def _starts(
    scene: Scene,
    kind: str,
    chosen: Sequence[Starter],
    quiet: _Quiet,
    rounds: int,
    reasons: dict[str, str],
) -> str:
    contenders = {
        one.name: _tried(scene, one, kind, quiet, reasons)
        for one in chosen
        if one.name not in (*reasons, "launcher-timeout")
    }
    rows = _rows(race(contenders, rounds), {one.name for one in chosen if one.on_host})
    rows += [[name, f"not run: {why}"] + [""] * (len(HEAD) - 2) for name, why in reasons.items()]
    return f"`{kind}`: {KINDS[kind]}.\n\n{table(HEAD, rows)}"


def _kills(scene: Scene, chosen: Sequence[Starter], quiet: _Quiet, bound: float) -> str:
    rows = [_ends(scene, one, quiet, bound) for one in chosen]
    return f"`{KILLS}`: by `kill -9`.\n\n{table([cell.format(bound=bound) for cell in ENDS], rows)}"


@contextmanager
def _scene(size: int) -> Iterator[Scene]:
    """Hosts whose own name is their real address: with 127.0.1.1, as images of Debian have it, those that
    meet by torch need GLOO_SOCKET_IFNAME, and launcher sets it."""
    share: list[Path] = []
    python = Path(sys.executable)
    if not environments.missing("peers"):
        share, python = [environments.folder("peers")], environments.python_of("peers")
    specs = [labs.HostSpec(f"lab{number + 1}", own_name="") for number in range(size)]
    with place(specs, share) as here:
        yield Scene(here, python)


class _Quiet:
    """Hosts between two starts: nothing but what was there at first."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._before = {host: {p.pid for p in host.processes()} for host in scene.hosts}

    def restore(self, one: Starter) -> None:
        """End what a start has left, here and on hosts."""
        one.after()
        end_marked(MARK, self._scene.env[MARK])
        for host in self._scene.hosts:
            labs.wait_until(lambda host=host: not self._end(host), f"{one.name} is gone")
            host.run("rm", "-rf", "/tmp/peers", "/tmp/ray")

    def _end(self, host: labs.LabHost) -> list[int]:
        left = [p.pid for p in host.processes() if p.pid not in self._before[host]]
        if left:
            host.run("kill", "-9", *map(str, left), check=False)
        return left


def _start(scene: Scene, one: Starter, kind: str, quiet: _Quiet) -> Started:
    one.before()
    try:
        spent = scene.here.hosts_cpu()
        watched = Watched(one.command(kind), scene.env, scene.cwd)
        watched.succeed(LIMIT)
        hosts = scene.here.hosts_cpu() - spent
        text = watched.text()
        done = ": the sum is" if kind == "all_reduce" else ""
        ranks = [f"peer rank {rank} of {scene.world} on " for rank in range(scene.world)]
        lines = [line for line in text.splitlines() if done in line]
        seen = sum(any(rank in line for line in lines) for rank in ranks)
        first = watched.first(f"peer rank 0 of {scene.world} on ")
        return Started(
            watched.wall,
            watched.cpu,
            hosts=hosts,
            first=math.nan if first is None else first,
            ranks=seen,
            files=scene.outputs(),
        )
    finally:
        quiet.restore(one)


def _tried(
    scene: Scene, one: Starter, kind: str, quiet: _Quiet, reasons: dict[str, str]
) -> Callable[[], Started]:
    """Return a contender whose later failures are samples, too: one that fails at first is left out."""
    worked = False

    def tried() -> Started:
        nonlocal worked
        try:
            found = _start(scene, one, kind, quiet)
        except (CommandError, labs.LabError) as failure:
            print(f"{one.name}: {failure}", file=sys.stderr, flush=True)
            if not worked:
                said = [line for line in str(failure).splitlines() if re.search(r"\w", line)]
                reasons[one.name] = f"{said[0][:60]} ... {said[-1][:200]}".replace("|", "/")
                raise CommandError(reasons[one.name]) from failure
            return Started(math.nan)
        worked = True
        return found

    return tried


def _rows(samples: dict[str, list[Started]], away: set[str]) -> list[list[str]]:
    ours = samples.get("launcher", [])
    rows = []
    for name, found in samples.items():
        worked = [one for one in found if not math.isnan(one.wall)]
        failed = len(found) - len(worked)
        row = [name, _spread(found, "wall"), _ratio(ours, found, "wall")]
        row += [_spread(found, "first"), _ratio(ours, found, "first")]
        row += ["" if name in away else _spread(found, "cpu"), _spread(found, "all_cpu")]
        row += [_counts([one.ranks for one in worked]), _counts([one.files for one in worked])]
        row[0] += f" ({failed} of {len(found)} failed)" if failed else ""
        rows.append(row)
    return rows


def _spread(samples: Sequence[Started], what: str) -> str:
    values = [getattr(one, what) for one in samples if not math.isnan(one.wall)]
    values = [value for value in values if not math.isnan(value)]
    return spread(values) if values else "never"


def _ratio(ours: Sequence[Started], theirs: Sequence[Started], what: str) -> str:
    if ours is theirs:
        return "1"
    pairs = [(getattr(a, what), getattr(b, what)) for a, b in zip(ours, theirs, strict=False)]
    found = [a / b for a, b in pairs if not math.isnan(a + b)]
    return spread(found) if found else ""


def _counts(values: Sequence[int]) -> str:
    """`4`, or `3-4` where rounds differ."""
    return "-".join(str(value) for value in sorted({min(values), max(values)})) if values else ""


def _ends(scene: Scene, one: Starter, quiet: _Quiet, bound: float) -> list[str]:
    cells = [one.name]
    for kill in (starter_killed, rank_killed):
        one.before()
        try:
            cells += kill(scene, one, bound).cells()
        except CommandError as failure:
            print(f"{one.name}: {failure}", file=sys.stderr, flush=True)
            cells += ["did not start"] + [""] * (1 if kill is starter_killed else 2)
        finally:
            quiet.restore(one)
            scene.outputs()
    print(" | ".join(cells), file=sys.stderr, flush=True)
    return cells
