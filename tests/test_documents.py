"""Every document whose users may come here has its module of tests, and its place in the README."""

from __future__ import annotations

from pathlib import Path

from conftest import ROOT
from documents import DOCUMENTS


def test_each_document_has_a_module_that_names_it() -> None:
    here = {path.stem.removeprefix("test_doc_"): path for path in Path(__file__).parent.glob("test_doc_*.py")}  # fmt: skip
    assert set(here) == set(DOCUMENTS)
    for name, title in DOCUMENTS.items():
        head = here[name].read_text().partition("\n")[0]
        assert all(word in head for word in title.replace(",", "").split()), head


def test_the_readme_says_what_each_ones_commands_are_here() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.partition("### From other systems")[2].partition("\n### ")[0]
    assert section
    for title in DOCUMENTS.values():
        assert title.partition(",")[0] in section
