"""Where an inventory is looked for when nothing names one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.api import inventory_lookup
from launcher.api.inventory_lookup import INVENTORY, find_inventory


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder in a folder, which is the current one."""
    folder = tmp_path / "project"
    (folder / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(folder / "src" / "deep")
    monkeypatch.delenv(INVENTORY, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(inventory_lookup, "OF_ALL", str(tmp_path / "etc.yaml"))
    return folder


def test_the_nearest_one_counts(project: Path, tmp_path: Path) -> None:
    assert find_inventory(None) is None
    places = [
        tmp_path / "etc.yaml",
        tmp_path / "nobody/.launcher/inventory.yaml",
        tmp_path / "home/inventory.yaml",
        project / "inventory/lab.yaml",
        project / "inventory.yaml",
        project / "src/inventory.yaml",
        project / "src/deep/inventory.yaml",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
        found = find_inventory(None)
        assert found is not None
        assert Path(found).resolve() == place
    assert found == "inventory.yaml"
    assert find_inventory("named.yaml") == "named.yaml"


def test_a_file_above_of_another_user_is_passed_over(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = project / "inventory.yaml"
    above.write_text("")
    assert find_inventory(None) == "../../inventory.yaml"
    monkeypatch.setattr(os, "getuid", lambda: above.stat().st_uid + 1)
    trusted = above.stat().st_uid == 0
    assert (find_inventory(None) is not None) is trusted, "root's may be used by everybody"
    if os.geteuid() == 0:
        os.chown(above, 12345, -1)
        assert find_inventory(None) is None
