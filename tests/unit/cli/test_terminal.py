"""What may reach a terminal, and what reaches files."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli.render import log_lines
from launcher.cli.terminal import harmless

EVIL = "a\x1b]0;PWN\x07b\x9b2J\x1b[2Jc\rd\u202egpj\u2066e\x1b[31mred\x1b[0m\x7f"
SHOWN = "a␛]0;PWN␇b␛2J␛[2Jc␍d<U+202E>gpj<U+2066>e\x1b[31mred\x1b[0m␡"

PROGRAM = """
import sys, click
from launcher.cli import process
from launcher.cli.terminal import control
process.prepare()
click.echo(EVIL)
click.secho(EVIL, err=True)
print(EVIL, file=sys.stderr)
control("\\r\\x1b[2K")
"""


@pytest.mark.parametrize("hides", ["8", "30", "7", "0;8", "38;5;0", "40", "37;47"])
def test_nothing_that_hides_text_passes(hides: str) -> None:
    assert harmless(f"\x1b[{hides}mseen") == f"␛[{hides}mseen"


def test_only_colours_pass() -> None:
    assert harmless(EVIL) == SHOWN
    assert harmless("täg\tline\n") == "täg\tline\n"


@pytest.mark.parametrize("text", ["\u202egpj", "x\u2069y", "\x9b2J"])
def test_log_lines_have_no_direction_of_their_own(text: str) -> None:
    shown = log_lines.readable(f"{text}\n".encode()).decode()
    assert not {*shown} & {"\u202e", "\u2069", "\x9b"}


def test_a_terminal_gets_no_control_sequence_of_others() -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("EVIL", repr(EVIL))],
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
        seen = ""
        while seen.count(SHOWN) < 3 and select.select([ours], [], [], 10)[0]:
            seen += os.read(ours, 1 << 16).decode()  # a busy kernel passes lines on one by one
    finally:
        os.close(ours)
        os.close(theirs)
    assert seen.count(SHOWN) == 3
    assert "\x1b]" not in seen
    assert seen.replace("\r\x1b[2K", "").count("\x1b[2") == 0


def test_a_file_gets_every_byte(tmp_path: Path) -> None:
    program = "import click; from launcher.cli import process; process.prepare(); click.echo(EVIL)"
    with open(tmp_path / "out", "wb") as out:
        subprocess.run(
            [sys.executable, "-c", program.replace("EVIL", repr(EVIL.replace("\x1b[31m", "")))],
            stdout=out,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            check=True,
        )
    assert "\x1b]0;PWN\x07b\x9b2J" in (tmp_path / "out").read_text("utf-8")
