"""The latest check of each inventory is found again, and nothing that is in its way ends a check."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.fleet import last_check
from launcher.fleet.findings import Finding
from launcher.fleet.last_check import LastCheck
from launcher.spec.model import Host, Inventory

FOUND = Finding("DISK-LOW", "warning", ("gpu1",), "2 GB left", "launcher prune")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def inventory(*hosts: str) -> Inventory:
    return Inventory(tuple(Host(name, f"{name}.lab") for name in hosts))


def test_each_inventory_has_its_latest_check(home: Path) -> None:
    assert last_check.of(inventory("gpu1")) is None
    first, second = LastCheck(1.0, ("gpu1",), (FOUND,)), LastCheck(2.0, ("gpu1",), ())
    last_check.keep(inventory("gpu1"), first)
    last_check.keep(inventory("gpu1", "gpu2"), second)
    assert last_check.of(inventory("gpu1")) == first
    last_check.keep(inventory("gpu1"), second)
    assert last_check.of(inventory("gpu1")) == last_check.of(inventory("gpu1", "gpu2")) == second
    assert (home / last_check.FILE).stat().st_mode & 0o077 == 0


def test_another_address_is_another_host() -> None:
    last_check.keep(inventory("gpu1"), LastCheck(1.0, ("gpu1",), ()))
    assert last_check.of(Inventory((Host("gpu1", "other.lab"),))) is None


def test_old_ones_are_forgotten() -> None:
    for number in range(last_check.MOST + 1):
        last_check.keep(inventory(f"gpu{number}"), LastCheck(float(number), (), ()))
    assert last_check.of(inventory("gpu0")) is None
    assert last_check.of(inventory("gpu1")) is not None


@pytest.mark.parametrize("text", ["[", "[]", '{"x": 7}'])
def test_a_damaged_file_counts_as_none(home: Path, text: str) -> None:
    home.mkdir()
    (home / last_check.FILE).write_text(text)
    assert last_check.of(inventory("gpu1")) is None
    last_check.keep(inventory("gpu1"), LastCheck(1.0, ("gpu1",), (FOUND,)))
    assert last_check.of(inventory("gpu1")) is not None


def test_without_room_the_check_goes_on(home: Path) -> None:
    home.write_text("no folder")
    last_check.keep(inventory("gpu1"), LastCheck(1.0, (), ()))
    assert last_check.of(inventory("gpu1")) is None
