"""Login sessions without a systemd: what is read of them, and what is said. `make vm` has the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent.processes import login_session
from launcher.fleet.findings.host import of_host
from launcher.fleet.findings.survey import Login
from launcher.spec.model import Host
from support.surveys import survey

SSH = "0::/user.slice/user-1000.slice/session-3.scope\n"
V1 = "4:memory:/user.slice\n1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (SSH, "session-3.scope"),
        (V1, "session-c2.scope"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/launcher-a.scope/agent\n",
            None,
        ),
        ("0::/system.slice/ssh.service\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_which_session_it_is(groups: str, found: str | None) -> None:
    assert login_session.session(groups) == found


@pytest.mark.parametrize(
    ("told", "killed"),
    [
        ("b true\nas 0\nas 0", ["ann", "ben"]),
        ("b false\nas 0\nas 0", []),
        ('b true\nas 0\nas 2 "root" "ben"', ["ann"]),
        ('b false\nas 1 "ann"\nas 0', ["ann"]),
        ('b true\nas 2 "ann" "ben"\nas 1 "ann"', ["ben"]),
        ("", []),
    ],
)
def test_whom_a_logout_kills(
    told: str, killed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake busctl, which says what logind's would; the rules are those of logind.conf(5)."""
    (tmp_path / "busctl").write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\n")
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [user for user in ("ann", "ben", "root") if login_session.kills(user)] == killed


def test_a_logout_that_kills_is_a_finding_until_the_user_lingers() -> None:
    ann = Login("session-3.scope", "ann", kills=True, lingers=False, bus=True)
    (finding,) = of_host(survey("a1", login=ann), Host("a1"))
    assert (finding.code, finding.level) == ("LOGOUT-KILLS", "warning")
    assert "loginctl enable-linger ann" in finding.fix
    for kills, lingers, bus, count in (
        (True, True, True, 0),
        (True, True, False, 1),
        (False, False, True, 0),
    ):
        known = Login("session-3.scope", "ann", kills, lingers, bus)
        assert len(of_host(survey("a1", login=known), Host("a1"))) == count
