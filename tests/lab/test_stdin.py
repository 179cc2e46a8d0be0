"""`--stdin`: rank 0 reads what launcher has on its stdin, byte for byte, and nobody else does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, Ran
from support.lab_spec import PATIENCE

#: Every rank says what it read.
READS = """
import hashlib, os, sys
data = sys.stdin.buffer.read()
print("rank", os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK")),
      "read", len(data), hashlib.sha256(data).hexdigest()[:12], flush=True)
"""


def fed(launcher: Launcher, data: bytes, *words: str) -> Ran:
    done = subprocess.run(
        launcher.argv("--stdin", *words),
        cwd=launcher.work,
        env=launcher.environment(),
        input=data,
        capture_output=True,
        timeout=PATIENCE * 90,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(), launcher.home)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


@pytest.mark.parametrize(
    ("framework", "log"), [("torchrun", "rank-0.out"), ("env", "node-0.out"), ("mpi", "rank-0.out")]
)
def test_rank_0_reads_every_byte(
    launcher: Launcher, clean: labs.Lab, framework: str, log: str
) -> None:
    if framework == "mpi" and shutil.which("mpirun") is None:
        pytest.skip("no mpirun here")
    data = os.urandom(3_000_001)
    words = [launcher.script(READS)] if framework != "env" else [f"python {launcher.script(READS)}"]
    ran = fed(launcher, data, "--nodes", "2", "--framework", framework, *words)
    assert ran.code == 0, ran.err
    assert ran.log(log).decode() == f"rank 0 read 3000001 {digest(data)}\n"
    other = ran.log(log.replace("0", "1")).decode()
    assert other == f"rank 1 read 0 {digest(b'')}\n", "the others read nothing"


def test_the_end_alone(launcher: Launcher, clean: labs.Lab) -> None:
    ran = fed(launcher, b"", "--nodes", "1", "--framework", "env", "sort; echo sorted")
    assert (ran.code, ran.log("node-0.out")) == (0, b"sorted\n")


def test_lines_as_they_are_typed(launcher: Launcher, clean: labs.Lab) -> None:
    """A conversation: each answer is there before the next question."""
    words = (
        "--stdin",
        "--nodes",
        "1",
        "--framework",
        "env",
        "read a; echo 1 $a; read b; echo 2 $b",
    )
    with subprocess.Popen(
        launcher.argv(*words),
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"one\n")
        process.stdin.flush()
        said = b""
        while b"1 one" not in said:
            said += process.stdout.readline()
        process.stdin.write(b"two\n")
        process.stdin.flush()  # and no end: the rank does not wait for it
        assert process.wait(60) == 0
        assert b"2 two" in process.stdout.read()
        process.stdin.close()


def test_no_more_is_read_than_the_rank_takes(launcher: Launcher, clean: labs.Lab) -> None:
    """What nobody reads stays in the user's file, for whoever reads on."""
    big = launcher.work / "big"
    with big.open("wb") as file:
        file.truncate(64 << 20)
    script = f"python {launcher.script('import os, time; os.read(0, 5); time.sleep(3)')}"
    with big.open("rb") as file:
        done = subprocess.run(
            launcher.argv("--stdin", "--nodes", "1", "--framework", "env", script),
            cwd=launcher.work,
            env=launcher.environment(),
            stdin=file,
            capture_output=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert 5 <= os.lseek(file.fileno(), 0, os.SEEK_CUR) < 1 << 20


def test_a_lost_connection_loses_no_byte(launcher: Launcher, own: labs.Lab) -> None:
    host = own.hosts["lab1"]
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    data = os.urandom(4_000_000)
    piece = 200_000
    script = launcher.script(
        f"""
import hashlib, pathlib, sys, time
got = hashlib.sha256()
for n in range({len(data) // piece}):
    got.update(sys.stdin.buffer.read({piece}))
    print(n, flush=True)
    time.sleep(0.1)
print("all", got.hexdigest()[:12], not sys.stdin.buffer.read(1))
"""
    )
    file = launcher.work / "data.in"
    file.write_bytes(data)
    words = ("--stdin", "--hosts", "lab1", "--framework", "env", f"python {script}")
    with (
        file.open("rb") as source,
        subprocess.Popen(
            launcher.argv(*words),
            cwd=launcher.work,
            env=launcher.environment(),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        log = _log(launcher, "node-0.out")
        labs.wait_until(lambda: log() is not None and b"3\n" in (log() or b""), "it reads")
        host.kill_sshd_sessions()
        out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err.decode()
    assert f"all {digest(data)} True".encode() in out


def test_a_lost_launcher_ends_the_input(launcher: Launcher, clean: labs.Lab) -> None:
    words = ("--stdin", "--lost-after", "3s", "--nodes", "1", "--framework", "env", "cat; echo end")
    with subprocess.Popen(
        launcher.argv(*words),
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        process.stdin.write(b"first\n")
        process.stdin.flush()
        log = _log(launcher, "node-0.out")
        labs.wait_until(lambda: log() == b"first\n", "it reads", 60)
        process.kill()
        process.wait()
        process.stdin.close()
    done = launcher.call("attach", "-")
    assert done.returncode == 0, done.stderr
    assert log() == b"first\nend\n"


def _log(launcher: Launcher, name: str):  # type: ignore[no-untyped-def]
    def read() -> bytes | None:
        for path in Path(launcher.home).glob(f"runs/*/logs/attempt-0/{name}"):
            return path.read_bytes()
        return None

    return read


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--detach",), "a detached run outlives"),
        (("--max-restarts", "1"), "could not read again"),
    ],
)
def test_what_contradicts_it(launcher: Launcher, flags: tuple[str, ...], says: str) -> None:
    ran = fed(launcher, b"x", *flags, launcher.script("print(1)"))
    assert ran.code == 2
    assert says in ran.err
    assert not list((launcher.home / "runs").glob("*")) if (launcher.home / "runs").exists() else 1
