"""``launcher ls``, without hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli.commands import ls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no runs on 4 hosts\n"),
        (("--user", "ann"), "no runs of ann on 4 hosts\n"),
    ],
)
def test_hosts_without_runs_say_of_whom(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    class Client:
        def __init__(self, inventory: Any) -> None: ...

        async def host_runs(self) -> dict[str, Any]:
            return {f"gpu{n}": SimpleNamespace(running=[]) for n in range(4)}

    monkeypatch.setattr(ls, "new_client", Client)
    monkeypatch.setattr(ls, "loaded", lambda place: SimpleNamespace(on=(None,) * 4))
    done = CliRunner().invoke(ls.command, ["--all-users", *words])
    assert (done.exit_code, done.stderr) == (0, said)
