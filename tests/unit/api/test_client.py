"""Errors of ``Client`` say what to do, before any host is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

import launcher as library
from launcher.spec.errors import InputError, UnknownRun


def test_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a host, and without a thread."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    client = library.Client()
    with pytest.raises(UnknownRun, match="there are no runs here"):
        client.show("-")
    with pytest.raises(UnknownRun):
        client.rm("calm-owl-1")
    with pytest.raises(InputError) as lacking:
        client.run(library.make_job(run=("true",)))
    assert "launcher.Client(" in lacking.value.hint
    (tmp_path / "home" / "runs" / "calm-owl-1").mkdir(parents=True)
    (tmp_path / "home" / "runs" / "calm-owl-1" / "events.jsonl").touch()
    with pytest.raises(InputError, match="cannot attach to"):
        client.attach("calm")
    assert client.rm("calm") == []
    assert client.list() == []
    client.close()
