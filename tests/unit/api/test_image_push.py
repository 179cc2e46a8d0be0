"""What `image push` refuses before it goes to any host."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launcher.api import images
from launcher.spec.errors import InputError
from launcher.spec.model import Inventory


@pytest.mark.parametrize(
    ("name", "do"), [("./train.tar", "load"), ("./docker/Dockerfile", "build")]
)
def test_a_path_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, do: str
) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    place = images.ImagePlace(Inventory(()), ())
    with pytest.raises(InputError, match="is a path, and push takes the name") as raised:
        asyncio.run(images.push(place, name))
    assert raised.value.hint == f"launcher image {do} {name}"
