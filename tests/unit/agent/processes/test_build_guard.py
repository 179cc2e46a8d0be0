"""Which working containers of podman are ours, and which of those nobody watches any more."""

from __future__ import annotations

import json
import os
from pathlib import Path

from launcher.agent.processes import build_guard, processes


def write(storage: Path, name: str, hosts: list[str] | None) -> None:
    folder = storage / "vfs-containers" / name / "userdata"
    folder.mkdir(parents=True)
    (folder / "buildah.json").write_text(json.dumps({"CommonBuildOpts": {"AddHost": hosts}}))


def test_containers_of_guards_that_are_gone_are_found_and_others_left_alone(tmp_path: Path) -> None:
    began = processes.table()[os.getpid()][2]
    mine = build_guard.MARK % (os.getpid(), began)
    write(tmp_path, "alive", [f"{mine}:127.0.0.1"])
    write(tmp_path, "reused", [f"{build_guard.MARK % (os.getpid(), began + 1)}:127.0.0.1"])
    write(tmp_path, "gone", ["db:10.0.0.1", f"{build_guard.MARK % (2**22 + 1, 1)}:127.0.0.1"])
    write(tmp_path, "somebody", ["db:10.0.0.1"])
    write(tmp_path, "plain", None)
    (tmp_path / "vfs-containers/broken/userdata").mkdir(parents=True)
    (tmp_path / "vfs-containers/broken/userdata/buildah.json").write_text("{")
    (tmp_path / "vfs-containers/containers.json").write_text("[]")
    (tmp_path / "vfs-images").mkdir()
    found = build_guard.working_containers(str(tmp_path), build_guard.is_stale)
    assert sorted(found) == ["gone", "reused"]
    assert build_guard.working_containers(str(tmp_path), lambda mark: mark == mine) == ["alive"]
    assert build_guard.working_containers(str(tmp_path / "nowhere"), build_guard.is_stale) == []
