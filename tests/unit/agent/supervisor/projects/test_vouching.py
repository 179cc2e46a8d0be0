"""A ticket that says a quota covers its run is believed where this host sees that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.host import projects
from launcher.agent.processes.processes import user_name
from launcher.agent.supervisor.projects.vouching import vouched

ME = user_name(os.getuid())
RULES: Any = {"team-a": {"quota": 4, "users": [ME]}, "team-b": {"quota": 4, "users": ["eve"]}}


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of sockets that no other test has."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))


def test_who_shows_no_project_of_its_own_has_no_quota() -> None:
    tickets: Any = [
        {"run": name, "user": ME, "within": name != "plain"}
        for name in ("mine", "theirs", "beyond", "silent", "plain")
    ]
    with (
        projects.enter("mine", "team-a", 2, "wq"),
        projects.enter("theirs", "team-b", 2, "wq"),
        projects.enter("beyond", "team-a", 2, "w"),
    ):
        believed = {one["run"]: one["within"] for one in vouched(tickets, RULES)}
        assert [run for run, within in believed.items() if within] == ["mine"]
        assert not any(one["within"] for one in vouched(tickets, {})), "there are no projects"
        assert vouched(tickets, None) == tickets, "an earlier launcher sends no rules"
