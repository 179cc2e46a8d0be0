"""Public projects on 2 hosts, by launcher and by hand with a small shell script.

By hand: ``rsync`` of the folder to all hosts at once, ``ssh`` with the project's own command to all at once,
and ``rsync`` of what they wrote back. The hosts are known to both. An environment that is missing is said
and left out: `PYTHONPATH=tests python -m support.environments projects jax tensorflow deepspeed`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from .measure import CommandError, Sample, race, spread, table
from .place import Place, place

from support import environments, projects  # isort: skip  # found by .place
from support import lab as labs  # isort: skip

HEAD = (
    "project", "by hand, s", "by launcher, s", "launcher / by hand", "more, s",
    "CPU, launcher / by hand", "around it, s",
)  # fmt: skip


def main(rounds: int, only: Sequence[str] = ()) -> str:
    """The table."""
    chosen = [one for one in projects.PROJECTS if not only or one.name in only]
    if strangers := set(only) - {one.name for one in chosen}:
        raise SystemExit(f"no such project: {', '.join(sorted(strangers))}")
    found = []
    for one in chosen:
        if reason := environments.missing(one.python):
            print(f"{one.name}: left out: {reason}", file=sys.stderr)
        else:
            found.append(one)
    folders = [environments.folder(one.python) for one in found if one.python in environments.PINS]
    rows = []
    with place(2, share=sorted(set(folders))) as here:
        projects.introduce(here.lab)
        for one in found:
            around: list[float] = []
            rows.append(_row(one, _samples(here, one, rounds, around), around[1:]))
            print(f"{' | '.join(rows[-1])}", file=sys.stderr, flush=True)
    notes = [
        "CPU: here and on both hosts",
        "around it: by launcher, less the stage in which it runs",
    ]
    return "\n".join([table(HEAD, rows), "", *(f"- {note}" for note in notes)])


def _samples(
    here: Place, project: projects.Project, rounds: int, around: list[float]
) -> dict[str, list[Sample]]:
    python = environments.python_of(project.python)
    work, back = (here.scratch / kind / project.name for kind in ("work", "back"))
    back.mkdir(parents=True)
    projects.fill(project, python, work)
    inventory = here.scratch / f"{project.python}.yaml"
    inventory.write_text(labs.inventory(here.lab, str(python)))
    hosts = list(here.lab.hosts.values())
    script = projects.by_hand(project, hosts, python, work, here.ssh(), back)
    words = project.words(python)
    ours = [sys.executable, "-m", "launcher", "run", "-i", str(inventory), *project.flags]
    launch = here.timed([*ours, *words], cwd=work)

    def launcher() -> Sample:
        sample = launch()
        around.append(sample.wall - here.receipt()["stages"]["run"])
        return sample

    contenders = {"by hand": here.timed(["bash", "-c", script]), "launcher": launcher}
    return race({name: _counted(here, one) for name, one in contenders.items()}, rounds)


def _counted(here: Place, once: Callable[[], Sample]) -> Callable[[], Sample]:
    """Return a contender whose failures are samples, too, without a time: a project may have its own."""

    def tried() -> Sample:
        try:
            return once()
        except CommandError as failure:
            print(str(failure)[-1500:], file=sys.stderr)
            projects.end(here.lab)
            return Sample(math.nan)

    return tried


def _row(
    project: projects.Project, samples: dict[str, list[Sample]], around: list[float]
) -> list[str]:
    rounds = zip(samples["launcher"], samples["by hand"], strict=True)
    both = [(ours, hand) for ours, hand in rounds if not math.isnan(ours.wall + hand.wall)]
    more = [ours.wall - hand.wall for ours, hand in both]
    ratio = [ours.wall / hand.wall for ours, hand in both]
    each = [_walls(samples[name]) for name in ("by hand", "launcher")]
    cpu = [(ours.cpu + ours.hosts) / (hand.cpu + hand.hosts) for ours, hand in both]
    compared = (spread(ratio), spread(more, ".1f"), spread(cpu)) if both else ("", "", "")
    return [project.name, *each, *compared, spread(around, ".1f") if around else ""]


def _walls(samples: Sequence[Sample]) -> str:
    walls = [one.wall for one in samples if not math.isnan(one.wall)]
    failed = len(samples) - len(walls)
    said = [spread(walls, ".1f")] if walls else []
    return ", ".join([*said, *([f"{failed} of {len(samples)} failed"] if failed else [])])
