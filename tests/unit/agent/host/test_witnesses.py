"""Witnesses by their names: their user ends them, and nobody else, nor one that stands still, is waited
for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from launcher.agent.host import socket_names, witnesses


@pytest.fixture(autouse=True)
def _own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))


def test_those_that_stand_still_are_told_and_not_waited_for() -> None:
    names = [witnesses.name_of("calm-otter", f"gpu{n}", "key") for n in range(8)]
    held = [socket_names.bind(name) for name in names]
    began = time.monotonic()
    witnesses.end("calm-otter", but=names[0])
    assert time.monotonic() - began < 2 * witnesses.LEAVES
    assert [witnesses.is_asked_to_end(one) for one in held] == [False] + [True] * 7
    for one in held:
        one.close()


def test_a_crowd_of_callers_does_not_keep_a_witness() -> None:
    name = witnesses.name_of("calm-otter", "gpu1", "key")
    with socket_names.bind(name) as listener:
        callers = [socket_names.connected(name) for _ in range(2 * witnesses.CALLERS)]
        for one in callers:
            assert one
            one.close()
        assert not witnesses.is_asked_to_end(listener)
        listener.accept()[0].close()  # the others are looked at next time
