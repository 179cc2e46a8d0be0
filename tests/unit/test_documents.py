"""Every document whose users may come here has its module of tests, and its place in the guides and every
guide says how its feature fails."""

from __future__ import annotations

from launcher import frameworks
from support import ROOT
from support.documents import DOCUMENTS

DOCS = ROOT / "docs"


def test_each_document_has_a_module_that_names_it() -> None:
    here = {
        path.stem.removeprefix("test_doc_"): path
        for path in (ROOT / "tests" / "lab").glob("test_doc_*.py")
    }
    assert set(here) == set(DOCUMENTS)
    for name, title in DOCUMENTS.items():
        head = here[name].read_text().partition("\n")[0]
        assert all(word in head for word in title.replace(",", "").split()), head


def test_each_framework_has_a_page() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "guides" / "frameworks").glob("*.md"))
    for name in frameworks.names():
        assert f"**`framework: {name}`**" in pages, name


def test_each_example_has_a_page_that_says_how_it_is_run() -> None:
    for job in (ROOT / "examples").glob("*/job.yaml"):
        page = (job.parent / "README.md").read_text()
        assert f"launcher run -i inventory/{'lab' if 'lab.yaml' in page else 'local'}.yaml" in page
        assert str(job.relative_to(ROOT)) in page


def test_a_guide_says_what_each_ones_commands_are_here() -> None:
    text = (DOCS / "guides" / "coming-from.md").read_text()
    for title in DOCUMENTS.values():
        assert f"\n## {title.partition(',')[0]}\n" in text


def test_every_guide_says_how_its_feature_fails() -> None:
    pages = [*(DOCS / "guides").rglob("*.md"), *(DOCS / "start").glob("*.md")]
    assert len(pages) > 20
    silent = [page.name for page in pages if "\n## When it fails\n" not in page.read_text()]
    assert silent == []


def test_the_readme_is_short_and_has_the_two_commands_that_set_everything_up() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert any(line.startswith("make demo ") for line in lines)
    assert any(line.startswith("make test ") for line in lines)
