"""What a host has agreed to outlives its supervisor, and what cannot be read counts as anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent.supervisor.gang import agreement


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_kept_until_it_is_forgotten() -> None:
    assert agreement.kept() is None
    assert agreement.keep("one", ["gpu1"])
    assert agreement.keep("two", ["gpu1", "gpu2"])
    assert agreement.kept() == {"key": "two", "hosts": ["gpu1", "gpu2"]}
    agreement.forget()
    assert agreement.kept() is None
    assert os.listdir() == []


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b'{"key": "k", "hosts": 1}', b'{"hosts": []}', b"\xff"]
)
def test_what_cannot_be_read_may_be_anything(text: bytes, tmp_path: Path) -> None:
    (tmp_path / agreement.NAME).write_bytes(text)
    assert agreement.kept() == agreement.UNKNOWN


def test_a_disk_that_does_not_keep_it_agrees_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not agreement.keep("one", ["gpu1"])
    assert agreement.kept() is None
