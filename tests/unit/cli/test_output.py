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


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["ls", "config", "top -i lab.yaml --once"])
def test_a_stream_that_was_closed_before_we_started(
    words: str, closed: str, tmp_path: Path
) -> None:
    """As cron jobs and daemons start programs: what would be printed there is dropped."""
    (tmp_path / "lab.yaml").write_text("hosts: {gpu1: {address: 127.0.0.1, port: 1}}")
    ran = subprocess.run(
        ["sh", "-c", f'"$0" -m launcher {words} {closed}', sys.executable],
        capture_output=True,
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert ran.returncode == ("top" in words), ran.stderr
    assert not (tmp_path / "traceback.txt").exists()


WRITERS = ("data add here .", "reserve -i lab.yaml gpu1 --gpus 1 --for 1h", "sandbox up 1")


@pytest.mark.parametrize("words", WRITERS)
def test_a_folder_of_ours_that_cannot_be_written(words: str, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("hosts: {gpu1: {address: 127.0.0.1, port: 1}}")
    (tmp_path / "home").write_text("a file, and no folder")  # root may write into any folder
    ran = subprocess.run(
        [sys.executable, "-m", "launcher", *words.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert ran.returncode == 125
    assert ran.stderr.startswith(f"error: cannot write {tmp_path / 'home'}"), ran.stderr
    assert "on this machine" in ran.stderr
    assert "hint: make it writable, or name another folder: LAUNCHER_HOME" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_gpus_that_nobody_watches_any_more_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("hosts: {gpu1: {off: new fans}}")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "gpus", "-i", "lab.yaml", "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LAUNCHER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    ) as watching:
        assert watching.stdout
        assert watching.stdout.read(1) == b"["  # JSON, as without --watch
        watching.stdout.close()
        try:
            assert watching.wait(30) == 0
        finally:
            watching.kill()
