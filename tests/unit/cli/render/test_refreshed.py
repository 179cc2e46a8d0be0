"""What became of runs that nobody followed, in lines."""

from __future__ import annotations

from typing import Any

from launcher.api.client import Summary
from launcher.api.following import News, Refreshed, What
from launcher.cli.render.refreshed import news_line, refreshed_lines


def _run(name: str, status: str, reason: str) -> Summary:
    values: dict[str, Any] = {"started": 0.0, "hosts": (), "gpus": 0, "ranks": 0}
    return Summary(run=name, status=status, reason=reason, followed=False, folder="", **values)


def _lines(refreshed: Refreshed) -> list[str]:
    known = [_run("a-1", "failed", "exit-3"), _run("b-2", "succeeded", "all-ranks-exited-0")]
    return list(refreshed_lines(refreshed, {run.run: run for run in known}))


def test_nothing_is_said_when_there_was_nothing_to_learn() -> None:
    assert _lines(Refreshed()) == []


def test_what_ended_and_what_is_followed() -> None:
    assert _lines(Refreshed(("c-3", "d-4"), ("a-1", "b-2"))) == [
        "ended meanwhile: a-1 failed (exit-3), b-2 succeeded",
        "followed again: c-3, d-4",
    ]


def test_runs_that_wait_for_the_same_hosts_are_one_line() -> None:
    silent = {f"gpu{n}": "no route to host" for n in range(1, 65)}
    unknown = {f"run-{n}": silent for n in range(20)} | {"late-1": {}, "c-3": {}}
    assert _lines(Refreshed(("c-3",), (), unknown)) == [
        "followed again: c-3",
        "gpu[1-64]: no route to host; not followed, as last known: 20 runs",
        "no answer yet; not followed, as last known: late-1",
    ]


def test_news_of_the_service() -> None:
    assert news_line(News("a-1", What.FOLLOWED)) == "a-1: followed again"
    silent = {"gpu1": "no answer", "gpu2": "no answer", "gpu3": "it has no such run"}
    assert (
        news_line(News("a-1", What.SILENT, silent=silent))
        == "a-1: not followed: gpu[1-2]: no answer; gpu3: it has no such run"
    )
    assert news_line(News("a-1", What.FAILED, problem="disk")) == "a-1: not followed: disk"
