"""The part of an ssh_config that a connection reads: it says the same of its host as the whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.spec.errors import ConnectError
from launcher.spec.model import Host, Inventory
from launcher.transport.ssh import Dialler
from launcher.transport.ssh_config import HostFiles, SshConfig

NAMES = ("gpu1", "gpu2", "gpu3.lab", "GPU1")
HEADS = (
    "Host gpu1",
    "host gpu2 gpu3.lab",
    "Host=gpu1",
    'Host "gpu2"',
    "HOST = gpu3.lab",
    "Host gpu*",
    "Host * !gpu1",
    "Host gpu1,gpu2",
    "Host gpu?",
    "Match all",
    "Match host gpu1",
    "Match !host gpu2",
    "Match=all",
    "Match originalhost gpu1,gpu2",
    "# Host gpu1",
    "Hostname 10.0.0.9",
    "",
)
SETTINGS = (
    "Port 1",
    "Port=2",
    "User ada",
    'User "bob"',
    "HostName %h.example",
    "  IdentityFile ~/.ssh/a",
    "IdentityFile /k/%n",
    "ProxyJump gpu2",
    "# User eve",
    "",
    "SendEnv A B",
    "Include one",
    "include ~/two",
    "Include one ~/.ssh/o*",
    "Include =one ~/two",
    "Include nowhere",
)
KEYS = ("HostName", "Port", "User", "IdentityFile", "ProxyJump", "SendEnv")
BLOCKS = st.tuples(st.sampled_from(HEADS), st.lists(st.sampled_from(SETTINGS), max_size=2))
TEXTS = st.lists(BLOCKS, max_size=5).map(
    lambda blocks: "\n".join(line for head, lines in blocks for line in (head, *lines))
)


def said(file: str, host: str) -> tuple[object, ...]:
    """What asyncssh makes of a file, but for the file's own name in a complaint."""
    try:
        options = asyncssh.SSHClientConnectionOptions(host=host, config=file, client_keys=None)
    except (asyncssh.ConfigParseError, ValueError) as error:
        return (type(error), str(error).partition(" line ")[2])
    return tuple(options.config.get(key) for key in KEYS)


@settings(max_examples=300)
@given(st.tuples(TEXTS, TEXTS, TEXTS), st.sampled_from(NAMES))
def test_a_copy_says_the_same_of_its_host(
    tmp_path_factory: pytest.TempPathFactory, texts: tuple[str, str, str], host: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    config, one, two = home / ".ssh/config", home / ".ssh/one", home / "two"
    for file, text in zip((config, one, two), texts, strict=True):
        file.write_text(text if file == config else text.replace("nclude", "gnored"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        with HostFiles(host) as files:
            ours = said(files.copy(SshConfig(config)), host)
        assert ours == said(str(config), host)


def test_other_hosts_are_blank_lines_also_in_included_files(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host c\n  Port 3\nHost a\n  Port 4\n")
    whole = tmp_path / "config"
    whole.write_text(
        f"Host a\n  Port 1\nHost b\n  Port 2\n\nHost *\n  User u\nInclude {tmp_path}/m*\n"
    )
    with HostFiles("b") as files:
        *kept, include = Path(files.copy(SshConfig(whole))).read_text().splitlines()
        assert kept == ["", "", "Host b", "  Port 2", "", "Host *", "  User u"]
        included = Path(include.removeprefix("Include "))
        assert included.read_text() == "\n" * 4
    assert not included.exists()


def test_a_circle_of_includes_is_not_followed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"Include {two}\nPort 1\n")
    two.write_text(f"Include {one}\nPort 2\n")
    with HostFiles("a") as files:
        include, port = Path(files.copy(SshConfig(one))).read_text().splitlines()
        assert port == "Port 1"
        assert Path(include.removeprefix("Include ")).read_text() == two.read_text()


@pytest.mark.parametrize("text", ["Host a\n  Port 1\n\n  Port one\n", "Host b\n\n\n  User 'x\n"])
def test_a_complaint_names_the_users_own_file_and_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)

    async def settings() -> dict[str, str]:
        return Dialler(Inventory((Host("a"),), ssh_config=str(file))).settings("a")

    with pytest.raises(ConnectError, match=f" {file} line 4: "):
        asyncio.run(settings())
