"""The console's page of all hosts: GPUs, who holds them, strangers, who waits. nvidia-smi is a fake."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from support import browser, gpu_tools
from support import lab as labs
from support.command import Launcher

HOSTS = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("gpu2", gpus=4), labs.HostSpec("gpu3"))
HOLD = (
    "import pathlib, time\n"
    "print('has', flush=True)\n"
    "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
)


@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_the_page_of_all_hosts(own: labs.Lab, launcher: Launcher) -> None:
    projects = "projects:\n  vision: {quota: 2, limit: 4, users: [root]}\n"
    launcher.inventory.write_text(labs.inventory(own, "python3") + projects)
    launcher.call("check", "--no-pairs", "--hosts", "gpu[2-3]")
    own.hosts["gpu3"].power_cut()
    first = own.hosts["gpu1"]
    first.add_user("bob", "secret")
    pid = first.spawn("setpriv", "--reuid", "bob", "--clear-groups", "sleep", "1000")
    first.write(gpu_tools.APPS, f"{pid}, {first.spec.gpu_uuids[3]}, 40960\n".encode())
    options = ("--hosts", "gpu[1-2]", "--framework", "env", "--wait", "forever")
    hold = f"python3 {launcher.script(HOLD)}"
    mine = ("--project", "vision", "--time", "2h", "--gpus", "2")
    running = launcher.start("--name", "holds", *mine, *options, hold)
    waiting = None
    try:
        assert running.stdout
        assert running.stdout.readline()
        first.write(gpu_tools.LOAD, b"0, 97, 71, 60000\n1, 80, 64, 60000\n2, 0, 30, 9000\n")
        waiting = launcher.start("--name", "waits", "--gpus", "8", *options, "true")
        place = ("-i", str(launcher.inventory))
        size = {"width": 1280, "height": 1100}
        with (
            browser.browser() as chromium,
            browser.console(launcher.home, *place) as address,
            browser.context(chromium, viewport=size) as context,
        ):
            page = context.new_page()
            watched = browser.Watched(page, address.partition("#")[0])
            page.goto(address)
            page.get_by_role("link", name="Cluster").click()
            page.get_by_text("3 hosts, 8 GPUs · 2 held · 4 free · 1 used outside").wait_for()
            row = page.get_by_role("table", name="Waiting").get_by_role("row", name="waits-")
            row.get_by_text("in use by").wait_for()
            host = page.get_by_role("region", name="gpu1")
            assert host.get_by_text("97 %").inner_text() == "97 % · 59/80 GB · 71 °C"
            host.get_by_text("bob, not launcher").wait_for()
            host.get_by_text("memory held by no process").wait_for()
            page.get_by_role("region", name="gpu3").locator(".warn").wait_for()
            page.get_by_role("table", name="Held until").get_by_role(
                "row", name="holds-"
            ).wait_for()
            page.get_by_role("row", name="vision 2 2 4 0 0 root").wait_for()
            page.get_by_text("gpu[2-3], checked ").wait_for()
            checks = page.get_by_role("list", name="Last check")
            checks.get_by_text("warning TORCH-MISSING").wait_for()
            checks.get_by_text("Fix: run python3 -m pip install torch").wait_for()
            looked_at(page, watched)
            reserved(page, watched, launcher)
            shared(page, watched, launcher)
            host.get_by_role("link", name="holds-").first.click()
            page.get_by_role("heading", name="holds-").wait_for()
    finally:
        for name in ("gpu1", "gpu2"):
            own.hosts[name].write("/tmp/go", b"")
        for process in (running, waiting):
            if process is not None:
                process.kill()
                process.communicate()


def looked_at(page: Any, watched: browser.Watched) -> None:
    """Nothing is wrong with the page, light, dark and narrow."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        if shots := os.environ.get("LAUNCHER_SCREENSHOTS"):
            page.screenshot(path=Path(shots) / f"console-cluster-desk-{scheme}.png")
        assert watched.wrong() == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert watched.wrong() == []


def shared(page: Any, watched: browser.Watched, launcher: Launcher) -> None:
    """Change a quota on the page, which shows first what changes in the file."""
    before = launcher.inventory.read_text()
    page.get_by_role("button", name="Change the quota of vision").click()
    dialog = page.get_by_role("dialog", name="Quota of vision")
    dialog.get_by_label("Quota", exact=True).fill("5")
    dialog.get_by_role("button", name="Show change").click()
    dialog.get_by_role("alert").get_by_text("a limit of 4 is less than a quota of 5").wait_for()
    dialog.get_by_label("Limit", exact=True).fill("")
    dialog.get_by_role("button", name="Show change").click()
    asked = page.get_by_role("dialog", name="Change the inventory?")
    lines = asked.get_by_role("region", name="What changes").locator(".added, .removed")
    lines.nth(1).wait_for()
    assert lines.all_inner_texts() == [
        "-  vision: {quota: 2, limit: 4, users: [root]}",
        "+  vision: {quota: 5, users: [root]}",
    ]
    if shots := os.environ.get("LAUNCHER_SCREENSHOTS"):
        page.screenshot(path=Path(shots) / "console-quota-desk-dark.png")
    assert launcher.inventory.read_text() == before
    asked.get_by_role("button", name="Write").click()
    page.get_by_role("row", name="vision 2 5 - 0 0 root").wait_for()
    assert launcher.inventory.read_text() == before.replace("quota: 2, limit: 4", "quota: 5")
    assert not [one for one in watched.wrong() if "status of 400" not in one]


def reserved(page: Any, watched: browser.Watched, launcher: Launcher) -> None:
    """Reserve GPUs on the page; a wrong word is told in the dialog, which keeps what was typed."""
    page.get_by_role("button", name="Reserve GPUs").click()
    dialog = page.get_by_role("dialog", name="Reserve GPUs")
    for label, text in (("GPUs", "2"), ("For", "soon"), ("Hosts", "gpu2"), ("Note", "a demo")):
        dialog.get_by_label(label, exact=True).fill(text)
    dialog.get_by_role("button", name="Reserve").click()
    dialog.get_by_role("alert").get_by_text("for: ").wait_for()
    assert not [one for one in watched.wrong() if "status of 400" not in one]
    dialog.get_by_label("For", exact=True).fill("3h")  # longer than `holds`: it stays in the queue
    dialog.get_by_role("button", name="Reserve").click()
    name = page.get_by_role("heading", name="reserved-").inner_text().split()[0]

    def hosts() -> list[str]:
        queue = json.loads(launcher.call("queue", "--json").stdout)
        return [host for one in queue["waiting"] if one["run"] == name for host in one["hosts"]]

    labs.wait_until(lambda: hosts() == ["gpu2"], "the reservation in the queue", 60)
    assert launcher.call("stop", name).returncode == 0
    page.get_by_role("link", name="Cluster").click()
