"""What a search in an image has found is taken again as long as it stays true, and only then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.agent.host import modules

#: A FAKE of podman, which starts the program of a container right here, and counts that.
PODMAN = """#!/bin/sh
echo >>"$0.runs"
while [ "$1" != IMAGE ]; do shift; done
shift
exec sh "$@"
"""
ID = "c" * 64


class Image:
    """An image with a package, and a host that mounts a folder into its containers."""

    def __init__(self, folder: Path, image: str = ID) -> None:
        self.folder = folder
        self.podman = folder / "podman"
        self.podman.write_text(PODMAN.replace("IMAGE", image))
        self.podman.chmod(0o755)
        for name in ("root", "of_host", "of_image"):
            (folder / name).mkdir()
        (folder / "of_image/big.py").touch()
        self.spec: Any = {
            "runtime": "podman",
            "program": str(self.podman),
            "image": image,
            "user": "0:0",
            "groups": [],
            "ulimits": [],
            "rootless": False,
            "ipc": True,
            "mounts": [f"{folder}/root:{folder}/root", f"{folder}/of_host:{folder}/of_host:ro"],
            "devices": [],
            "gpus": "",
            "home": str(folder / "root"),
            "hosts": "/etc/hosts",
        }

    def search(
        self, *names: str, code: str = "code", behind: tuple[str, ...] = (), **env: str
    ) -> Any:
        """Search for modules as a run does that has code of its own."""
        place = self.folder / "root" / code
        place.mkdir(exist_ok=True)
        env = {"PYTHONPATH": str(self.folder / "of_image"), **env}
        search = modules.Search(
            list(names), env, str(place), behind, sys.executable, cast("Any", self.spec), self.root
        )
        return search.result()

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    @property
    def runs(self) -> int:
        """How often a container was started."""
        return len((self.folder / "podman.runs").read_text().splitlines())


def test_the_next_run_takes_what_was_found(tmp_path: Path) -> None:
    image = Image(tmp_path)
    found = image.search("big", "json")
    assert found["missing"] == []
    assert image.search("big", "json", code="of another run") == found
    assert image.runs == 1
    image.search("big")
    image.search("big", "json", MORE="1")
    image.search("big", "json", behind=("env",))
    image.search("big", "json", behind=("env",))
    assert image.runs == 5, "what is asked otherwise, and what a command prepares, is searched"


@pytest.mark.parametrize("where", ["missing", "of_host", "code", "folder of code", "path"])
def test_what_may_be_otherwise_next_time_is_searched_again(tmp_path: Path, where: str) -> None:
    image = Image(tmp_path)
    names, env = ["big", "mine"], {}
    if where == "of_host":
        (tmp_path / "of_host/mine.py").touch()
        env = {"PYTHONPATH": f"{tmp_path}/of_image:{tmp_path}/of_host"}
    elif where == "code":
        (tmp_path / "root/code").mkdir()
        (tmp_path / "root/code/mine.py").touch()
    elif where == "folder of code":
        (tmp_path / "root/code/mine").mkdir(parents=True)
    elif where == "path":
        names, env = ["big"], {"PYTHONPATH": f"{tmp_path}/of_image:{tmp_path}/of_host"}
    for _ in range(2):
        found = image.search(*names, **env)
        assert found["missing"] == (["mine"] if where == "missing" else [])
    assert image.runs == 2


def test_an_image_without_an_id_may_change(tmp_path: Path) -> None:
    image = Image(tmp_path, "/srv/root")
    image.search("big")
    image.search("big")
    assert image.runs == 2
