"""Programs of ours that stand in front of the real ones on PATH: what those get."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.frameworks.env import Env

MEETS = {"PET_MASTER_ADDR": "10.0.0.1", "PET_MASTER_PORT": "29500"}
SAYS = '#!/bin/sh\necho "$PET_RDZV_ENDPOINT got: $*"\n'


def said(tmp_path: Path, *words: str, **env: str) -> str:
    """Return what the real ``tune`` says of what it got."""
    for folder, text in (("ours", Env.programs["tune"]), ("real", SAYS)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tune").write_text(text)
        (tmp_path / folder / "tune").chmod(0o755)
    path = f"{tmp_path}/ours:{tmp_path}/real:{os.environ['PATH']}"
    done = subprocess.run(
        ["tune", *words], env={"PATH": path, **env}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("words", "env", "expected"),
    [
        (["run", "a b", "x"], MEETS, "10.0.0.1:29500 got: run a b x"),
        (["run", "x"], MEETS | {"PET_RDZV_ENDPOINT": "gpu9:1"}, "gpu9:1 got: run x"),
        (["run", "--standalone", "x"], {}, "got: run --standalone x"),
        (["ls"], MEETS, "got: ls"),
    ],
    ids=["meets", "has an endpoint", "alone", "another command"],
)
def test_torchtune_in_a_script_knows_where_to_meet(
    tmp_path: Path, words: list[str], env: dict[str, str], expected: str
) -> None:
    """Without an endpoint, it starts each host alone. Options are left as they are: any would make a
    recipe for one device a distributed one."""
    assert said(tmp_path, *words, **env) == expected
