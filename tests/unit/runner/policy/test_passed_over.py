"""What a run tells about GPUs of its hosts that it has not taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.cli.render.event_lines import line_of, lines_of_many
from launcher.jobs.gpus import with_foreign_held
from launcher.jobs.layout import make_layout
from launcher.records.events import GpusPassedOver, ImportedAnew
from launcher.records.reasons import Cold, PassedOver
from launcher.runner.policy.passed_over import passed_over
from launcher.spec.model import Facts, Gpu, GpuUser, Host, Job, Resources

FOUR = Facts("gpu1", "gpu1", "/r", "python3", "3.11", 8, gpus=tuple(map(Gpu, range(4))))
HELD = replace(FOUR, leased={2: {"user": "root", "run": "hold-9f63"}})
FOREIGN = replace(FOUR, gpu_users=(GpuUser(0, 4242, "bob", "train"),))
BOB = "bob (pid 4242 train)"


def _told(job: Job, facts: Facts, ignored: bool = True) -> list[str]:
    facts = facts if ignored else with_foreign_held(facts)
    layout = make_layout(job, [Host("gpu1")], {"gpu1": facts})
    lines = [line_of(event) for event in passed_over(job, layout.nodes[0], facts, 0.0)]
    return [line.text for line in lines if line]


@pytest.mark.parametrize(
    ("wanted", "facts", "told"),
    [
        (Resources(), FOUR, []),
        (Resources(), HELD, ["3 of 4 GPUs on gpu1: GPU 2 is used by root (hold-9f63)"]),
        (Resources(), FOREIGN, [f"3 of 4 GPUs on gpu1: GPU 0 is used outside launcher by {BOB}"]),
        (Resources(gpus=3), HELD, []),
        (
            Resources(gpus=3),
            FOREIGN,
            [f"gpu1: GPU 0 is used outside launcher by {BOB}: left alone"],
        ),
        (
            Resources(gpus=4),
            FOREIGN,
            [f"gpu1: GPU 0 is used outside launcher by {BOB}: taken all the same"],
        ),
        (Resources(gpus=0), FOREIGN, []),
    ],
)
def test_who_takes_what_is_free_hears_what_is_missing(
    wanted: Resources, facts: Facts, told: list[str]
) -> None:
    assert _told(Job(("train.py",), resources=wanted), facts) == told


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Resources(), f"3 of 4 GPUs on gpu1: GPU 0 is used outside launcher by {BOB}"),
        (Resources(gpus=3), f"gpu1: GPU 0 is used outside launcher by {BOB}: left alone"),
    ],
)
def test_gpus_used_outside_launcher_are_told_where_they_are_not_free(
    wanted: Resources, told: str
) -> None:
    assert _told(Job(("train.py",), resources=wanted), FOREIGN, ignored=False) == [told]


def test_what_a_run_waits_for_is_not_called_taken() -> None:
    """The host on which it waits has a layout with all GPUs, as if they were free."""
    job, facts = Job(("train.py",), resources=Resources(gpus=4)), with_foreign_held(FOREIGN)
    (node,) = make_layout(job, [Host("gpu1")], {"gpu1": FOUR}).nodes
    assert passed_over(job, node, facts, 0.0) == []


def test_many_hosts_share_lines() -> None:
    def event(host: str, gpus: tuple[int, ...] = (0,)) -> GpusPassedOver:
        return GpusPassedOver(1.0, host, gpus, PassedOver.HELD, "ada (x-1)", 3, 4)

    alike = [event(f"node{number:02}") for number in range(1, 65)]
    (line,) = lines_of_many(alike)
    assert line.text == "3 of 4 GPUs on node[01-64]: GPU 0 is used by ada (x-1)"
    mixed = lines_of_many([event(f"node{number:02}", (number,)) for number in range(1, 65)])
    assert len(mixed) == 9
    assert mixed[-1].text == "GPUs of node[09-64] are used as well: launcher gpus"
    assert lines_of_many([]) == []


def test_many_hosts_that_import_anew_share_a_line() -> None:
    why = (Cold.FILE_CHANGED, "torch/__init__.py")
    told = [ImportedAnew(1.0, f"node{number:02}", *why) for number in range(1, 65)]
    lines = [line.text for line in lines_of_many([*told, ImportedAnew(1.0, "node65", Cold.GONE)])]
    assert lines == [
        "node[01-64]: imports anew: torch/__init__.py has changed",
        "node65: imports anew: nothing of the attempt before was left there",
    ]
