"""A terminal's colours (none with NO_COLOR, https://no-color.org) and its width."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, at_a_terminal

#: Select Graphic Rendition: colour, bold, dim. What moves the cursor is none.
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("wish", ["", "1"])
def test_no_color_holds_for_every_face(launcher: Launcher, clean: labs.Lab, wish: str) -> None:
    """A setup that takes a while brings up the moving line, which is redrawn all the same."""
    launcher.env["NO_COLOR"] = wish
    hosts = ("-i", str(launcher.inventory), "--hosts", "lab1")
    setup = ("--setup", "sleep 1.5; exit 3")
    failing = at_a_terminal(launcher, "run", *hosts, *setup, "--framework", "env", "true")
    shown = {
        "run": (3, b"running setup", failing),
        "ls": (0, b"failed", at_a_terminal(launcher, "ls")),
        "show": (0, b"exit-3", at_a_terminal(launcher, "show", "-")),
        "check": (0, b"NET-LOOPBACK-NAME", at_a_terminal(launcher, "check", *hosts, "--no-pairs")),
        "bad use": (2, b"Usage", at_a_terminal(launcher, "ls", "--no-such-option")),
        "error": (2, b"hint: ", at_a_terminal(launcher, "run", *hosts, "no-such-file.py")),
    }
    for face, (code, words, (ended, seen)) in shown.items():
        assert ended == code and words in seen, (face, seen)
        coloured = bool(COLOUR.search(seen))
        assert coloured == (not wish and face != "bad use"), (face, seen)
    assert b"\r\x1b[2K" in failing[1], "the moving line goes when it has been read"


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
