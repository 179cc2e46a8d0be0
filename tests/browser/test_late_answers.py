"""What pages do with answers that come late, or while they ask already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support import browser, console_runs

#: Lets the first request for the list of runs wait for `answer()`; `asked` counts these requests. Fulfils `listed`
#: once a page has dealt with a list, and `told` once it has dealt with what a stream (a FAKE) says of runs.
WATCH = """() => {
  const json = Response.prototype.json, ask = fetch;
  AbortSignal.timeout = () => new AbortController().signal; // no request takes too long
  const first = new Promise(done => { window.answer = done; });
  window.asked = 0;
  window.fetch = async (path, ...more) => {
    if (path === '/api/runs' && asked++ === 0) await first;
    return ask(path, ...more);
  };
  window.listed = new Promise(done => {
    Response.prototype.json = async function () {
      const value = await json.call(this);
      if (this.url.endsWith('/api/runs')) setTimeout(done);
      return value;
    };
  });
  window.told = new Promise(done => {
    window.EventSource = class extends EventTarget { // it never breaks
      constructor() {
        super();
        setTimeout(() => {
          this.dispatchEvent(new MessageEvent('runs', { data: '{"runs": [], "gone": [], "all": 3}' }));
          setTimeout(done);
        }, 200);
      }
      close() {}
    };
  });
}"""


@pytest.fixture
def page(page: browser.Watched, home: Path) -> browser.Watched:
    for path in (home / "runs").glob("*/*"):  # of what changed lately, a stream tells by itself
        for one in (path, path.parent):
            os.utime(one, (console_runs.STARTED, console_runs.STARTED))
    page.page.add_init_script(f"({WATCH})()")
    page.page.goto(page.base)
    return page


def test_a_page_that_was_left_changes_nothing_any_more(page: browser.Watched) -> None:
    arguments = page.page.get_by_label("Script and arguments")

    def typing(route: Any) -> None:
        arguments.focus()  # as soon as the form is there
        route.fallback()

    page.page.route(lambda url: "/api/scripts" in url, typing)
    page.page.get_by_role("link", name="New", exact=True).click()
    page.page.get_by_text("What shall run?").wait_for()
    assert arguments.evaluate("one => one === document.activeElement")
    page.page.evaluate("() => { answer(); return window.listed; }")
    assert arguments.evaluate("one => one === document.activeElement")
    assert not page.page.get_by_role("table", name="Runs").count()
    assert page.wrong() == []


def test_runs_are_listed_once_at_a_time(page: browser.Watched) -> None:
    """Thousands of them take seconds, in which the stream tells of some."""
    page.page.evaluate("() => window.told")
    assert page.page.evaluate("() => window.asked") == 1
    page.page.evaluate("() => answer()")
    page.page.get_by_text("3 runs").wait_for()
    assert page.page.evaluate("() => window.asked") == 2
