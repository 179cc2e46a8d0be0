"""What a .dockerignore leaves out."""

from __future__ import annotations

import pytest

from launcher.runner.files import dockerignore


@pytest.mark.parametrize(
    ("lines", "path", "left_out"),
    [
        (["*.log"], "x.log", True),
        (["*.log"], "sub/x.log", False),  # from the top, unlike git
        (["**/*.log"], "sub/deep/x.log", True),
        (["**/*.log"], "x.log", True),
        (["data"], "data/sets/x", True),
        (["data"], "database/x", False),
        (["/data/"], "data/x", True),
        (["data", "!data/keep"], "data/keep", False),
        (["!data/keep", "data"], "data/keep", True),  # the last one decides
        (["*", "!src"], "src/a/b.py", False),
        (["*", "!src"], "README.md", True),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
        (["[a-c]x"], "bx", True),
        (["# data", "", "  data  "], "data", True),
        (["a/**/z"], "a/b/c/z", True),
        (["a/**"], "a/b", True),
        (["."], "x", False),
        (["\\*"], "*", True),
        (["\\*"], "x", False),
        (["x.y"], "xzy", False),
    ],
)
def test_the_last_pattern_that_matches_a_path_or_its_folder_decides(
    lines: list[str], path: str, left_out: bool
) -> None:
    assert dockerignore.read(lines).leaves_out(path) is left_out


@pytest.mark.parametrize(("lines", "number"), [(["x", "!"], 2), (["[a"], 1)])
def test_a_line_that_is_no_pattern_has_its_number(lines: list[str], number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        dockerignore.read(lines)
