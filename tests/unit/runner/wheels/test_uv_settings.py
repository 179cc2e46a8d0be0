"""What uv on this machine goes by, beside the text of requirements."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.runner.wheels import uv_settings
from support.wheels import write_wheel

LOCK = """\
version = 1
[[package]]
name = "one"
version = "1.0"
source = { registry = "wheels" }
wheels = [{ path = "one-1.0-py3-none-any.whl"HASH }]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def test_text_that_says_all_has_no_origin(project: Path, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none"), "UV_CACHE_DIR": "/x"}
    (project / "requirements.txt").write_text("one==1\nhttps://x/two-1.0-py3-none-any.whl\n")
    (project / "pyproject.toml").write_text("[tool.uv]\npackage = false\n")
    assert uv_settings.origin(project, env) == ""
    (project / "uv.lock").write_text(LOCK.replace("HASH", ', hash = "sha256:00"'))
    write_wheel(project / "wheels", "one", "1.0")
    assert uv_settings.origin(project, {**env, "UV_DEFAULT_INDEX": "https://x"}) == ""


def test_what_changes_it(project: Path, tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "own")}
    (project / "more").mkdir()
    (project / "requirements.txt").write_text(
        "-r more/requirements.txt\n./two-1.0-py3-none-any.whl\n"
    )
    (project / "more" / "requirements.txt").write_text("--find-links=../wheels\none\n")
    seen: list[str] = []

    def changes() -> bool:
        seen.append(uv_settings.origin(project, env))
        return seen[-1] not in seen[:-1]

    assert changes()
    wheel = write_wheel(project / "wheels", "one", "1.0")
    assert changes()
    os.utime(wheel, (1, 1))
    assert changes()
    write_wheel(project, "two", "1.0")
    assert changes()
    (tmp_path / "own" / "uv").mkdir(parents=True)
    (tmp_path / "own" / "uv" / "uv.toml").write_text('[pip]\nextra-index-url = ["https://x"]\n')
    assert changes()
    (project.parent / "pyproject.toml").write_text('[tool.uv]\nfind-links = ["links"]\n')
    assert changes()
    write_wheel(project.parent / "links", "three", "1.0")
    assert changes()
    env["UV_INDEX"] = "lab=https://u:old@index.lab/simple?token=1"
    assert changes()
    env["UV_INDEX"] = "lab=https://u:new@index.lab/simple?token=2"
    assert not changes(), "a login changes no wheels"
    (project / "uv.lock").write_text(LOCK.replace("HASH", ""))
    assert uv_settings.origin(project, env)
    write_wheel(project / "wheels", "one", "1.0", data=b"x")
    assert changes(), "the lock has no sum"
