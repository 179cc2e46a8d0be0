"""Nobody reads the screen: nothing stops, and the exit code is the command's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

#: Writes in each manner in which commands do, waits until its reader has gone, and writes again.
TALKS = """
import os, sys, time, click
from launcher import cli
from launcher.cli import output

def code():
    for number in range(3):
        click.echo("words", err=True)
        click.echo("text \\udcff")
        sys.stdout.buffer.write(b"bytes\\n")
        sys.stdout.buffer.flush()
        sys.stderr.write("line\\n")
        sys.stderr.flush()
        if number == 0:
            click.echo("end of part one")
            sys.stdin.readline()
    os.write(int(sys.argv[1]), b"to the end" + bytes([48 + output.is_unread()]))
    return 7

cli._code = code
cli.main()
"""


@pytest.mark.parametrize("stderr", [subprocess.STDOUT, None])
def test_a_reader_that_has_gone_changes_nothing(stderr: int | None) -> None:
    told, tell = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", TALKS, str(tell)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        pass_fds=(tell,),
        cwd=ROOT,
    ) as talking:
        os.close(tell)
        assert talking.stdout
        assert talking.stdin
        while b"end of part one" not in (line := talking.stdout.readline()):
            assert line
        talking.stdout.close()
        talking.stdin.close()
        assert os.read(told, 100) == b"to the end1"
        assert talking.wait(60) == 7
    os.close(told)


FULL = """
from launcher import cli
import click
cli._code = lambda: click.echo("x" * 100_000) or 0
cli.main()
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", FULL], stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False
        )
    assert done.returncode == 1
    assert b"some output could not be written: No space left" in done.stderr
