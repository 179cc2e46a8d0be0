"""`launcher follow --install`: what systemd and launchd are given."""

from __future__ import annotations

import plistlib
import sys
from pathlib import Path

import pytest

from launcher.api import user_service
from launcher.spec.errors import InputError, LauncherError

ARGV = ["/opt/my venv/bin/python", "-m", "launcher", "follow", "--all"]

#: Notes how it was called; has a user instance unless a file says otherwise.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$HOME/calls"
test "$2" != show-environment || test ! -e "$HOME/no-instance"
"""
LOGINCTL = "#!/bin/sh\necho no\n"


def test_words_and_variables_of_the_unit_are_quoted() -> None:
    text = user_service.unit(ARGV, {"PATH": '/a b:/100%:/"$x"'})
    assert 'ExecStart="/opt/my venv/bin/python" "-m" "launcher" "follow" "--all"\n' in text
    assert 'Environment="PATH=/a b:/100%%:/\\"$x\\""\n' in text
    assert "WantedBy=default.target\n" in text


def test_the_agent_of_launchd() -> None:
    made = plistlib.loads(user_service.plist(ARGV, {"PATH": "/bin"}, Path("/log")))
    assert made["ProgramArguments"] == ARGV
    assert (made["RunAtLoad"], made["EnvironmentVariables"]) == (True, {"PATH": "/bin"})


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user on Linux whose systemctl notes what it is asked."""
    for name, text in (("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "runs"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def test_install_and_uninstall(user: Path) -> None:
    service = user_service.install()
    assert service.file == user / ".config/systemd/user/launcher-follow.service"
    assert service.lingers is False
    assert f'"LAUNCHER_HOME={user}/runs"' in service.file.read_text()
    calls = (user / "calls").read_text()
    assert "--user enable launcher-follow.service" in calls
    assert "--user restart launcher-follow.service" in calls
    assert user_service.uninstall() == service.file
    assert not service.file.exists()
    assert "--user disable --now launcher-follow.service" in (user / "calls").read_text()
    assert user_service.uninstall() is None


def test_without_an_instance_of_systemd_nothing_is_written(user: Path) -> None:
    (user / "no-instance").touch()
    with pytest.raises(InputError, match="systemd runs no services") as raised:
        user_service.install()
    assert "@reboot launcher follow --all" in raised.value.hint
    assert not (user / ".config").exists()


def test_what_systemd_says_is_passed_on(user: Path) -> None:
    (user / "bin" / "systemctl").write_text(
        '#!/bin/sh\ntest "$2" = show-environment && exit 0\necho "Access denied" >&2; exit 1\n'
    )
    with pytest.raises(LauncherError, match="Access denied"):
        user_service.install()
