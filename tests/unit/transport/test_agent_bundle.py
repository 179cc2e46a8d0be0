"""The agent on a host is whole, or installed again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.agent.base import protocol
from launcher.spec.model import Host
from launcher.transport import agent_bundle as bundle
from launcher.transport import login_shell


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host("far", workdir=str(tmp_path), python=sys.executable)


def started(host: Host, stdin: bytes = b"") -> bytes:
    """What a relay says first, or the shell in its place."""
    words = ["sh", "-c", bundle.start_command(host)]
    done = subprocess.run(words, capture_output=True, input=stdin, check=False)
    return (done.stdout + done.stderr).partition(f"\n{login_shell.MARKER}\n".encode())[2][:200]


def install(host: Host) -> None:
    said = started(host, bundle.packed())
    assert said.startswith(b"launcher-no-agent\n")
    assert b"magic" in said


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["agent/relay/relay.py", "agent/main.py", "start.py"])
@pytest.mark.parametrize("damage", ["emptied", "removed", "cut"])
def test_a_damaged_agent_is_installed_again(host: Host, name: str, damage: str) -> None:
    assert started(host).endswith(b"\nthe connection was lost\n")
    install(host)
    assert b"magic" in started(host)
    file = Path(host.workdir, "agent", bundle.agent_name(), name)
    if damage == "removed":
        file.unlink()
    elif name != "start.py" or damage == "emptied":
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-10])
    else:
        return  # a start file that is cut is a SyntaxError, which is told
    assert started(host).endswith(b"\nthe connection was lost\n")
    install(host)
    assert b"magic" in started(host)
    (left,) = Path(host.workdir, "agent").iterdir()
    assert left.name == bundle.agent_name()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["agent/base/__pycache__/protocol.*.pyc", "files"])
@pytest.mark.parametrize("damage", ["emptied", "removed", "cut"])
def test_an_agent_with_what_was_compiled_of_it_is_installed_again_too(
    host: Host, name: str, damage: str
) -> None:
    """Of a compiled file that is cut off, Python says no more than: marshal data too short."""
    install(host)
    (file,) = Path(host.workdir, "agent", bundle.agent_name()).glob(name)
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-10])
    install(host)
    assert b"magic" in started(host)


def test_two_launchers_install_at_once(host: Host) -> None:
    """Who comes later has no place for its copy: what is there is whole, and stays."""
    words = ["sh", "-c", bundle.start_command(host)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(2)]
    for one in both:
        assert one.stdout
        while not one.stdout.readline().startswith(b"launcher-no-agent"):
            pass
    for one in both:
        out, err = one.communicate(bundle.packed(), timeout=60)
        assert (b"magic" in out, err) == (True, b"")
    (left,) = Path(host.workdir, "agent").iterdir()
    assert left.name == bundle.agent_name()


def test_what_follows_the_agent_is_for_the_relay(host: Host) -> None:
    """It comes in one piece with the agent, as on a slow host."""
    said = started(host, bundle.packed() + b'{"id": 7, "op": "nonsense"}\n')
    assert b'"id": 7' in said or b'"id":7' in said


@pytest.mark.parametrize("name", ["agent/relay/images/requests.py", "rest"])
def test_the_rest_comes_once_and_again_where_it_is_damaged(host: Host, name: str) -> None:
    sizes, content = bundle.packed_rest()
    request = protocol.encode({"id": 1, "op": "add", "sizes": sizes}, content)
    said = started(host, bundle.packed() + request)
    assert b'"whole":false' in said
    assert b'"ok":{}' in said
    assert b'"whole":true' in started(host)
    file = Path(host.workdir, "agent", bundle.agent_name(), name)
    file.write_bytes(file.read_bytes()[:-10])
    assert b'"whole":false' in started(host, request), "the first part is whole all the same"
    assert b'"whole":true' in started(host)
    (left,) = Path(host.workdir, "agent").iterdir()
    assert left.name == bundle.agent_name()


@pytest.mark.parametrize(
    ("cut", "word"), [(None, b"launcher-no-agent"), (-5, b"connection was lost")]
)
def test_an_agent_is_there_whole_or_not_at_all(host: Host, cut: int | None, word: bytes) -> None:
    assert word in started(host, bundle.packed()[:cut])
    there = Path(host.workdir, "agent")
    names = [one.name for one in there.iterdir()] if there.exists() else []
    assert names == ([] if cut else [bundle.agent_name()])


#: A start of launcher that is upgraded before a host turns out to have no agent.
UPGRADED = """\
import shutil, sys
from pathlib import Path
from launcher.transport import agent_bundle as bundle, program_notes
program_notes.SETTLED = -3600.0
shutil.copytree(bundle._FOLDER, "agent")
bundle._FOLDER = Path("agent").resolve()
name = bundle.agent_name()
print(name == bundle._named(), bundle.has_changed())
for one in (bundle.agent_name, bundle._named, bundle._files):
    one.cache_clear()
print(name == bundle.agent_name(), bundle._files.cache_info().misses)
Path("agent/main.py").write_text("import other")
print(name == bundle.agent_name(), bundle.has_changed())
"""


def test_no_host_gets_files_of_an_upgrade_under_the_name_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    words = [sys.executable, "-c", UPGRADED]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    named, noted, changed = done.stdout.splitlines()
    assert (named, noted) == ("True False", "True 0"), "the second start does not read the files"
    assert changed == "True True"


def test_the_agent_is_its_users_own(host: Host) -> None:
    install(host)
    folder = Path(host.workdir, "agent", bundle.agent_name())
    there = [folder, *folder.rglob("*.py"), folder / "agent"]
    assert {one.stat().st_mode & 0o077 for one in there} == {0}


def test_a_folder_that_takes_nothing_says_why(host: Host) -> None:
    Path(host.workdir, "agent").write_text("in the way")
    assert b"Not a directory: '" in started(host, bundle.packed())
