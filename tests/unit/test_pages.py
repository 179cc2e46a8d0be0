"""The pages under docs/ and at the top name files, anchors and sizes that are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
INTERNAL = [
    *sorted((ROOT / "docs/internals").glob("*.md")),
    *sorted((ROOT / "docs/decisions").glob("*.md")),
]
RECORDS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", INTERNAL, ids=lambda page: page.stem)
def test_files_that_pages_name_exist(page: Path) -> None:
    package = ROOT / "launcher"
    rooms = {entry.name for entry in package.iterdir() if entry.is_dir()}
    for name in re.findall(r"`([a-z_][\w*.-]*/[\w/*.-]*)`", page.read_text()):
        if name.partition("/")[0] in rooms:
            assert any(package.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_has_its_parts(record: Path) -> None:
    text = record.read_text()
    number = record.name[:4]
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^Date: \d{4}-\d\d-\d\d", text, re.M)
    assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Consequences"]
    title = text.partition("\n")[0].partition(". ")[2]
    index = " ".join((record.parent / "index.md").read_text().split())
    assert f"- [{number}]({record.name}) {title} " in index


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_the_glossary_is_short_and_in_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert 0 < len(words) <= 40
    assert words == sorted(words)


def test_there_are_twenty_questions() -> None:
    page = (ROOT / "docs/internals/where-is.md").read_text()
    assert len(re.findall(r"^\| \d+ \|", page, re.M)) == 20


def test_the_lock_names_no_index() -> None:
    lines = (ROOT / "requirements/dev.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    assert "torch==2.13.0" in pins
