"""What changes on a page leaves the rest of it as it is: the focus, what is selected, how far it is scrolled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.records.sweep_folder import SweepFolder, TrialRecord, new_record
from support import browser, console_runs

#: What has the focus, what is selected, and how far the element of this selector is scrolled.
STANDS = """selector => [
  document.activeElement.textContent, String(getSelection()), document.querySelector(selector).scrollLeft,
]"""
SELECT = "one => getSelection().selectAllChildren(one)"


def gpu(index: int, percent: int, run: str) -> dict[str, Any]:
    return {
        "index": str(index),
        "name": "H100",
        "state": "held",
        "user": "ann",
        "run": run,
        "command": "",
        "percent": percent,
        "celsius": 50,
        "used": 1024,
        "memory": 80_000,
    }


def test_the_page_of_all_hosts(page: browser.Watched, home: Path) -> None:
    run = console_runs.named(home, "wider")
    busy = [10]
    waiting = ["third", "fourth"]

    def answer(route: Any) -> None:
        hosts = [
            {"host": name, "problem": "", "off": False, "gpus": [gpu(0, busy[0], run)], "runs": []}
            for name in ("gpu1", "gpu2")
        ]
        queue = [
            {
                "place": place,
                "run": name,
                "user": "bob",
                "shares": [2],
                "hosts": ["gpu1 " * 30],
                "since": 0,
                "why": "behind",
                "runs": [run],
                "users": {run: "ann"},
                "latest": None,
                "project": "",
            }
            for place, name in enumerate(waiting, 1)
        ]
        held = {"run": "reserved-noon", "user": "eve", "gpus": {"gpu1": [2, 3]}, "since": 0}
        holding = [{**held, "until": 3600, "project": "vision"}]
        value = {"waiting": queue, "holding": holding}
        route.fulfill(json={"time": 60, "hosts": hosts, "queue": value})

    def shares(route: Any) -> None:
        one = {"name": "vision", "quota": 4, "limit": None, "users": ["ann", "eve"], "used": 3}
        value = {"projects": [{**one, "borrowed": 0, "waiting": 1}], "silent": ["gpu9"]}
        route.fulfill(json=value)

    page.page.route("**/api/cluster", answer)
    page.page.route("**/api/projects", shares)
    page.page.set_viewport_size({"width": 360, "height": 800})
    page.page.goto(page.base + "#/cluster")
    page.page.get_by_role("region", name="gpu2").get_by_role("link", name=run).focus()
    page.page.get_by_role("cell", name="fourth").evaluate(SELECT)
    page.page.get_by_role("region", name="Waiting").evaluate("one => { one.scrollLeft = 25; }")
    page.page.get_by_role("row", name="vision 3 4 - 0 1 ann eve").wait_for()
    page.page.get_by_text("not asked: gpu9").wait_for()
    page.page.get_by_role("row", name="reserved-noon eve gpu1: 2 3 vision").wait_for()
    busy[0] = 90
    waiting.insert(0, "second")
    page.page.get_by_role("cell", name="second").wait_for()
    assert page.page.get_by_role("region", name="gpu2").get_by_text("90 %").is_visible()
    assert page.page.evaluate(STANDS, '[aria-label="Waiting"]') == [run, "fourth", 25]
    del waiting[:2]
    page.page.get_by_role("cell", name="second").wait_for(state="detached")
    assert page.page.get_by_role("table", name="Waiting").get_by_role("row").count() == 2
    assert page.page.evaluate(STANDS, '[aria-label="Waiting"]') == [run, "fourth", 25]
    assert page.wrong() == []


def test_the_page_of_a_sweep(page: browser.Watched, home: Path) -> None:
    folder = SweepFolder(next((home / "sweeps").iterdir()))
    page.page.set_viewport_size({"width": 360, "height": 800})
    page.page.goto(page.base + f"#/sweeps/{folder.name}")
    trials = page.page.get_by_role("table", name="Trials")
    trials.get_by_role("link", name="lr-t2").focus()
    trials.get_by_role("cell", name="0.85").first.evaluate(SELECT)
    page.page.get_by_role("region", name="Trials").evaluate("one => { one.scrollLeft = 25; }")
    params = {"lr": "1", "batch": "1", "optimizer": "sgd"}
    folder.note(TrialRecord("t5", params, "succeeded", "lr-t5", value=0.99))
    trials.get_by_role("row").nth(1).get_by_text("lr-t5").wait_for()
    assert page.page.evaluate(STANDS, '[aria-label="Trials"]') == ["lr-t2", "0.85", 25]
    assert page.wrong() == []


def test_sweeps_that_begin_and_go_on(page: browser.Watched, home: Path) -> None:
    """Pages of sweeps of which none runs look again when runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(home))
        folder = SweepFolder.create("later", new_record(("train.py",), 2, ("lr",), None, "max"))
    page.page.goto(page.base + "#/sweeps")
    row = page.page.get_by_role("row").filter(has_text=folder.name)
    row.get_by_text("none of 2").wait_for()
    of_one = page.page.context.new_page()
    of_one.goto(page.base + f"#/sweeps/{folder.name}")
    of_one.get_by_text("No trial has started yet.").wait_for(timeout=browser.PATIENCE)
    folder.note(TrialRecord("t0", {"lr": "1"}, "succeeded", "later-t0"))
    with console_runs.one_more(home, "later-t0"):
        row.get_by_text("1 done of 2").wait_for()
        of_one.get_by_role("link", name="later-t0").wait_for(timeout=browser.PATIENCE)
    shutil.rmtree(folder.path)
    assert page.wrong() == []


def test_the_list_of_runs(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base)
    name = console_runs.named(home, "baseline")
    page.page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.page.get_by_role("link", name=name).focus()
    page.page.get_by_role("row").filter(has_text=name).get_by_text("succeeded").evaluate(SELECT)
    with console_runs.one_more(home, "newest") as run:
        page.page.get_by_role("link", name=run.name).wait_for()
        assert page.page.evaluate(STANDS, ".rows") == [name, "succeeded", 0]
    page.page.get_by_text("3 runs").wait_for()
    assert page.page.get_by_role("checkbox", name=f"Choose {name}").is_checked()
    assert page.page.evaluate(STANDS, ".rows") == [name, "succeeded", 0]
    assert page.wrong() == []
