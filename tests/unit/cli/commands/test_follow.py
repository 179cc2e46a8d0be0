"""`launcher follow` without a run and without systemd."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli.commands.follow import command
from launcher.spec.errors import InputError


@pytest.mark.parametrize("words", [[], ["--all", "--install"]])
def test_it_asks_what_to_do(words: list[str]) -> None:
    raised = CliRunner().invoke(command, words).exception
    assert isinstance(raised, InputError)
    assert "--all, --install or --uninstall" in raised.message


def test_what_is_not_installed_needs_no_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ran = CliRunner().invoke(command, ["--uninstall"])
    assert (ran.exit_code, ran.stderr) == (0, "it is not installed\n")
