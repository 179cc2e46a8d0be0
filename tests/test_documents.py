"""Every document whose users may come here has its module of tests, and its place in the README."""

from __future__ import annotations

from pathlib import Path

from conftest import ROOT
from documents import DOCUMENTS

from launcher import frameworks


def test_each_document_has_a_module_that_names_it() -> None:
    here = {path.stem.removeprefix("test_doc_"): path for path in Path(__file__).parent.glob("test_doc_*.py")}  # fmt: skip
    assert set(here) == set(DOCUMENTS)
    for name, title in DOCUMENTS.items():
        head = here[name].read_text().partition("\n")[0]
        assert all(word in head for word in title.replace(",", "").split()), head


def test_each_framework_has_a_page_beside_an_example() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "examples").glob("*/README.md"))
    for name in frameworks.names():
        assert any(f"{how} {name}`**" in pages for how in ("`framework:", "`--framework")), name


def test_each_example_has_a_page_that_says_how_it_is_run() -> None:
    for job in (ROOT / "examples").glob("*/job.yaml"):
        page = (job.parent / "README.md").read_text()
        assert f"launcher run -i inventory/{'lab' if 'lab.yaml' in page else 'local'}.yaml" in page
        assert str(job.relative_to(ROOT)) in page


def test_the_readme_says_what_each_ones_commands_are_here() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.partition("### From other systems")[2].partition("\n### ")[0]
    assert section
    for title in DOCUMENTS.values():
        assert title.partition(",")[0] in section
