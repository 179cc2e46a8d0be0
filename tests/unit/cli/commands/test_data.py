"""``launcher data``, without hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli.commands import data


def test_rm_says_what_is_gone_and_what_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without its name, a set can no longer be deleted from hosts by `data rm`."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file").write_text("x")
    runner = CliRunner()
    assert runner.invoke(data.command, ["add", "corpus", str(tmp_path / "set")]).exit_code == 0
    done = runner.invoke(data.command, ["rm", "corpus"])
    assert done.exit_code == 0
    assert done.stderr == (
        "corpus is forgotten; hosts keep their copies until launcher data prune\n"
    )
