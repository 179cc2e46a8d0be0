"""A person's way through the console, on real hosts: plan, start, see why it failed, again, compare."""

from __future__ import annotations

from typing import Any

from support import browser
from support import lab as labs
from support.command import Launcher, of_runs

SCRIPT = """
import sys, time
for step in range(20):
    print(f"step {step} loss={1 / (step + 1)}", flush=True)
if "--bad" in sys.argv:
    raise RuntimeError("the batch is too large")
while "--long" in sys.argv:
    time.sleep(0.1)
"""


def test_plan_start_see_why_run_again_stop_compare_delete(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(SCRIPT)
    place = ("-i", str(launcher.inventory))
    with (
        browser.browser() as chromium,
        browser.console(launcher.home, *place, cwd=launcher.work) as address,
        browser.context(chromium) as context,
    ):
        page = context.new_page()
        watched = browser.Watched(page, address.partition("#")[0])
        page.goto(address)
        page.get_by_role("link", name="New", exact=True).click()
        page.get_by_label("Script and arguments").fill("train.py --bad")
        page.get_by_label("Framework").select_option("torch")
        page.get_by_label("Hosts (how many)").fill("2")
        page.get_by_label("Name", exact=True).fill("first")
        page.get_by_role("table", name="Plan").get_by_role("row", name="lab2").wait_for()
        page.get_by_role("button", name="Start").click()
        page.get_by_role("heading", name="first-").wait_for()
        page.get_by_text("RuntimeError: the batch is too large").first.wait_for()

        again(page, "--long")
        page.get_by_role("status").get_by_text("running").wait_for()
        page.get_by_role("link", name="Output").click()
        page.get_by_text("step 19").wait_for()
        page.get_by_role("link", name="Scalars").click()
        page.get_by_role("img", name="loss: rank 0 0.05").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        page.get_by_role("status").get_by_text("stopped").wait_for()
        assert not [one for host in clean.hosts.values() for one in of_runs(host)]

        again(page, "")
        page.get_by_role("status").get_by_text("succeeded").wait_for()
        page.get_by_role("link", name="Runs").click()
        choose_all(page)
        page.get_by_role("link", name="Compare").click()
        best = page.get_by_role("table", name="Best values")
        best.get_by_role("row", name="loss 0.05 0.05 0.05").wait_for()  # logs are read in pieces

        page.get_by_role("link", name="Runs").click()
        choose_all(page)
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.get_by_text("No runs yet").wait_for()
        assert watched.wrong() == []
    assert not list((launcher.home / "runs").iterdir())


def choose_all(page: Any) -> None:
    page.get_by_text("3 runs").wait_for()
    for box in page.get_by_role("checkbox").all():
        box.check()


def again(page: Any, arguments: str) -> None:
    """Run the run of this page again with other arguments, and wait for the new run's page."""
    old = page.url
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("textbox", name="Arguments").fill(arguments)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(lambda url: url != old)
