"""The reference pages: what is generated from the code is current, and nothing is left out."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import launcher
from launcher import frameworks
from launcher.fleet import findings
from launcher.jobs import placeholders
from support import ROOT, docs_scripts

REFERENCE = ROOT / "docs" / "reference"


def test_generated_pages_are_current() -> None:
    pages = docs_scripts.load("generate").pages()
    assert len(pages) == 7
    stale = [page.name for page, text in pages.items() if page.read_text("utf-8") != text]
    assert not stale, "make reference"


def _is_event(one: object) -> bool:
    return inspect.isclass(one) and issubclass(one, launcher.events.Event)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("check-codes.md", tuple(findings.CODES)),
        ("variables.md", (*placeholders.MEANINGS, *frameworks.BUILTIN)),
        ("cli.md", ("launcher run", "launcher inventory import", "--max-restarts N")),
        ("job-file.md", ("`roles.NAME.on_exit:`", "`max_restarts`")),
        ("inventory.md", ("`proxy_jump`", "`groups`")),
        (
            "python.md",
            (
                *(f"::: launcher.{n}" for n in launcher.__all__ if n[0] != "_" and n != "events"),
                *(f"| `{n}` |" for n, one in vars(launcher.events).items() if _is_event(one)),
            ),
        ),
    ],
)
def test_a_page_names_all_of_its_subject(page: str, names: tuple[str, ...]) -> None:
    text = (REFERENCE / page).read_text("utf-8")
    assert [name for name in names if name not in text] == []


def docstrings(public: type) -> Iterator[tuple[str, str]]:
    """Yield what python.md shows of a class: its docstring and those of its public members."""
    ours = [one for one in public.__mro__ if one.__module__.startswith("launcher.")]
    for name, member in [
        (public.__name__, public),
        *((k, v) for one in ours for k, v in vars(one).items()),
    ]:
        if not name.startswith("_") and isinstance(text := getattr(member, "__doc__", None), str):
            yield name, text


def test_docstrings_of_the_python_api_are_markdown() -> None:
    shown = [getattr(launcher, name) for name in launcher.__all__ if not name.startswith("_")]
    classes = [one for one in shown if inspect.isclass(one)]
    texts = [pair for one in classes for pair in docstrings(one)]
    texts += [(one.__name__, one.__doc__ or "") for one in shown if inspect.isfunction(one)]
    assert len(texts) > 100
    assert [name for name, text in texts if re.search(r":[a-z]+:`|::\n", text)] == []


def test_every_page_has_its_place_in_the_navigation() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        assert isinstance(entry, dict | list)
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for one in inner for page in pages(one)]

    nav = pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    folder = ROOT / "docs"
    there = {str(page.relative_to(folder)) for page in folder.rglob("*.md")}
    ours = {page for page in there if Path(page).parts[0] != "decisions"}
    assert ours <= set(nav), ours - set(nav)
