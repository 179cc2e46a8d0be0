"""The console's pages in a real browser: readable on a phone and a desk, in the light and in the dark."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support import browser, console_runs

#: Where pictures of all pages go; make screenshots gives some of them to the documentation.
SHOTS = os.environ.get("LAUNCHER_SCREENSHOTS")
WIDTHS = {"phone": 360, "desk": 1280}


#: By name: the address of a page, and text that it has when it is all there.
PAGES = {
    "runs": ("#/", "3 runs"),
    "failed": ("#/runs/{night}", "OutOfMemoryError"),
    "overview": ("#/runs/{wider}", "2 of 2 running"),
    "output": ("#/runs/{wider}/logs", "step 119"),
    "files": ("#/runs/{baseline}/files", "metrics.json"),
    "code": ("#/runs/{baseline}/code", "Uncommitted changes"),
    "job": ("#/runs/{baseline}/job", "launcher rerun"),
    "scalars": ("#/runs/{wider}/scalars", "val/accuracy"),
    "metrics": ("#/runs/{wider}/metrics", "GPU temperature"),
    "sweeps": ("#/sweeps", "5 done, 1 running of 8"),
    "sweep": ("#/sweeps/{sweep}", "Best so far"),
    "new": ("#/new", "Script and arguments"),
    "compare": ("#/compare/{wider},{baseline}", "Best values"),
}


COMPARED = "#/compare/{},{}"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_read(page: browser.Watched, home: Path, name: str) -> None:
    where, text = PAGES[name]
    names = {word: console_runs.named(home, word) for word in ("night", "wider", "baseline")}
    names["sweep"] = next((home / "sweeps").iterdir()).name
    page.page.goto(page.base + where.format(**names))
    page.page.get_by_text(text).first.wait_for()
    for scheme, (device, width) in product(("light", "dark"), WIDTHS.items()):
        page.page.emulate_media(color_scheme=scheme)
        page.page.set_viewport_size({"width": width, "height": 800})
        page.page.wait_for_timeout(100)  # the next frame has been drawn
        if SHOTS:
            page.page.screenshot(path=f"{SHOTS}/console-{name}-{device}-{scheme}.png")
        assert page.wrong() == [], (name, device, scheme)


def test_what_happens_is_on_the_page_at_once(page: browser.Watched, home: Path) -> None:
    logs = home / "runs" / console_runs.named(home, "wider") / "logs/attempt-0"
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'wider')}/logs")
    page.page.get_by_text("step 119").first.wait_for()
    with (logs / "rank-0.out").open("ab") as log:
        log.write(b"<b>bold</b> \x1b]0;title\x07\x1b[31mred\x1b[0m\n\n10%\r99%")
    page.page.get_by_text("<b>bold</b> red").wait_for()
    assert page.page.locator(".log .f1").inner_text() == "red"
    page.page.get_by_text("99%", exact=True).wait_for()
    for rank in (1, 2, 3):
        with (logs / f"rank-{rank}.out").open("ab") as log:
            log.write(b"the same line\n")
    page.page.get_by_text("[1-3]the same line").wait_for()
    page.page.get_by_role("checkbox", name="fold equal lines").uncheck()
    page.page.get_by_text("[3]the same line").wait_for()
    assert page.page.get_by_text("the same line").count() == 3
    page.page.get_by_role("searchbox", name="Find").fill("STEP 37 ")
    page.page.keyboard.press("Enter")
    page.page.get_by_role("list", name="Found lines").get_by_role("button").nth(2).click()
    page.page.get_by_text(" kB to ").wait_for()
    assert "step 37 " in page.page.get_by_role("log").inner_text().splitlines()[0]
    page.page.get_by_role("button", name="Live").click()
    page.page.get_by_text("the same line").wait_for()
    page.page.get_by_role("link", name="Runs").click()
    table, sort = (
        page.page.get_by_role("table", name="Runs"),
        page.page.get_by_role("button", name="run"),
    )
    page.page.get_by_text("3 runs").wait_for()
    for first in ("baseline", "wider"):  # by name, and again: the other way round
        sort.click()
        assert table.get_by_role("link").first.inner_text().startswith(first)
    page.page.get_by_role("searchbox", name="Filter runs").fill("lr failed")
    page.page.get_by_text("0 of 3 runs").wait_for()
    page.page.get_by_role("searchbox", name="Filter runs").fill("night gpu2")
    page.page.get_by_text("1 of 3 runs").wait_for()
    status = page.page.get_by_role("combobox", name="Status")
    assert status.locator("option").all_text_contents() == [
        "any status",
        "failed",
        "running",
        "succeeded",
    ]
    status.select_option("running")
    page.page.get_by_text("0 of 3 runs").wait_for()
    status.select_option("failed")
    page.page.get_by_text("1 of 3 runs").wait_for()
    status.select_option("any status")
    page.page.get_by_role("searchbox", name="Filter runs").fill("")
    page.page.get_by_text("3 runs", exact=True).wait_for()
    project = page.page.get_by_role("combobox", name="Project")
    assert project.locator("option").all_text_contents() == ["any project", "vision"]
    project.select_option("vision")
    page.page.get_by_text("1 of 3 runs").wait_for()
    page.page.get_by_role("link", name=console_runs.named(home, "night")).press("Enter")
    page.page.get_by_role("heading", name="failed first").wait_for()
    assert page.wrong() == []


#: Logs of runs that have no ranks' logs, or also others: what marks the lines of each.
LOGS = {
    "env": {"node-0.out": "[node 0]", "node-1.out": "[node 1]"},
    "roles": {"ps-0.out": "[ps 0]", "worker-0.err": "[worker 0]", "worker-1.out": "[worker 1]"},
    "torchrun": {"rank-0.out": "[0]", "rank-1.out": "[1]", "node-0.err": "[node 0]"},
    "setup": {"setup-0.out": "[setup 0]", "setup-1.out": "[setup 1]"},
}


@pytest.mark.parametrize("kind", LOGS)
def test_all_output_is_there_whatever_wrote_it(
    page: browser.Watched, home: Path, kind: str
) -> None:
    run = console_runs.named(home, "wider")
    names = {f"attempt-0/{name}": mark for name, mark in LOGS[kind].items()}
    older = {"attempt-0/setup-0.out"}

    def answer(route: Any) -> None:
        told = route.fetch().json()
        told["logs"] = [{"name": name, "size": 9} for name in sorted({*names, *older})]
        route.fulfill(json=told)

    def ends(route: Any) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)["log"]
        pieces = [
            {"when": 0, "log": name, "offset": 0, "data": b64encode(name.encode() + b"\n").decode()}
            for name in asked
        ]
        route.fulfill(json={"next": [9] * len(asked), "pieces": pieces})

    page.page.route("**/api/events?**", lambda route: None)  # it has what the run really wrote
    page.page.route(f"**/api/runs/{run}", answer)
    page.page.route(f"**/api/runs/{run}/logs?**", ends)
    page.page.goto(page.base + f"#/runs/{run}/logs")
    for name, mark in names.items():
        page.page.get_by_text(f"{mark}{name}", exact=True).wait_for()
    assert page.page.get_by_role("log").locator("> div").count() == len(names)
    assert page.wrong() == []


def test_of_many_logs_one_chooses(page: browser.Watched, home: Path) -> None:
    """They were cut at 64 without a word."""
    with console_runs.one_more(home, "many") as run:
        for rank in range(100):
            console_runs.printed(run, rank, f"hello from {rank}\n".encode())
        page.page.goto(page.base + f"#/runs/{run.name}/logs")
        page.page.get_by_text("64 of 100 logs shown: choose others").wait_for()
        shown = page.page.get_by_role("log").locator("> div")
        shown.nth(63).wait_for()
        assert shown.count() == 64
        page.page.get_by_role("searchbox", name="Find").fill("from 99")
        page.page.keyboard.press("Enter")
        page.page.get_by_role("list", name="Found lines").get_by_text("hello from 99").wait_for()
        page.page.get_by_role("searchbox", name="Ranks").fill("70-72, 99")
        page.page.keyboard.press("Enter")
        page.page.get_by_text("4 of 100 logs shown", exact=True).wait_for()
        page.page.get_by_role("log").get_by_text("[99]hello from 99").wait_for()
        assert shown.count() == 4
        console_runs.printed(run, 71, b"and 71 goes on\n")
        page.page.get_by_text("and 71 goes on").wait_for()
        for width in WIDTHS.values():
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page.wrong() == []


def test_ranks_that_mean_no_log_show_none(page: browser.Watched, home: Path) -> None:
    """The page asked for the run, and for its news, again and again."""
    with console_runs.one_more(home, "many") as run:
        for rank in range(70):
            console_runs.printed(run, rank, b"hello\n")
        page.page.goto(page.base + f"#/runs/{run.name}/logs")
        page.page.get_by_text("64 of 70 logs shown").wait_for()
        asked: list[str] = []
        page.page.on("request", lambda one: asked.append(one.url))
        looks: list[str] = []  # before a stream that broke is opened again
        page.page.on(
            "response",
            lambda one: looks.append(one.url) if one.url.endswith("/api/console") else None,
        )
        ranks = page.page.get_by_role("searchbox", name="Ranks")
        ranks.fill("200")
        page.page.keyboard.press("Enter")
        page.page.get_by_text("0 of 70 logs shown", exact=True).wait_for()
        for _ in range(3):  # the page asks for the run as its streams begin, and after each change
            with page.page.expect_response(f"**/api/runs/{run.name}"):
                console_runs.exited(run, (0,), console_runs.STARTED, 9)
        streams = [url for url in asked if "/events" in url and "log=" not in url]
        assert len(streams) <= 2 + len(looks)
        later = run.path / "logs/attempt-1"
        later.mkdir()
        for rank in range(2):
            (later / f"rank-{rank}.out").write_text("and again\n")
        console_runs.exited(run, (0,), console_runs.STARTED, 9)
        page.page.get_by_text("0 of 2 logs shown", exact=True).wait_for()
        ranks.fill("")
        page.page.keyboard.press("Enter")
        page.page.get_by_text("[0-1]and again").wait_for()
        ranks.wait_for(state="hidden")
        assert page.wrong() == []


#: Text for a terminal: what is left of it, and the classes of its parts.
ANSI = [
    ("\x1b[1;31mred\x1b[0m plain", "red plain", ["bold f1"]),
    ("\x1b[38;5;208morange\x1b[39m", "orange", [""]),
    ("\x1b[38;2;1;2;3mdark\x1b[m", "dark", [""]),
    ("\x1b[7mback\x1b[27m", "back", ["inverse"]),
    ("\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07", "link", []),
    ("\x1b]0;title\x1b\\\x1b[2J\x1b[10;5Hgone\x9b31m", "gone", []),
    ("a\x00b\x08c\x7fd\x85e", "abcde", []),
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>", []),
    ("\x1b[38;5mcut \x1b[999mon", "cut on", []),
]


def test_colours_are_kept_and_nothing_else(page: browser.Watched) -> None:
    page.page.goto(page.base)
    script = """async lines => {
      const { coloured } = await import('/static/ansi.js');
      return lines.map(line => {
        const place = document.createElement('p');
        place.append(...coloured(line, {}).parts);
        return [place.textContent, [...place.children].map(one => one.className)];
      });
    }"""
    found = page.page.evaluate(script, [line for line, _, _ in ANSI])
    assert found == [[text, classes] for _, text, classes in ANSI]


def test_files_can_be_looked_into(page: browser.Watched, home: Path) -> None:
    """What a host wrote becomes text, a table or a picture; what is none of these can be saved."""
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'baseline')}/files")
    for name in ("metrics.json", "report.html", "broken.json", "history.csv", "curve.png"):
        page.page.locator("summary", has_text=name).click()
    for text in ('"accuracy": 0.93', "<script>document.title = 'gone'</script>", '{"loss": '):
        page.page.locator("pre.preview", has_text=text).wait_for()
    table = page.page.get_by_role("table", name="Preview")
    table.wait_for()
    assert table.locator("th").all_inner_texts() == ["epoch", "loss, mean"]
    assert table.locator("td").all_inner_texts() == ["1", '0.9 "rough"', "2", "0.4"]
    picture = page.page.get_by_role("img", name="curve.png")
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") == 1
    page.page.locator("summary", has_text="checkpoints/").click()
    page.page.get_by_text("2.4 MB, gpu1 gpu2, checkpoint").wait_for()
    assert "gone" not in page.page.title()
    assert page.wrong() == []


def test_the_list_shows_the_loss_of_each_run_as_it_moves(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base + "#/")
    row = page.page.get_by_role("row").filter(has_text=console_runs.named(home, "baseline"))
    row.get_by_role("img", name="loss 0.").wait_for()
    with (home / "runs" / console_runs.named(home, "wider") / "logs/attempt-0/rank-0.out").open(
        "ab"
    ) as log:
        log.write(b"step 129 loss=0.04321\n")
    going_on = page.page.get_by_role("row").filter(has_text=console_runs.named(home, "wider"))
    going_on.get_by_role("img", name="loss 0.04321").wait_for(timeout=browser.PATIENCE)
    assert page.wrong() == []


def test_the_page_of_a_run_has_its_hosts_their_ranks_and_use(
    page: browser.Watched, home: Path
) -> None:
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'wider')}")
    host = page.page.get_by_role("region", name="gpu2")
    host.get_by_text("2 of 2 running").wait_for()
    host.get_by_text("processors ").wait_for()
    ranks = host.get_by_role("list", name="Processes on gpu2").get_by_role("listitem")
    ranks.filter(has_text="2running").get_by_role("img", name="GPU 0 ").wait_for()
    ranks.filter(has_text="3running").get_by_role("img", name="GPU 1 ").wait_for()
    stages = page.page.get_by_role("img", name="Stages: connect 0.4 s, sync 0.7 s, start 0.9 s")
    stages.wait_for()
    assert page.wrong() == []
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'night')}")
    page.page.get_by_text("[0-1,3] step 39").wait_for()
    host.get_by_text("1 process left").wait_for()
    host.get_by_role("listitem").filter(has_text="2exit 1").wait_for()
    host.get_by_role("listitem").filter(has_text="3signal 15").wait_for()
    assert page.wrong() == []
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'baseline')}/files")
    page.page.get_by_text("18 B, gpu1", exact=True).wait_for()


def test_the_list_shows_how_far_a_run_is_and_its_last_line(
    page: browser.Watched, home: Path
) -> None:
    with console_runs.one_more(home, "far") as run:
        page.page.goto(page.base + "#/")
        row = page.page.get_by_role("row", name=run.name)
        row.wait_for()
        for said, percent in (
            (b"\x1b[31mEpoch 2/4\x1b[0m, step 50/100 <b>", 37),
            (b"step 3/4", 75),
        ):
            console_runs.printed(run, 1, said + b"\n")
            row.get_by_role("img", name=f"{percent} % done").wait_for()
        row.get_by_text("step 3/4").wait_for()
    failed = page.page.get_by_role("row", name=console_runs.named(home, "night"))
    failed.get_by_text("OutOfMemoryError").wait_for()
    assert page.wrong() == []


def test_the_list_is_narrowed_by_user_where_there_are_several(
    page: browser.Watched, home: Path
) -> None:
    page.page.goto(page.base + "#/")
    page.page.get_by_text("3 runs", exact=True).wait_for()
    user = page.page.get_by_role("combobox", name="User")
    assert user.locator("option").all_text_contents() == ["any user", "ann", "bob"]
    user.select_option("bob")
    page.page.get_by_text("1 of 3 runs").wait_for()
    page.page.get_by_role("link", name=console_runs.named(home, "night")).wait_for()
    assert page.wrong() == []


def test_scalars_move_while_one_looks(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'wider')}/scalars")
    plot = page.page.get_by_role("img", name="val/accuracy: board")
    plot.wait_for()
    with (home / "runs" / console_runs.named(home, "wider") / "logs/attempt-0/rank-0.out").open(
        "ab"
    ) as log:
        log.write(b"step 130 loss=0.01234\n")
    page.page.get_by_role("img", name="loss: rank 0 0.01234, rank 1").wait_for()
    page.page.get_by_role("checkbox", name="log scale").check()
    page.page.get_by_role("combobox", name="Over").select_option("over time")
    page.page.get_by_role("slider", name="Smoothing").fill("0.9")
    page.page.get_by_role("searchbox", name="Filter scalars").fill("acc")
    page.page.get_by_role("img", name="loss:").wait_for(state="detached")
    assert plot.is_visible()
    assert page.wrong() == []


def test_marks_of_an_axis_of_time_are_told_apart(page: browser.Watched) -> None:
    page.page.goto(page.base + "#/")
    page.page.get_by_text("3 runs", exact=True).wait_for()
    axes = page.page.evaluate(
        """async () => {
          const { APART, ticks } = await import('/static/plot.js');
          return APART.map(apart => [...Array(12).keys()].map(index => ticks(index * apart)));
        }"""
    )
    assert all(len(set(marks)) == len(marks) for marks in axes), axes
    assert axes[9][:4] == ["0 s", "60 s", "2 min", "3 min"]


def test_chosen_runs_are_compared(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base)
    for name in ("wider", "baseline"):
        page.page.get_by_role("checkbox", name=f"Choose {console_runs.named(home, name)}").check()
    page.page.get_by_role("link", name="Compare").click()
    best = page.page.get_by_role("table", name="Best values")
    best.get_by_role("row", name="val/accuracy").wait_for()
    row = page.page.get_by_role("table", name="Parameters").get_by_role("row", name="--lr")
    assert row.inner_text().split() == ["--lr", "0.003", "0.001"]
    assert page.wrong() == []


def test_a_run_is_planned_as_one_types(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base + "#/new")
    page.page.get_by_text("What shall run?").wait_for()
    start = page.page.get_by_role("button", name="Start")
    assert start.is_disabled()
    run = page.page.get_by_label("Script and arguments")
    run.fill("trian.py --lr 0.1")
    page.page.get_by_text("there is no trian.py in").wait_for()
    assert run.get_attribute("aria-invalid") == "true"
    run.fill("train.py --lr 0.1")
    page.page.get_by_label("GPUs (total)").fill("4")
    plan = page.page.get_by_role("table", name="Plan")
    plan.get_by_role("row", name="gpu2 2-3 0 1").wait_for()
    page.page.get_by_label("Environment variables").fill("A=1\nB=x y")
    file = page.page.get_by_role("region", name="Job file")
    file.get_by_text("B: x y").wait_for()
    assert start.is_enabled()
    page.page.get_by_label("Folder").evaluate("field => { field.placeholder = '/home/ann/digits' }")
    page.page.evaluate("document.querySelectorAll('*').forEach(each => { each.scrollTop = 0 })")
    for scheme, (device, width) in product(("light", "dark"), WIDTHS.items()):
        page.page.emulate_media(color_scheme=scheme)
        page.page.set_viewport_size({"width": width, "height": 800})
        if SHOTS:
            page.page.screenshot(path=f"{SHOTS}/console-plan-{device}-{scheme}.png")
        assert not [one for one in page.wrong() if "400" not in one]
    page.page.get_by_label("GPUs (total)").fill("99")
    page.page.get_by_text("the hosts have only 4 GPUs").wait_for()
    page.page.get_by_role("link", name="Runs").click()
    page.page.get_by_role("link", name="New", exact=True).click()
    page.page.get_by_text("the hosts have only 4 GPUs").wait_for()  # what was typed is still there


def test_hosts_and_data_sets_are_chosen_by_a_click(page: browser.Watched, home: Path) -> None:
    source = home / "digits"
    source.mkdir()
    (source / "a.bin").write_bytes(bytes(2000))
    known = (sys.executable, "-m", "launcher", "data")
    env = {**os.environ, "LAUNCHER_HOME": str(home)}
    subprocess.run([*known, "add", "digits", str(source)], env=env, check=True)
    try:
        page.page.goto(page.base + "#/new")
        hosts = page.page.get_by_role("group", name="Hosts to choose")
        page.page.get_by_label("Script and arguments").fill("train.py")
        sets = page.page.get_by_role("group", name="Sets that were added")
        sets.get_by_role("button", name="digits 2.0 kB").click()
        file = page.page.get_by_role("region", name="Job file")
        file.get_by_text("data:\n- digits").wait_for()
        hosts.get_by_role("button", name="gpu2").click()
        hosts.get_by_role("button", name="gpu1").click()
        file.get_by_text("- gpu2\n- gpu1").wait_for()
        hosts.get_by_role("button", name="gpu2", pressed=True).click()
        plan = page.page.get_by_role("table", name="Plan")
        plan.get_by_role("row", name="gpu2").wait_for(state="hidden")
        plan.get_by_role("row", name="gpu1").wait_for()
        page.page.get_by_label("Data", exact=True).fill("digits: {to: data/digits}")
        sets.get_by_role("button", name="digits", disabled=True).wait_for()
        assert page.wrong() == []
    finally:
        subprocess.run([*known, "rm", "digits"], env=env, check=True)


def test_mappings_are_typed_as_fields_or_as_yaml(page: browser.Watched, home: Path) -> None:
    page.page.goto(page.base + "#/new")
    page.page.get_by_label("Script and arguments").fill("train.py")
    page.page.locator("summary", has_text="Environment").click()
    page.page.get_by_label("Conda").fill("ml")
    venv = page.page.get_by_label("Venv")
    venv.fill("here")
    page.page.get_by_text("environment.venv: 'here' is no folder of a host").wait_for()
    assert venv.get_attribute("aria-invalid") == "true"
    venv.fill("")
    page.page.locator("summary", has_text="Checkpoints").click()
    page.page.get_by_label("Every", exact=True).fill("10m")
    page.page.get_by_text("checkpoints: has no path").wait_for()
    page.page.get_by_label("Path", exact=True).fill("ckpt")
    data = page.page.get_by_label("Data")
    data.fill("speech:\n  form: /scratch")
    page.page.get_by_text('unknown key "form" in data.speech').wait_for()
    data.fill("speech: {")
    page.page.get_by_text("data: line 1: not YAML").wait_for()
    assert data.get_attribute("aria-invalid") == "true"
    data.fill("speech:\n  from: s3://bucket/speech")
    page.page.get_by_label("Outputs").fill("results, *.json")
    file = page.page.get_by_role("region", name="Job file")
    file.get_by_text("from: s3://bucket/speech").wait_for()
    written = file.inner_text()
    for part in (
        "environment:\n  conda: ml\n",
        "checkpoints:\n  path: ckpt\n  every: 10m\n",
        "data:\n  speech:\n    from: s3://bucket/speech\n",
        "outputs:\n- results\n- '*.json'\n",
    ):
        assert part in written, written
    assert page.page.get_by_role("button", name="Start").is_enabled()
    for scheme, width in product(("light", "dark"), WIDTHS.values()):
        page.page.emulate_media(color_scheme=scheme)
        page.page.set_viewport_size({"width": width, "height": 800})
        assert not [one for one in page.wrong() if "400" not in one]


@pytest.mark.parametrize("times", [1, 3])
def test_what_gets_no_answer_is_asked_for_again(
    page: browser.Watched, home: Path, times: int
) -> None:
    """Connections that broke left an empty page, for good; and one that is asked again gives up at last."""
    broken = []

    def first_break(route: Any) -> None:
        if len(broken) == times:
            route.fallback()
        else:
            broken.append(route)
            route.abort("connectionreset")

    where, shown = ("", "3 runs") if times == 1 else (COMPARED, "Best values")
    page.page.route("**/api/runs" if times == 1 else "**/api/compare?**", first_break)
    page.page.goto(
        page.base
        + where.format(*(console_runs.named(home, name) for name in ("wider", "baseline")))
    )
    page.page.get_by_text(shown).wait_for()
    assert len(broken) == times
