"""What is told of a run that waits, and when."""

from __future__ import annotations

from dataclasses import replace

from launcher.records import events as ev
from launcher.records.reasons import WaitReason
from launcher.runner.policy import news
from launcher.runner.policy.projects import Standing, Use
from launcher.runner.policy.turn import Begin, Wait
from launcher.spec.model import Project

RULE = Project("team-a", 2, ("ann",), 4)
WAITS = ev.RunWaits(1.0, 2, 3, WaitReason.BUSY, ("r1",), {"r1": "ann"}, latest=100.0)


def test_its_project_holds_it_back_before_other_runs_do() -> None:
    for why, most in ((WaitReason.QUOTA, 2), (WaitReason.LIMIT, 4)):
        told = news.of_project(WAITS, RULE, Standing(False, why, used=3), (), ())
        assert (told.why, told.runs, told.latest) == (why, (), None)
        assert (told.project, told.used, told.most) == ("team-a", 3, most)
    assert news.of_project(WAITS, RULE, Standing(True), (), ()) == WAITS


def test_it_says_whom_it_asks_for_borrowed_gpus() -> None:
    uses = [Use("r7", "bob", "team-b", 2, True), Use("r8", "eve", "team-b", 2, True)]
    told = news.of_project(WAITS, RULE, Standing(True), ("r7",), uses)
    assert (told.why, told.runs, told.users) == (WaitReason.TAKING_BACK, ("r7",), {"r7": "bob"})


def test_an_estimate_that_moves_a_little_is_no_news() -> None:
    assert news.alike(WAITS, replace(WAITS, time=9.0, latest=120.0))
    assert not news.alike(WAITS, replace(WAITS, latest=200.0))
    assert not news.alike(WAITS, replace(WAITS, latest=None))
    assert not news.alike(WAITS, replace(WAITS, place=1))


def test_a_run_does_not_wait_for_itself() -> None:
    """One of its hosts has begun it a moment before the other."""
    run = "calm-otter-1234"
    assert news.is_passing(Wait(run, 1, "busy", runs=(run,)), run)
    assert not news.is_passing(Wait(run, 1, "busy", runs=(run, "swift-hare-1")), run)
    assert not news.is_passing(Wait(run, 1, "hosts-missing", hosts=("gpu2",)), run)
    assert not news.is_passing(Begin(run, {"gpu1": [0]}), run)
