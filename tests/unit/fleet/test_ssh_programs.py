"""A file that came with an inventory executes nothing before the user has allowed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.fleet.ssh_programs import programs
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Inventory
from support import ROOT
from support.terminal import Terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as somebody else's repository has it: an inventory with an ssh_config that executes."""
    (tmp_path / "inventory.yaml").write_text("ssh_config: theirs\nhosts: {gpu1: {}}\n")
    (tmp_path / "theirs").write_text(
        'Host gpu1\n  Port 22\nMatch exec "touch executed"\n  User eve\n'
    )
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LAUNCHER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}


def launcher(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [
        ("inventory", "ls"),
        ("inventory", "show", "gpu1"),
        ("inventory", "show", "gpu1", "-i", "theirs"),
        ("inventory", "export", "--to", "hostfile"),
        ("check",),
        ("run", "--dry-run", "--framework", "env", "true"),
        ("run", "--framework", "env", "true"),
        ("ls", "--all-users"),
    ],
)
def test_nothing_is_executed_before_it_is_allowed(folder: Path, words: tuple[str, ...]) -> None:
    """What connects says which line would, and what to do; what only shows does its work."""
    done = launcher(folder, *words)
    assert not (folder / "executed").exists()
    if done.returncode:
        assert "theirs:3 runs a program" in done.stderr
        assert "launcher inventory allow -i " in done.stderr
    else:
        assert words[:2] in (("inventory", "ls"), ("inventory", "export"), ("run", "--dry-run"))


@pytest.mark.thorough
def test_once_allowed_it_runs_until_it_changes(folder: Path) -> None:
    allowed = launcher(folder, "inventory", "allow")
    assert allowed.returncode == 0, allowed.stderr
    assert 'Match exec "touch executed"' in allowed.stderr
    shown = launcher(folder, "inventory", "show", "gpu1")
    assert "eve" in shown.stdout, shown.stderr
    assert (folder / "executed").exists()
    (folder / "executed").unlink()
    theirs = folder / "theirs"
    theirs.write_text(theirs.read_text().replace("touch executed", "touch ./executed"))
    assert launcher(folder, "inventory", "show", "gpu1").returncode == 2
    assert not (folder / "executed").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_at_a_terminal_it_is_asked_once(folder: Path, answer: str, code: int) -> None:
    argv = [sys.executable, "-m", "launcher", "inventory", "show", "gpu1"]
    with Terminal(argv, folder, environment(folder)) as terminal:
        terminal.expect('theirs:3  Match exec "touch executed"')
        terminal.expect("Let them run?")
        terminal.type(answer)
        assert terminal.end() == code, terminal.seen.decode()
    assert (folder / "executed").exists() == (code == 0)
    if code == 0:
        assert launcher(folder, "inventory", "show", "gpu1").returncode == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("ProxyCommand nc %h %p", 1),
        ("proxycommand=nc %h %p", 1),
        ("ProxyCommand none", 0),
        ("# ProxyCommand nc", 0),
        ("KnownHostsCommand /bin/x", 1),
        ("Match host a exec true", 1),
        ("Match !exec true", 1),
        ("Match host other", 0),
        ("Include more", 0),
        ("Include {folder}/more", 1),
        ("Include {folder}/m*", 1),
        ("Include {folder}/theirs", 0),
        ("ProxyJump gate", 0),
        ('ProxyCommand "none"', 0),
        ("ProxyCommand no ne", 1),
        ("LocalCommand x", 1),
        ("PKCS11Provider /x.so", 1),
        ("SecurityKeyProvider /x.so", 1),
        ('"Include" {folder}/more', 1),
        ("Include {folder}/mor\\e", 1),
        ("Include {folder}/[[:alpha:]]ore", 1),
        ("Include ${{PWD}}/more", 1),
        ("Include %d/more", 1),
    ],
)
def test_lines_that_run_programs(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "more").write_text("Host *\n\tProxyCommand x\n")
    (tmp_path / "theirs").write_text(text.format(folder=tmp_path))
    found = programs(Inventory((Host("a"),), ssh_config=str(tmp_path / "theirs")))
    assert len(found) == count, found


#: What ssh(1) takes for ``Match exec``, in unusual ways.
DISGUISED = (
    'Match "exec" "touch {ran}"',
    '"Match" exec "touch {ran}"',
    'Match ex"ec" "touch {ran}"',
    'Match host gpu1\rexec "touch {ran}"',
    'Match host "*"exec "touch {ran}"',
    'Match host=gpu1 exec="touch {ran}"',
    'Match final exec "touch {ran}"',
    'Match host gpu1\x0c exec "touch {ran}"',
    'Match !exec "touch {ran}"',
    '=Match exec "touch {ran}"',
)
#: The same for ``ProxyCommand``.
DISGUISED_PROXY = (
    '"ProxyCommand" touch x',
    'Proxy"Command" touch x',
    '"ProxyCommand"touch x',
    "=ProxyCommand touch x",
    "ProxyCommand\ttouch x",
)


@pytest.mark.parametrize("text", [*DISGUISED, *DISGUISED_PROXY])
def test_no_spelling_hides_a_program(tmp_path: Path, text: str) -> None:
    """Whatever ssh(1) itself would run is found."""
    ran, theirs = tmp_path / "ran", tmp_path / "theirs"
    theirs.write_bytes((text.format(ran=ran) + "\n").encode())
    said = subprocess.run(
        ["ssh", "-G", "-F", str(theirs), "gpu1"], capture_output=True, text=True, check=False
    )
    if ran.exists() or "proxycommand touch" in said.stdout:
        assert programs(Inventory((Host("gpu1"),), ssh_config=str(theirs)))


def test_no_file_runs_no_program() -> None:
    for none in (os.devnull, "none", "/does/not/exist"):
        assert programs(Inventory((Host("gpu1"),), ssh_config=none)) == ()


@pytest.mark.parametrize("hides", ["behind a megabyte", "behind many files", "in a pipe"])
def test_what_is_not_read_whole_is_refused(tmp_path: Path, hides: str) -> None:
    theirs, program = tmp_path / "theirs", 'Match exec "touch ran"\n'
    if hides == "behind a megabyte":
        theirs.write_text("# more\n" * 200_000 + program)
    elif hides == "behind many files":
        for number in range(100):
            (tmp_path / f"part{number:03}").write_text("# nothing\n")
        (tmp_path / "part999").write_text(program)
        theirs.write_text(f"Include {tmp_path}/part*\n")
    else:
        os.mkfifo(theirs)
    with pytest.raises(InputError, match="an ssh_config"):
        programs(Inventory((Host("gpu1"),), ssh_config=str(theirs)))
