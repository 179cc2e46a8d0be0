"""What pages do when the console, its stream or a launcher ends, or nobody looks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.records import events as ev
from support import browser, console_runs
from support.object_store import free_ports

LOG = "logs/attempt-0/rank-0.out"


def add(home: Path, run: str, line: str) -> None:
    with (home / "runs" / run / LOG).open("a") as log:
        log.write(line + "\n")


def lines(page: Any) -> list[str]:
    """Return the lines of the log that the page shows, without their marks."""
    texts = page.get_by_role("log").locator("> div > span:nth-child(2)").all_text_contents()
    return [text.strip() for text in texts]


def test_the_page_goes_on_when_a_console_is_back(chromium: Any, home: Path) -> None:
    run = console_runs.named(home, "wider")
    (port,) = free_ports(1)  # which no connection gets while the console is gone
    with browser.context(chromium, viewport={"width": 360, "height": 800}) as context:
        page = context.new_page()
        with browser.console(home, port=port) as address:
            base = address.partition("#")[0]
            watched = browser.Watched(page, base)
            page.goto(address)
            page.get_by_text("3 runs").wait_for()
            page.goto(f"{base}#/runs/{run}/logs")
            page.get_by_text("step 119").first.wait_for()
            before = lines(page)
        page.get_by_text(f"launcher console --port {port}").wait_for()
        add(home, run, "written while it was gone")
        assert lines(page) == before
        assert not [one for one in watched.wrong() if "net::ERR_" not in one]
        with browser.console(home, port=port) as address:
            page.get_by_text("Open the address that launcher console printed").wait_for()
            assert lines(page) == before
            other = context.new_page()
            other.set_default_timeout(browser.PATIENCE)
            other.goto(address)
            other.get_by_text("3 runs").wait_for()
            other.close()
            page.get_by_text("written while it was gone").wait_for()
            add(home, run, "written afterwards")
            page.get_by_text("written afterwards").wait_for()
            assert lines(page) == [*before, "written while it was gone", "written afterwards"]
            assert page.locator("#link").inner_text() == ""
        with browser.console(home, port=port) as address:
            page.get_by_text("Open the address that launcher console printed").wait_for()
            page.goto(address)  # in the same tab, which does not load anew
            add(home, run, "and again")
            page.get_by_text("and again").wait_for()
            assert page.url == f"{base}#/runs/{run}/logs"
            assert lines(page)[-3:] == [
                "written while it was gone",
                "written afterwards",
                "and again",
            ]


def test_an_address_opens_a_page_that_is_there_once(chromium: Any, home: Path) -> None:
    with (
        browser.console(home) as address,
        browser.context(chromium) as context,
        browser.context(chromium) as other,
    ):
        base = address.partition("#")[0]
        first, second = context.new_page(), other.new_page()
        for page in (first, second):
            page.set_default_timeout(browser.PATIENCE)
            page.goto(base)
            page.get_by_text("Open the address that launcher console printed").wait_for()
        first.goto(address)  # in the same tab, which does not load anew
        first.get_by_text("3 runs").wait_for()
        first.get_by_role("link", name="New", exact=True).click()
        first.get_by_role("button", name="Start").wait_for()
        second.goto(address)
        second.get_by_text("used before, or is of an earlier console").wait_for()
        with first.expect_request(lambda request: "/api/events" in request.url):
            first.goto(address)  # it has the cookie
        assert not first.get_by_text("used before").count()


def test_a_page_that_an_address_opens_gets_its_buttons(chromium: Any, home: Path) -> None:
    hosts: dict[str, Any] = {"hosts": [], "queue": {"waiting": [], "holding": []}, "time": 0}
    with browser.console(home) as address, browser.context(chromium) as context:
        page = context.new_page()
        page.set_default_timeout(browser.PATIENCE)
        page.route("**/api/cluster", lambda route: route.fulfill(json=hosts))
        page.goto(address.partition("#")[0] + "#/cluster")
        page.get_by_text("Open the address that launcher console printed").wait_for()
        page.goto(address)
        page.get_by_role("button", name="Reserve GPUs").wait_for()


@pytest.mark.parametrize("status", [503, 200])
def test_a_stream_that_was_refused_is_opened_again(
    page: browser.Watched, home: Path, status: int
) -> None:
    """A browser gives up for good after an answer that is no stream."""
    refused = []

    def refuse(route: Any) -> None:
        if len(refused) < 2:
            refused.append(route)
            route.fulfill(status=status, json={"error": "32 pages are open already"})
        else:
            route.fallback()

    page.page.route("**/api/events?**", refuse)
    page.page.goto(page.base)
    page.page.get_by_text("3 runs").wait_for()
    with console_runs.one_more(home, "late") as late:
        page.page.get_by_role("link", name=late.name).wait_for()
    page.page.get_by_text("3 runs").wait_for()
    assert len(refused) == 2


def test_a_stream_that_hangs_is_opened_again(page: browser.Watched, home: Path) -> None:
    """As after the sleep of a laptop: no browser notices that nothing comes."""
    hanging: list[Any] = []
    page.page.route(
        lambda url: "/api/events" in url,
        lambda route: route.fallback() if hanging else hanging.append(route),
    )
    page.page.clock.install()
    with page.page.expect_request(lambda request: "/api/events" in request.url):
        page.page.goto(page.base)
    page.page.get_by_text("3 runs").wait_for()
    with console_runs.one_more(home, "late") as late:
        page.page.clock.fast_forward(20_000)
        page.page.get_by_role("link", name=late.name).wait_for()
    page.page.get_by_text("3 runs").wait_for()


#: Keeps what stood on a page, from now on.
SEEN = """() => {
  window.seen = [];
  const look = () => seen.push(document.body.innerText);
  new MutationObserver(look).observe(document.body, { childList: true, characterData: true, subtree: true });
}"""


def test_the_projects_stay_while_the_console_is_gone(page: browser.Watched) -> None:
    asked: list[Any] = []
    empty = {"time": 60, "hosts": [], "queue": {"waiting": [], "holding": []}}

    def shares(route: Any) -> None:
        asked.append(route)
        one = {"name": "vision", "quota": len(asked), "limit": None, "users": ["ann"], "used": 0}
        if 1 < len(asked) < 5:  # a page asks three times
            route.abort("connectionreset")
        else:
            route.fulfill(json={"projects": [{**one, "borrowed": 0, "waiting": 0}], "silent": []})

    page.page.route("**/api/cluster", lambda route: route.fulfill(json=empty))
    page.page.route("**/api/projects", shares)
    page.page.goto(page.base + "#/cluster")
    page.page.get_by_role("row", name="vision 0 1 - 0 0 ann").wait_for()
    page.page.evaluate(SEEN)
    hide(page.page, True)
    hide(page.page, False)
    page.page.get_by_role("row", name="vision 0 5 - 0 0 ann").wait_for()
    seen = page.page.evaluate("() => window.seen")
    assert all("vision" in text for text in seen), seen
    assert not [one for one in page.complaints if "ERR_CONNECTION_RESET" not in one]


def test_files_that_could_not_be_asked_for_are_asked_for_again(
    page: browser.Watched, home: Path
) -> None:
    broken: list[Any] = []

    def first_break(route: Any) -> None:
        if len(broken) == 3:  # a page asks three times
            route.fallback()
        else:
            broken.append(route)
            route.abort("connectionreset")

    page.page.route(lambda url: "/outputs?" in url, first_break)
    page.page.goto(page.base + f"#/runs/{console_runs.named(home, 'baseline')}/files")
    page.page.get_by_text("metrics.json").first.wait_for()
    assert len(broken) == 3
    assert not page.page.get_by_text("No files came back yet").count()


#: Keeps back the first answer about a run, from now on, until `answer()`; fulfils `asked` when it is there.
KEEP_BACK = """run => {
  const json = Response.prototype.json;
  let first = true;
  window.asked = new Promise(there => {
    Response.prototype.json = async function () {
      const value = await json.call(this);
      if (first && this.url.endsWith('/api/runs/' + run)) {
        first = false;
        there();
        await new Promise(done => { window.answer = done; });
      }
      return value;
    };
  });
}"""


def test_an_older_look_at_a_run_is_not_shown(page: browser.Watched, home: Path) -> None:
    with console_runs.one_more(home, "late") as run:
        page.page.add_init_script(f"({KEEP_BACK})('{run.name}')")
        page.page.goto(page.base + f"#/runs/{run.name}")
        page.page.evaluate("() => window.asked")
        console_runs.succeed(run)
        page.page.locator(".stands").get_by_text("succeeded").wait_for()
        page.page.evaluate("() => { answer(); return new Promise(done => setTimeout(done)); }")
        assert "succeeded" in page.page.locator(".stands").inner_text()
        page.page.get_by_role("button", name="Delete").wait_for()
        assert page.wrong() == []


#: Follows a run until it is killed.
FOLLOWS = """
import signal
from support import console_runs
print(console_runs.begin("killed").name, flush=True)
signal.pause()
"""


def test_a_run_whose_launcher_was_killed_says_how_to_go_on(
    page: browser.Watched, home: Path
) -> None:
    tests = str(Path(__file__).parents[1])
    env = {**os.environ, "LAUNCHER_HOME": str(home), "PYTHONPATH": tests}
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOWS], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    run = process.stdout.readline().strip()
    assert run
    try:
        page.page.goto(page.base + f"#/runs/{run}")
        page.page.get_by_role("status").get_by_text("running").wait_for()
        assert not page.page.get_by_text("launcher attach").is_visible()
        process.send_signal(signal.SIGKILL)
        page.page.get_by_text(f"launcher attach {run}").wait_for()
        page.page.get_by_role("status").get_by_text("no launcher attached").wait_for()
        for width in (360, 1280):
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page.wrong() == []
        page.page.get_by_role("link", name="Runs").click()
        row = page.page.get_by_role("row").filter(has_text=run)
        row.get_by_text("no launcher attached").wait_for()
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(home / "runs" / run)
    page.page.get_by_text("3 runs").wait_for()


def test_a_place_that_was_chosen_is_shown_whatever_the_run_does_meanwhile(
    page: browser.Watched, home: Path
) -> None:
    held: list[Any] = []
    page.page.route(lambda url: "rank-0.out?offset=" in url, lambda route: held.append(route))
    with console_runs.one_more(home, "jump") as run:
        for rank in range(2):
            console_runs.printed(run, rank, b"".join(b"line %d\n" % n for n in range(99)))
        page.page.goto(page.base + f"#/runs/{run.name}/logs")
        page.page.get_by_text("line 98").first.wait_for()
        page.page.get_by_role("searchbox", name="Find").fill("line 7")
        page.page.keyboard.press("Enter")
        found = page.page.get_by_role("list", name="Found lines").get_by_role("button")
        with page.page.expect_request(lambda asked: "rank-0.out?offset=" in asked.url):
            found.first.click()
        about = page.base + f"api/runs/{run.name}"
        with page.page.expect_response(lambda answer: answer.url == about):
            run.record(ev.StageStarted(console_runs.STARTED + 9, "run"))
        page.page.evaluate("() => new Promise(done => setTimeout(done))")  # it has dealt with it
        held[0].continue_()
        page.page.get_by_text(" B to ").wait_for()
        assert page.page.get_by_role("log").inner_text().startswith("line 7")
    assert page.wrong() == []


def hide(page: Any, hidden: bool) -> None:
    """Hide a page, as another tab in front of it does, or show it again."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


def test_a_page_that_was_hidden_goes_on_where_it_was(page: browser.Watched, home: Path) -> None:
    run = console_runs.named(home, "wider")
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.goto(page.base + f"#/runs/{run}/logs")
    page.page.get_by_text("step 119").first.wait_for()
    page.page.get_by_role("log").evaluate(
        "log => { log.firstChild.mine = true; log.scrollTop = 40; }"
    )
    before = lines(page.page)
    hide(page.page, True)
    add(home, run, "while nobody looked")
    (home / "runs" / run / "logs/attempt-0/rank-0.err").write_text("a new log\n")
    asked.clear()
    try:
        hide(page.page, False)
        page.page.get_by_text("a new log").wait_for(state="attached")
        page.page.get_by_text("while nobody looked").wait_for(state="attached")
        assert sorted(lines(page.page)) == sorted([*before, "while nobody looked", "a new log"])
        assert page.page.get_by_role("log").evaluate(
            "log => [log.firstChild.mine, log.scrollTop]"
        ) == [True, 40]
        assert not [url for url in asked if "/logs?" in url]
    finally:
        (home / "runs" / run / "logs/attempt-0/rank-0.err").unlink()
    assert page.wrong() == []


def test_the_use_of_hosts_goes_on_after_a_page_was_hidden(
    page: browser.Watched, home: Path
) -> None:
    percent, asked = 40, 0

    def answer(route: Any) -> None:
        nonlocal asked
        asked += 1
        use = {"tag": "Processors, %", "source": "gpu1", "last": [1, 1, percent]}
        route.fulfill(json={"scalars": [use], "whole": False})  # so that it asks again soon

    run = console_runs.named(home, "wider")
    page.page.route("**/metrics?points=0", answer)
    page.page.goto(page.base + f"#/runs/{run}")
    host = page.page.get_by_role("region", name="gpu1")
    host.get_by_text("processors 40 %").wait_for()
    hide(page.page, True)
    before = -1
    while before != asked:
        before = asked
        page.page.wait_for_timeout(400)
    percent = 90
    hide(page.page, False)
    host.get_by_text("processors 90 %").wait_for()
    before = asked
    page.page.wait_for_timeout(400)
    assert asked > before, "it goes on"
    assert page.wrong() == []


def test_what_nobody_saw_for_long_is_skipped(page: browser.Watched, home: Path) -> None:
    """All of it would come through the page, which keeps only its last lines."""
    with console_runs.one_more(home, "talks") as run:
        console_runs.printed(run, 0, b"the beginning\n")
        going: list[Any] = []
        page.page.on("request", lambda one: going.append(one))  # playwright marks it
        for over in ("requestfinished", "requestfailed"):
            page.page.on(over, lambda one: going.remove(one) if one in going else None)
        page.page.goto(page.base + f"#/runs/{run.name}/logs")
        page.page.get_by_text("the beginning").wait_for()
        hide(page.page, True)
        while any(one.url.endswith(f"/api/runs/{run.name}") for one in going):
            page.page.wait_for_timeout(
                20
            )  # what it has asked for, it is told before more is printed
        for begin in range(0, 400_000, 1000):
            text = "".join(f"line {number} of many\n" for number in range(begin, begin + 1000))
            console_runs.printed(run, 0, text.encode())
        console_runs.printed(run, 0, b"the end\n")
        asked: list[str] = []
        page.page.on("request", lambda request: asked.append(request.url))
        hide(page.page, False)
        page.page.get_by_text("the end", exact=True).wait_for()
        size = (run.path / LOG).stat().st_size
        streams = [url for url in asked if "offset=" in url]
        assert all(int(url.rpartition("offset=")[2]) >= size for url in streams), streams
        note = page.page.get_by_text("MB came meanwhile: the end is shown")
        note.wait_for()
        console_runs.printed(run, 1, b"from another rank\n")
        console_runs.exited(run, (0,), console_runs.STARTED, 9)  # so that the page asks anew
        page.page.get_by_text("from another rank").wait_for()
        assert note.is_visible()
        page.page.get_by_role("combobox", name="Output of").select_option("attempt-0/rank-1.out")
        note.wait_for(state="detached")
        assert page.complaints == []  # to look at thousands of lines takes long
