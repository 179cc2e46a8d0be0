"""Images that are named by a path: what there is on this machine decides which they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.environment_paths import with_local_image
from launcher.spec.environments import Environment
from launcher.spec.errors import InputError


def named(workdir: Path, image: str) -> str:
    return with_local_image(str(workdir), Environment(image=image)).image


def test_a_folder_is_its_dockerfile_or_an_image(tmp_path: Path) -> None:
    for file in ("docker/Dockerfile", "oci/index.json", "root/usr/bin/sh", "x.tar"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert named(tmp_path, "./docker") == f"{tmp_path}/docker/Dockerfile"
    for same in ("./oci", "./root", "x.tar"):
        assert named(tmp_path, same) == str(tmp_path / same)
    for of_hosts in ("lab/x:1", "/opt/x.sif", "/opt/nowhere"):
        assert named(tmp_path, of_hosts) == of_hosts


def test_a_folder_with_neither_is_refused_here(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for image in (".", "./src"):
        with pytest.raises(InputError, match=f"{image} is a folder with neither a Dockerfile nor"):
            named(tmp_path, image)
    assert named(tmp_path, str(tmp_path / "src")), "hosts may have an image at a whole path"
    with pytest.raises(InputError, match=r"there is no \./none in"):
        named(tmp_path, "./none")
