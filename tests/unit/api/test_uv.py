"""A job that has hosts build an environment is refused here where nothing says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.jobs import make_job
from launcher.spec.errors import InputError


@pytest.mark.parametrize(
    ("files", "named", "said"),
    [
        ((), {"uv": "none"}, "uv: there is no none in"),
        ((), {"uv": "."}, "has neither uv.lock nor requirements.txt"),
        (("pyproject.toml",), {"uv": "."}, "and no uv.lock that says which versions"),
        (("pyproject.toml", "uv.lock"), {"uv": "uv.lock"}, "is named by its folder"),
        (("uv.lock",), {"uv": ".", "wheels": "w"}, "wheels: there is no folder w in"),
        (("pyproject.toml", "requirements.txt"), {"uv": "."}, ""),
        (("uv.lock",), {"uv": ".", "wheels": "/srv/wheels"}, ""),
        (("other.txt",), {"uv": "other.txt"}, ""),
        ((), {"pixi": "none"}, "pixi: there is no folder none in"),
        (("pixi.lock",), {"pixi": "."}, "has neither pixi.toml nor a pyproject.toml with"),
        (("pixi.toml",), {"pixi": "."}, "has no pixi.lock that says which versions"),
        (("pixi.toml", "pixi.lock"), {"pixi": "pixi.lock"}, "is named by its folder"),
        (("pixi.toml", "pixi.lock"), {"pixi": "."}, ""),
    ],
)
def test_what_hosts_are_to_build(
    tmp_path: Path, files: tuple[str, ...], named: dict[str, str], said: str
) -> None:
    for name in (*files, "train.py"):
        (tmp_path / name).touch()
    values = {"run": ("train.py",), "workdir": str(tmp_path), "environment": named}
    if not said:
        assert make_job(**values).environment
        return
    with pytest.raises(InputError) as raised:
        make_job(**values)
    assert said in str(raised.value)
    assert raised.value.hint
