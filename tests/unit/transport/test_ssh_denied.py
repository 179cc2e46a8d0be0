"""What is said of a login that was refused, and of a host that cannot be dialled."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import pytest

from launcher.spec.model import Inventory
from launcher.transport import ssh
from launcher.transport.ssh_keys import OfferedKeys
from launcher.transport.ssh_settings import resolve

#: Keys of tests are quick to make: one round is enough.
pytestmark = pytest.mark.filterwarnings("ignore:.*bcrypt.kdf:UserWarning")


def denied(*keys: Path, unlocked: bool = False) -> tuple[str, str]:
    """The message and the hint of a login with these keys that was refused."""
    own = [("User", "me"), *(("IdentityFile", f'"{key}"') for key in keys)]
    offered = OfferedKeys()
    offered.unlocked = unlocked
    error = ssh._denied(resolve("gpu1", own, "none"), offered)
    return error.message, error.hint


def written(path: Path, passphrase: str | None = None, mode: int = 0o600) -> Path:
    """A new key at this path."""
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(
        path, passphrase=passphrase, rounds=1
    )
    path.chmod(mode)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("passphrase", "mode", "about", "hint"),
    [
        (None, 0o600, "(tried key)", "run ssh-copy-id gpu1;"),
        ("secret", 0o600, "({key} has a passphrase)", "run ssh-add '{key}';"),
        (None, 0o644, "({key} may be read by others, so ssh ignores it)", "run chmod 600 '{key}';"),
    ],
)
def test_a_key_is_named_with_what_is_the_matter(
    passphrase: str | None, mode: int, about: str, hint: str, tmp_path: Path
) -> None:
    folder = tmp_path / "my keys"
    folder.mkdir()
    key = written(folder / "key", passphrase, mode)
    message, said = denied(key)
    assert message == f"login as me@gpu1 refused {about.format(key=key)}"
    assert said == f"{hint.format(key=key)} does `ssh gpu1` work?"


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"({tmp_path / 'gone'} does not exist)" in denied(tmp_path / "gone")[0]


@pytest.mark.thorough
def test_a_key_whose_passphrase_was_given_was_tried(tmp_path: Path) -> None:
    key = written(tmp_path / "key", "secret")
    assert denied(key, unlocked=True)[0] == "login as me@gpu1 refused (tried key)"


class Asked:
    """Answers with the passphrase, and counts how often; equal ones have no hash."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, file: str) -> str:
        self.count += 1
        return "secret"


class AskedWithoutHash(Asked):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.thorough
@pytest.mark.parametrize(("ask", "count"), [(Asked(), 1), (AskedWithoutHash(), 2)])
def test_who_visits_hosts_again_is_not_asked_again(ask: Asked, count: int, tmp_path: Path) -> None:
    """Unless nothing can be kept for the one who is asked."""
    key = written(tmp_path / "key", "secret")

    async def unlock() -> asyncssh.SSHKey | None:
        return await ssh.Dialler(Inventory(()), ask)._unlock(str(key))

    for _ in range(2):
        assert asyncio.run(unlock()) is not None
    assert ask.count == count


ROUTE = OSError(113, "Connect call failed ('10.0.0.5', 22)")
REFUSED = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 22)")
BOTH = OSError(f"Multiple exceptions: {REFUSED}, [Errno 111] Connect call failed ('::1', 22, 0, 0)")
MIXED = OSError(f"Multiple exceptions: {ROUTE}, {REFUSED}")


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are those of Linux")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ROUTE, "cannot reach gpu1 port 22: No route to host"),
        (REFUSED, "nothing listens on gpu1 port 22"),
        (BOTH, "nothing listens on gpu1 port 22"),
        (MIXED, "cannot reach gpu1 port 22: No route to host; Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), ": Name or service not known"),
    ],
)
def test_a_host_that_cannot_be_dialled(error: OSError, message: str) -> None:
    """asyncio has words of its own for that, and one text for all addresses of a host."""
    settings = resolve("gpu1", [("User", "me")], "none")
    client = SimpleNamespace(proxy=None, stage="dialling")
    assert ssh._broken(settings, client, error).message.endswith(message)  # type: ignore[arg-type]
