"""A terminal's colours (none with NO_COLOR, https://no-color.org) and its width."""

from __future__ import annotations

import re

import pytest

from support import lab as labs
from support.command import Launcher, at_a_terminal
from support.terminal import Terminal

#: Select Graphic Rendition: colour, bold, dim. What moves the cursor is none.
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("wish", ["", "1"])
def test_no_color_holds_for_every_face(launcher: Launcher, clean: labs.Lab, wish: str) -> None:
    """A setup that takes a while brings up the moving line, which is redrawn all the same."""
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/drawn")
    launcher.env["NO_COLOR"] = wish
    hosts = ("-i", str(launcher.inventory), "--hosts", "lab1")
    setup = ("--setup", "until [ -e /tmp/drawn ]; do sleep 0.05; done; exit 3")
    says = r"printf '\033[2J\033[1;31mred\033[0m \033[7;8mhidden\n'"
    logs = at_a_terminal(launcher, "run", *hosts, "--framework", "env", says)[1]
    assert (b"\x1b[1;31mred\x1b[0m hidden" in logs) == (not wish), logs
    assert "␛[2J".encode() in logs
    assert b"\x1b[2J" not in logs
    argv = launcher.argv("--hosts", "lab1", *setup, "--framework", "env", "true")
    with Terminal(argv, launcher.work, {**launcher.environment(), "TERM": "xterm"}) as terminal:
        terminal.expect("running setup")
        host.write("/tmp/drawn", b"")
        failing = terminal.end(), terminal.seen
    shown = {
        "run": (3, b"running setup", failing),
        "ls": (0, b"failed", at_a_terminal(launcher, "ls")),
        "show": (0, b"exit-3", at_a_terminal(launcher, "show", "-")),
        "check": (0, b"NET-LOOPBACK-NAME", at_a_terminal(launcher, "check", *hosts, "--no-pairs")),
        "bad use": (2, b"no option", at_a_terminal(launcher, "ls", "--no-such-option")),
        "error": (2, b"hint: ", at_a_terminal(launcher, "run", *hosts, "no-such-file.py")),
    }
    for face, (code, words, (ended, seen)) in shown.items():
        assert ended == code and words in seen, (face, seen)
        coloured = bool(COLOUR.search(seen))
        assert coloured == (not wish), (face, seen)
    assert b"\r\x1b[2K" in failing[1], "the moving line goes when it has been read"
