"""Console, launcher and a host are killed in any order: the page says what is known, and goes on by
itself once they are back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import pytest

from launcher.records.run_lock import holder
from support import browser
from support import lab as labs
from support.command import Launcher
from support.object_store import free_ports

HOSTS = [labs.HostSpec("one"), labs.HostSpec("two")]
SCRIPT = """
import itertools, time
for step in itertools.count():
    print(f"step {step} loss={1 / (step + 1)}", flush=True)
    time.sleep(0.2)
"""


@contextmanager
def console(launcher: Launcher, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a console; give its process, and the address that opens it."""
    words = ("console", "--no-browser", "--port", str(port), "-i", str(launcher.inventory))
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", *words],
        cwd=launcher.work,
        env=launcher.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("own", [HOSTS], indirect=True)
@pytest.mark.parametrize("order", list(permutations(("console", "launcher", "host"))), ids="-".join)
def test_the_page_says_what_is_known_and_goes_on(
    own: labs.Lab, launcher: Launcher, order: tuple[str, ...]
) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    script = launcher.script(SCRIPT)
    words = ("--nodes", "2", "--framework", "env", "--lost-after", "4s", "--detach")
    left = launcher.run(*words, f"python3 {script}")
    assert left.code == 0, left.err
    run = left.folder.name
    (port,) = free_ports(1)
    with (
        browser.browser() as chromium,
        browser.context(chromium) as context,
        console(launcher, port) as (first, address),
    ):
        page = context.new_page()
        page.set_default_timeout(browser.PATIENCE)
        page.goto(address)
        base = address.partition("#")[0]
        page.goto(f"{base}#/runs/{run}/logs")
        page.get_by_text("step 3").first.wait_for()
        gone: set[str] = set()
        for what in order:
            _kill(what, own, launcher, run, first)
            gone.add(what)
            _says(page, run, gone)
        own.hosts["two"].boot()
        with console(launcher, port) as (_, again):
            page.get_by_text("Open the address that launcher console printed").wait_for()
            other = context.new_page()
            other.set_default_timeout(browser.PATIENCE)
            other.goto(again)
            other.get_by_role("table", name="Runs").wait_for()
            other.close()
            ended = launcher.call("attach", run)
            assert ended.returncode != 0, ended.stderr
            status = page.get_by_role("status")
            status.get_by_text("failed").or_(status.get_by_text("lost")).first.wait_for()
            page.get_by_role("link", name="Overview").click()
            page.get_by_role("region", name="one", exact=True).get_by_text(
                "nothing left"
            ).wait_for()
            page.get_by_role("link", name="Metrics").click()
            page.get_by_role("img", name="Processors").wait_for()


def _kill(
    what: str, own: labs.Lab, launcher: Launcher, run: str, console: subprocess.Popen[str]
) -> None:
    if what == "console":
        console.kill()
        console.wait()
    elif what == "launcher":
        follower = holder(launcher.home / "runs" / run)
        if follower:  # it may have ended, since a host was lost; and 0 would be this whole group
            os.kill(follower, signal.SIGKILL)
    else:
        own.hosts["two"].power_cut()


def _says(page: Any, run: str, gone: set[str]) -> None:
    """Wait for what the page says of what is gone."""
    if "console" in gone:
        page.get_by_text("launcher console has ended").wait_for()
        assert "step" in page.get_by_role("log").inner_text(), "what it showed is still there"
    elif "host" in gone and "launcher" not in gone:
        status = page.get_by_role("status")
        status.get_by_text("failed").or_(status.get_by_text("lost")).first.wait_for()
    elif "host" not in gone:
        page.get_by_text(f"launcher attach {run}").wait_for()
