"""Outputs outside of a run's folder: what counts as the run's, and what is no output of it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from launcher.agent.relay import elsewhere, tree
from launcher.agent.relay.elsewhere import Elsewhere


def looked(tmp_path: Path, *patterns: str, since: float | None = None) -> Elsewhere:
    began = time.time() if since is None else since
    found = Elsewhere(began, str(tmp_path / "own"), lambda: None, tree.Noted())
    for pattern in patterns:
        found.look(pattern)
    return found


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("/tmp/a/", ("/tmp/a", "")),
        ("/tmp//a/*.pt", ("/tmp/a", "*.pt")),
        ("~/r/**/x", ("~/r", "**/x")),
        ("~/x", ("~/x", "")),
    ],
)
def test_a_pattern_begins_with_a_folder(pattern: str, parts: tuple[str, str]) -> None:
    assert elsewhere.split(pattern) == parts


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("a/x.pt", "a/b/y.pt", "a/z.log", "one"):
        put(tmp_path / name)
    shown = f"_root{tmp_path}"
    every = [f"{shown}/a/b/y.pt", f"{shown}/a/x.pt", f"{shown}/a/z.log"]
    assert sorted(looked(tmp_path, f"{tmp_path}/a").files) == every
    found = looked(tmp_path, f"{tmp_path}/a/*.pt", f"{tmp_path}/one", f"{tmp_path}/none/x")
    assert sorted(found.files) == [*every[:2], f"{shown}/one"]
    assert found.places == {f"{shown}/a": f"{tmp_path}/a", shown: str(tmp_path)}


def test_the_home_is_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "r" / "x")
    found = looked(tmp_path, "~/r")
    assert (list(found.files), found.places) == (["_home/r/x"], {"_home/r": f"{tmp_path}/r"})


def test_what_was_there_before_is_no_output(tmp_path: Path) -> None:
    put(tmp_path / "a" / "old")
    later = time.time() + 60
    assert not looked(tmp_path, f"{tmp_path}/a", since=later).files
    copied = put(tmp_path / "a" / "copied-with-its-time")
    os.utime(copied, (0, 0))
    assert list(looked(tmp_path, f"{tmp_path}/a/copied*").files) != [], "it came during the run"


def test_nothing_goes_through_a_link(tmp_path: Path) -> None:
    put(tmp_path / "secret" / "key")
    put(tmp_path / "a" / "x")
    os.symlink("x", tmp_path / "a" / "last")
    os.symlink(tmp_path / "secret", tmp_path / "a" / "s")
    os.symlink(tmp_path / "secret" / "key", tmp_path / "k")
    os.symlink(tmp_path / "gone", tmp_path / "g")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "a" / "sock"))
    found = looked(tmp_path, f"{tmp_path}/a", f"{tmp_path}/k", f"{tmp_path}/g")
    shown = f"_root{tmp_path}/a"
    assert list(found.files) == [f"{shown}/x"]
    assert found.noted.links == {f"{shown}/last": f"{shown}/x"}
    assert {path.rpartition("/")[2] for path in found.noted.left_out} == {"s", "sock", "k", "g"}


def test_a_folder_that_is_a_link_is_its_target(tmp_path: Path) -> None:
    put(tmp_path / "real" / "x")
    os.symlink("real", tmp_path / "data")
    found = looked(tmp_path, f"{tmp_path}/data")
    assert found.places == {f"_root{tmp_path}/data": f"{tmp_path}/real"}


def test_other_runs_are_no_outputs(tmp_path: Path) -> None:
    put(tmp_path / "own" / "runs" / "other" / "x")
    put(tmp_path / "y")
    found = looked(tmp_path, str(tmp_path), f"{tmp_path}/own/runs")
    assert list(found.files) == [f"_root{tmp_path}/y"]
    assert list(found.noted.unreadable) == [f"{tmp_path}/own/runs"]


def test_a_disk_is_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        put(tmp_path / "a" / str(number))
    monkeypatch.setattr(elsewhere, "MOST_LOOKED", 10)
    found = looked(tmp_path, f"{tmp_path}/a", "/")
    assert len(found.files) < 10
    assert set(found.noted.unreadable) == {f"{tmp_path}/a", "/"}


def test_a_folder_that_cannot_be_read_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a" / "x")
    put(tmp_path / "a" / "shut" / "y")
    real = os.scandir

    def scandir(path: str) -> object:  # the root of the tests may read everything
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(elsewhere.os, "scandir", scandir)
    found = looked(tmp_path, f"{tmp_path}/a")
    assert list(found.files) == [f"_root{tmp_path}/a/x"]
    assert found.noted.unreadable == {f"{tmp_path}/a/shut": "Permission denied"}
