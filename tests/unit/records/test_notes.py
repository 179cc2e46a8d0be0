"""Tags and notes of a run, to find it by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launcher.cli import cli
from launcher.records.notes import Notes
from launcher.spec.errors import InputError


def _call(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False)


def test_a_run_is_found_by_tag_and_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    for name in ("one-1", "two-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        running = '{"event": "StageStarted", "time": 1.0, "stage": "run"}\n'
        (tmp_path / "runs" / name / "events.jsonl").write_text(running)
    assert _call("tag", "one", "baseline", "lr", "--note", "too high").exit_code == 0
    told = json.loads(_call("tag", "one", "--remove", "lr", "--json").stdout)
    assert told == {"run": "one-1", "tags": ["baseline"], "note": "too high"}
    for words in (("--tag", "baseline"), ("HIGH",)):
        assert [run["run"] for run in json.loads(_call("ls", "--json", *words).stdout)] == ["one-1"]
    assert json.loads(_call("ls", "--json", "--tag", "lr").stdout) == []
    assert "baseline" in _call("ls").stdout


def test_tags_are_words() -> None:
    for tag in ("", "two words", "a,b", "-x", "bell\a"):
        with pytest.raises(InputError, match="cannot be a tag"):
            Notes().changed([tag])
    with pytest.raises(InputError, match="has no tag x"):
        Notes(("a",)).changed(remove=["x"])
