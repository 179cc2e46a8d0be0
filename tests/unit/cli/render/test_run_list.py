"""What was that run: its command, commit, start and duration, at every width."""

from __future__ import annotations

import time
from typing import Any

import click
import pytest

from launcher.api.client import Summary, Wanted
from launcher.cli.commands.ls import since_time
from launcher.cli.render.run_list import run_list
from launcher.cli.render.tables import moment, took
from launcher.spec.errors import InputError

NOW = time.mktime((2026, 11, 27, 15, 0, 0, 0, 0, -1))


def _run(name: str, **values: Any) -> Summary:
    given: dict[str, Any] = {
        "status": "succeeded",
        "reason": "all-ranks-exited-0",
        "started": NOW - 3600,
        "hosts": tuple(f"gpu{n:02}" for n in range(1, 65)),
        "gpus": 512,
        "ranks": 512,
        "followed": False,
        "folder": "",
        "command": "train.py --lr 0.1 --batch-size 256 --data /data/imagenet --epochs 90 --amp",
        "commit": "a1b2c3d4+",
        "seconds": 7800.0,
    }
    return Summary(run=name, **{**given, **values})


RUNS = [
    _run("exp1-eca0", project="vision", users=("ann", "root")),
    _run("sweep-a-e7f1", status="failed", reason="exit-3", seconds=4.25),
    _run("calm-owl-12ab", status="running", reason="", followed=True, seconds=None),
    _run("early-eel-1111", status="running", reason="", seconds=None),
    _run("never-1234", status="failed", reason="does-not-fit", began=False, seconds=0.3),
]


def _lines(width: int | None) -> list[str]:
    return [click.unstyle(line) for line in run_list(RUNS, NOW, width)]


@pytest.mark.parametrize("width", [80, 200])
def test_a_list_fits_the_terminal(width: int) -> None:
    lines = _lines(width)
    assert max(map(len, lines)) <= width, lines
    for word in ("run", "status", "started", "took", "commit", "command"):
        assert word in lines[0].split()
    assert "a1b2c3d4+" in lines[1]
    assert "train.py" in lines[1]
    assert ("gpu[01-64]" in lines[1]) == (width == 200)


def test_long_names_leave_a_list_that_fits() -> None:
    """Its rows broke in the middle of words."""
    runs = [_run("fine-tune-llama-on-the-new-shards-6e81", status="failed", reason="exit-1"), *RUNS]
    lines = [click.unstyle(line) for line in run_list(runs, NOW, 80)]
    assert max(map(len, lines)) <= 80, lines
    assert lines[1].startswith("fine-tune-llama-on-the-new-shards-6e81  failed (exit-1)  ")


def test_what_is_no_terminal_gets_everything() -> None:
    lines = _lines(None)
    assert "--epochs 90 --amp" in lines[1]
    assert "2 h 10" in lines[1]
    assert "failed (exit-3)" in lines[2]
    assert ("project" in lines[0], "vision" in lines[1]) == (True, True)
    assert "running (not followed)" in lines[4]


def test_runs_that_never_started_stand_apart() -> None:
    lines = _lines(200)
    place = lines.index("never started")
    assert not any("never-1234" in line for line in lines[:place])
    assert "does-not-fit" in lines[place + 1]
    assert "train.py" in lines[place + 1]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), 5),
        (Wanted(words=("TRAIN", "lr")), 5),
        (Wanted(words=("sweep",)), 1),
        (Wanted(words=("a1b2",)), 5),
        (Wanted(words=("serve.py",)), 0),
        (Wanted(failed=True), 2),
        (Wanted(running=True), 2),
        (Wanted(since=NOW - 60), 0),
        (Wanted(hosts=frozenset({"gpu03", "x"})), 5),
        (Wanted(hosts=frozenset({"x"})), 0),
        (Wanted(project="vision"), 1),
        (Wanted(project="speech"), 0),
        (Wanted(project=""), 4),
        (Wanted(user="root"), 1),
        (Wanted(user="ro"), 0),
    ],
)
def test_filters(wanted: Wanted, names: int) -> None:
    assert sum(wanted.fits(run) for run in RUNS) == names


def test_times() -> None:
    assert [took(s) for s in (0.42, 12, 1000, 7800, 360000)] == [
        "0.4 s",
        "12 s",
        "16 min",
        "2 h 10",
        "4 d 4 h",
    ]
    assert moment(NOW - 60, NOW) == "14:59"
    assert moment(NOW - 2 * 86400, NOW) == "Wed 15:00"
    assert moment(NOW - 20 * 86400, NOW) == "7 Nov"
    assert moment(NOW - 400 * 86400, NOW) == "23 Oct 25"


def test_since() -> None:
    assert since_time(None, NOW) is None
    assert since_time("2h", NOW) == NOW - 7200
    assert since_time("today", NOW) == NOW - 15 * 3600
    assert since_time("yesterday", NOW) == NOW - 39 * 3600
    assert since_time("2026-11-27", NOW) == NOW - 15 * 3600
    with pytest.raises(InputError, match="--since soon"):
        since_time("soon", NOW)


def test_a_run_that_may_choose_has_no_hosts_of_its_own_yet() -> None:
    run = _run("calm-owl-12ab", status="waiting", seconds=None, wanted=2, gpus=16, ranks=16)
    assert "2 of gpu[01-64]" in click.unstyle(run_list([run], NOW, None)[1])
