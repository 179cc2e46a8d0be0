"""Hints fit the width of the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import Launcher, at_a_terminal


@pytest.mark.thorough
def test_a_hint_goes_on_between_words(tmp_path: Path) -> None:
    """As wide as the terminal, below its beginning; in one line where nobody looks."""
    launcher = Launcher(tmp_path / "none.yaml", tmp_path, tmp_path / "home", {"NO_COLOR": "1"})
    (tmp_path / "x.py").touch()
    words = ("run", "-i", "none.yaml", "x.py")
    whole = launcher.call(*words).stderr.splitlines()
    (hint,) = [line for line in whole if line.startswith("  hint: ")]
    for columns in (44, 200):
        code, seen = at_a_terminal(launcher, *words, columns=columns)
        lines = seen.decode().replace("\r", "").splitlines()
        shown = lines[lines.index(next(x for x in lines if x.startswith("  hint: "))) :]
        assert code == 2
        assert all(len(line) <= columns for line in shown), shown
        assert (len(shown) > 1) == (len(hint) > columns)
        assert all(line.startswith("        ") for line in shown[1:])
        assert " ".join(line.strip() for line in shown) == hint.strip()
