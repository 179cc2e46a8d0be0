"""A console over runs that this machine has recorded, and a real browser that has opened it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import browser, console_runs

INVENTORY = "hosts:\n" + "".join(
    f"  gpu{number}: {{address: 127.0.0.1, port: 1, gpus: 2}}\n" for number in (1, 2)
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(path))
        running = console_runs.several()
    yield path
    running.close()


@pytest.fixture(scope="module")
def session(chromium: Any, home: Path) -> Iterator[tuple[str, Any]]:
    """A console, and the cookies of a browser that has opened it."""
    (home / "train.py").write_text("")
    inventory = home / "inventory.yaml"
    inventory.write_text(INVENTORY)
    with (
        browser.console(home, "-i", str(inventory)) as address,
        browser.context(chromium) as context,
    ):
        base = address.partition("#")[0]
        page = context.new_page()
        page.set_default_timeout(browser.PATIENCE)
        page.goto(address)
        page.get_by_role("table", name="Runs").wait_for(timeout=browser.PATIENCE)
        yield base, context.storage_state()


@pytest.fixture
def page(chromium: Any, session: tuple[str, Any]) -> Iterator[browser.Watched]:
    base, cookies = session
    size = {"width": 1280, "height": 800}
    with browser.context(chromium, viewport=size, storage_state=cookies) as context:
        yield browser.Watched(context.new_page(), base)
