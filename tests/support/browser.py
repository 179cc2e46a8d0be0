"""A real browser on the pages of a console, and what every page has to hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: What the tests of pages run in, of Debian's chromium and others.
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
#: The addresses of pages and their scripts.
_FIXED = re.compile(r"http://127\.0\.0\.1:\d+/(static/.*)?$")
#: What chromium says of requests that it breaks off when an interface comes or goes.
_INTERFACES = "net::ERR_NETWORK_CHANGED"
#: Milliseconds that a busy machine gets for what takes a moment on an idle one.
PATIENCE = 60_000

#: Text that can be seen and has too little contrast to be read (WCAG AA), as "ratio: text".
_FAINT = """() => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.data.trim() || !element.checkVisibility() || element.closest('[disabled]')) continue;
    const [one, other] = [light(parts(style.color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(ratio.toFixed(1) + ': ' + node.data.trim().slice(0, 40));
  }
  return faint;
}"""
#: Controls that a screen reader has no name for.
_NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, textarea, summary, [role=table], [tabindex="0"]')]
  .filter(one => one.checkVisibility() && !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
  .map(one => one.outerHTML.slice(0, 80))"""
#: What makes a phone scroll sideways.
_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  return document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > width + 1).map(one => one.outerHTML.slice(0, 80)).slice(0, 3);
}"""


def need_browser() -> Any:
    """Return playwright's entry, or skip the test and say why."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[test]'")
    if CHROMIUM is None:
        pytest.skip("no chromium: sh tests/support/install-system-packages.sh test")
    return playwright.sync_playwright


@contextmanager
def browser() -> Iterator[Any]:
    """Start a browser without a screen, or skip the test and say why."""
    with need_browser()() as playwright:
        try:  # no sandbox: root, or a container without user namespaces
            chromium = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox"], timeout=2 * PATIENCE
            )
        except Exception as error:
            pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@contextmanager
def context(chromium: Any, **options: Any) -> Iterator[Any]:
    """Make a context of a browser, whose pages load while labs beside come and go.

    Chromium breaks off requests when an interface of its machine appears or disappears. So playwright
    fetches pages and scripts for it; for values, pages ask again by themselves. What is still being
    fetched at the end is no error.
    """
    made = chromium.new_context(**options)
    made.route(_FIXED, lambda route: route.fulfill(response=route.fetch()))
    try:
        yield made
    finally:
        for routes in (*made.pages, made):
            routes.unroute_all(behavior="ignoreErrors")
        made.close()


@contextmanager
def console(home: Path, *options: str, cwd: Path | None = None, port: int = 0) -> Iterator[str]:
    """Run ``launcher console`` over the runs of a home; give the address that opens it once."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "launcher",
            "console",
            "--no-browser",
            "--port",
            str(port),
            *options,
        ],
        env={**os.environ, "LAUNCHER_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd or home,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


class Watched:
    """A page, and everything about it that no page may do."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base = page, base
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and _INTERFACES not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.complaints.append(f"asked elsewhere: {request.url}")

    def wrong(self) -> list[str]:
        """Return what is wrong with the page as it stands."""
        found = [f"too faint: {text}" for text in self.page.evaluate(_FAINT)]
        found += [f"without a name: {text}" for text in self.page.evaluate(_NAMELESS)]
        found += [f"too wide: {text}" for text in self.page.evaluate(_WIDE)]
        return found + self.complaints
