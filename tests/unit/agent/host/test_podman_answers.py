"""podman is asked of an image again once its storage or its settings have changed, and only then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.relay.images.requests import Images

ONE, TWO = "a" * 64, "b" * 64
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
#: A FAKE of podman: it notes what it is asked, and answers with what a file says.
PODMAN = """#!/bin/sh
case "$1" in
  info) echo info >>"$0.asked"; printf '%%s/storage\\tvfs\\tmap[%s]\\n' "${0%%/*}";;
  image) echo asked >>"$0.asked"; cat "$0.id" && echo MACHINE;;
  run) echo none;;
esac
"""


class Host:
    """A host with that podman, whose storage has these images."""

    def __init__(self, folder: Path, options: str = "") -> None:
        self.folder, self.podman = folder, folder / "podman"
        self.podman.write_text((PODMAN % options).replace("MACHINE", MACHINE))
        self.podman.chmod(0o755)
        self.root = folder / "root"
        self.root.mkdir()
        self.names(ONE)

    def names(self, image_id: str, *, lists: str = "") -> None:
        """Write the file that each change of images writes anew; it is no longer fresh."""
        (self.folder / "podman.id").write_text(image_id + "\n")
        place = self.folder / "storage/vfs-images/images.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        (place.parent / "new").write_text(f'[{{"id":"{lists or image_id}","names":["x:1"]}}]')
        (place.parent / "new").replace(place)

    def look(self, **more: object) -> dict[str, Any]:
        """Ask for the image, as a connection of its own."""
        request = {"do": "look", "image": "x:1", "runtime": "podman", "mounts": []}
        return Images(str(self.root)).answer({**request, **more})

    @property
    def asked(self) -> int:
        """How often podman was asked of an image."""
        return self.questions.count("asked")

    @property
    def questions(self) -> list[str]:
        return (self.folder / "podman.asked").read_text().split()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That podman is on PATH, and files count as settled however young they are."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("launcher.agent.host.podman_answers._TICK", -3600.0)


def test_an_image_that_is_known_is_not_asked_for_again(tmp_path: Path) -> None:
    host = Host(tmp_path)
    first = host.look()
    assert first["id"] == ONE
    assert host.look() == first
    assert host.asked == 1
    assert host.look(image="y:1")["id"] == ONE
    assert host.look(image="y:1", pinned=ONE)["id"] == ONE
    assert host.asked == 3
    host.look(image="y:1")
    host.look()
    assert host.asked == 3, "each name has its answer"


def settings(folder: Path) -> Path:
    place = folder / "home/.config/containers/registries.conf.d"
    place.mkdir(parents=True)
    return place


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host.names(TWO),
        lambda host: (settings(host.folder) / "short.conf").write_text("x"),
        lambda host: (settings(host.folder).parent / "storage.conf").write_text("x"),
        lambda host: host.podman.write_text(host.podman.read_text() + "# of another version\n"),
    ],
    ids=["images", "names", "storage", "podman"],
)
def test_any_change_has_it_asked_for(tmp_path: Path, change: Callable[[Host], object]) -> None:
    host = Host(tmp_path)
    host.look()
    change(host)
    found = host.look()
    assert host.asked == 2
    assert found["id"] == (tmp_path / "podman.id").read_text().strip()
    host.look()
    assert host.asked == 2


def test_an_image_of_a_storage_that_is_not_watched_is_always_asked_for(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.names(ONE, lists=TWO)  # it is in another store
    host.look()
    host.look()
    assert host.asked == 2


def test_hosts_with_several_storages_are_always_asked(tmp_path: Path) -> None:
    host = Host(tmp_path, "overlay.imagestore:/shared/images")
    host.look()
    host.look()
    assert host.questions == ["info", "asked", "asked"]


def test_what_has_just_changed_may_change_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.agent.host.podman_answers._TICK", 3600.0)
    host = Host(tmp_path)
    host.look()
    host.look()
    assert host.asked == 2


def test_a_file_of_answers_that_was_cut_is_no_answer(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.look()
    (file,) = (host.root / "images").glob("podman-*.json")
    for text in ("", "[]", '{"settings": 1, "answers": {"x:1": []}}', '{"list": "/", "was": "x"}'):
        file.write_text(text)
        assert host.look()["id"] == ONE


def test_what_is_known_of_an_image_and_was_cut_is_looked_for_again(tmp_path: Path) -> None:
    """A power cut leaves files that are empty."""
    host = Host(tmp_path)
    first = host.look()
    (file,) = (host.root / "images/known").iterdir()
    for text in (b"", b'{"sta', b"null", b"[]", b"{}", b"\xff\xfe"):
        file.write_bytes(text)
        assert host.look() == first, text
        assert file.read_bytes() != text
