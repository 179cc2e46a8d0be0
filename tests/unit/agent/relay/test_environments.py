"""Environments that a host builds, by a real uv and a real pip, from wheels made by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base.protocol import Refused
from launcher.agent.relay import environments, usage, wanted
from launcher.agent.relay.data.store import DataStore
from launcher.agent.relay.environments import Environments
from launcher.transport.agent_errors import refusal
from launcher.transport.answers.environments import Environment
from launcher.transport.answers.reading import read
from launcher.transport.answers.runs import Problem
from support.wheels import write_wheel

WANTED = {"builder": "uv", "path": ".", "wheels": "wheels", "finder": "", "may_pip": False}
UV = Path(sys.executable).parent / "uv"
LOCK = """\
version = 1
revision = 3
requires-python = ">=3.8"

[[package]]
name = "job"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "tiny" }]

[package.metadata]
requires-dist = [{ name = "tiny" }]

[[package]]
name = "tiny"
version = "1.0"
source = { registry = "wheels" }
wheels = [{ path = "tiny-1.0-py3-none-any.whl" }]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host's folder, with the code of a run: requirements, and wheels beside them."""
    root = tmp_path / "root"
    for run in ("one", "two"):
        code = root / "runs" / run / "code"
        write_wheel(code / "wheels", "tiny", "1.0")
        (code / "requirements.txt").write_text("tiny==1.0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{UV.parent}:/usr/bin:/bin" if UV.exists() else "/usr/bin:/bin")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    yield root
    for path in (root / "envs").glob("locks/*"):
        path.unlink()


def asked(host: Environments, run: str = "one", **more: Any) -> dict[str, Any]:
    """Ask once."""
    wanted = {**WANTED, "run": run, **more}
    answer: dict[str, Any] = host.answer(wanted)  # type: ignore[assignment]
    read(Environment, "gpu1", "environment", answer)
    return answer


def ended(host: Environments, run: str = "one", **more: Any) -> dict[str, Any]:
    """Ask until it is there, or has failed."""
    deadline = time.monotonic() + 180
    while (answer := asked(host, run, **more))["state"] in ("building", "busy"):
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer


def version_in(python: str) -> str:
    """Return the version of the package that a Python has."""
    argv = [python, "-c", "import tiny; print(tiny.version)"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


needs_uv = pytest.mark.skipif(not UV.exists(), reason="uv is not installed in this environment")


@needs_uv
def test_it_is_built_once(root: Path) -> None:
    first = Environments(str(root))
    assert asked(first)["state"] == "building"
    there = ended(first)
    assert there["state"] == "there"
    assert version_in(there["python"]) == "1.0"
    assert os.path.realpath(root / "runs/one/environment").startswith(str(root / "envs"))
    other = Environments(str(root))
    assert asked(other, "two") == there, "at once, without a build"
    (root / "runs/two/code/requirements.txt").write_text("# another\ntiny==1.0\n")
    assert asked(Environments(str(root)), "two")["state"] == "building"


@needs_uv
def test_the_same_files_with_wheels_of_another_origin(root: Path) -> None:
    there = ended(Environments(str(root)))
    other = ended(Environments(str(root)), "two", origin="1" * 32)
    assert other["state"] == there["state"] == "there"
    assert other["python"] != there["python"]


@needs_uv
def test_two_that_want_it_at_once(root: Path) -> None:
    first, second = Environments(str(root)), Environments(str(root))
    assert asked(first)["state"] == "building"
    assert asked(second, "two")["state"] == "busy"
    assert ended(second, "one", path="requirements.txt", wheels="")["state"] in ("there", "failed")
    assert ended(first)["state"] == "there"
    assert ended(second, "two")["state"] == "there"


@needs_uv
def test_a_build_that_was_killed_is_no_environment(root: Path) -> None:
    """As after a power cut: what is left of it goes, and it is built again."""
    dead = Environments(str(root))
    for _ in range(2):
        assert asked(dead)["state"] == "building"
    assert dead._building is not None
    assert dead._building._pid > 0
    place, key = Path(dead._building.place), dead._building.key
    guard = dead._building._guard
    assert guard is not None
    os.kill(guard.pid, 9)
    while not guard.is_over():
        time.sleep(0.02)
    dead._building = None
    dead._unlock(key)
    place.mkdir(exist_ok=True)
    (place / "half").touch()
    old = place.rename(place.with_name(f"{key}.99999999"))
    found = ended(Environments(str(root)))
    assert version_in(found["python"]) == "1.0"
    assert not old.exists()


@needs_uv
def test_a_build_ends_with_who_asked_for_it(root: Path) -> None:
    """With all that it has started; and what one that was killed has left is cleared away."""
    host = Environments(str(root))
    for _ in range(2):
        assert asked(host)["state"] == "building"
    assert host._building is not None
    pid, key = host._building._pid, host._building.key
    Environments(str(root)).clear()
    assert list((root / "envs").glob(f"{key}*")), "it goes on"
    host.end()
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert [path.name for path in (root / "envs").iterdir()] == ["locks"]
    host._unlock(key)
    found = ended(Environments(str(root)))
    (root / "envs" / f"{key}.99999999").mkdir()
    (root / "envs" / f"{'a' * 20}.99999999.log").touch()
    Environments(str(root)).clear()
    assert len(list((root / "envs").iterdir())) == 5, "the key is in use"
    assert version_in(found["python"]) == "1.0"


@pytest.mark.thorough
@needs_uv
@pytest.mark.parametrize(
    ("requirements", "said"), [("absent==1\n", "absent"), ("tiny==2.0\n", "tiny")]
)
def test_what_cannot_be_built_is_told_and_leaves_nothing(
    root: Path, requirements: str, said: str
) -> None:
    (root / "runs/one/code/requirements.txt").write_text(requirements)
    host = Environments(str(root))
    found = ended(host)
    assert found["state"] == "failed"
    assert said in found["log"]
    assert [path.name for path in (root / "envs").iterdir()] == ["locks"]
    assert asked(host)["state"] == "building", "and it may be tried again"
    assert ended(host)["state"] == "failed"


VERSION = "0123456789abcdef" * 2


def bring_wheels(root: Path) -> None:
    """Put wheels where a launcher would have brought them, with the list of them."""
    wheel = write_wheel(root / "data" / VERSION / "files", "tiny", "1.0")
    line = f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    wheel.with_name("wheels.txt").write_text(line)


@needs_uv
def test_wheels_that_a_launcher_brings(root: Path) -> None:
    """A host says what it needs, once for each launcher that asks, and builds when they are there. It is
    the environment that it would build by itself."""
    code = root / "runs/one/code"
    (code / "more.txt").write_text("tiny\n")
    (code / "requirements.txt").write_text("-r more.txt\n")
    fetched = {"wheels": "", "fetched": True}
    host, other = Environments(str(root)), Environments(str(root))
    for one in (host, other):
        answer = asked(one, **fetched)
        assert answer["state"] == "no-wheels"
        assert answer["wanted"]["files"] == ["requirements.txt", "more.txt"]
        assert answer["wanted"]["python"].startswith("{}.{}.".format(*sys.version_info))
    assert asked(host, **fetched, brought=VERSION)["state"] == "no-wheels", "they are gone"
    bring_wheels(root)
    assert asked(host, **fetched, brought=VERSION)["state"] == "building"
    assert not DataStore(str(root), print)._may_remove(VERSION), "they stay while it is built"
    assert asked(other, **fetched)["state"] == "busy", "and nothing is brought twice"
    there = ended(host, **fetched, brought=VERSION)
    assert version_in(there["python"]) == "1.0"
    assert asked(other, **fetched) == there
    assert asked(Environments(str(root)), wheels="") == there


@needs_uv
def test_one_of_two_is_built_while_the_other_is_asked_for(root: Path) -> None:
    """Each is told of its own: as of a run with two environments, on a host that has their wheels."""
    code = root / "runs/one/code"
    write_wheel(code / "wheels", "tiny", "2.0")
    for version in ("1.0", "2.0"):
        (code / f"{version}.txt").write_text(f"tiny=={version}\n")
    host, there = Environments(str(root)), {}
    assert asked(host, path="1.0.txt", number=0)["state"] == "building"
    fetched = {"wheels": "", "fetched": True}
    assert asked(host, path="2.0.txt", number=1, **fetched)["state"] == "no-wheels"
    for path in ("2.0.txt", "1.0.txt"):
        assert asked(host, path=path, number=1)["state"] == "busy"
    assert host._building is not None
    while host._building.go_on():
        time.sleep(0.02)
    assert asked(host, path="2.0.txt", number=1)["state"] == "busy"
    for number, version in enumerate(("1.0", "2.0")):
        there[version] = ended(host, path=f"{version}.txt", number=number)["python"]
        assert version_in(there[version]) == version
    links = [os.readlink(root / "runs/one" / name) for name in ("environment", "environment-1")]
    assert [f"{link}/bin/python" for link in links] == list(there.values())
    assert asked(host, path="1.0.txt", number=1)["python"] == there["1.0"], (
        "they share what is equal"
    )


@needs_uv
def test_a_wheel_that_was_changed_on_its_way(root: Path) -> None:
    bring_wheels(root)
    write_wheel(root / "data" / VERSION / "files", "tiny", "1.0", data=b"x")
    found = ended(Environments(str(root)), wheels="", fetched=True, brought=VERSION)
    assert found["state"] == "failed"
    assert "Hash mismatch for `tiny==1.0`" in found["log"]


@pytest.mark.thorough
@needs_uv
def test_a_lock_of_uv(root: Path) -> None:
    """The project itself is not installed; a lock for another Python is refused in uv's words."""
    code = root / "runs/one/code"
    project = '[project]\nname = "job"\nversion = "1"\nrequires-python = "{}"\n'
    project += 'dependencies = ["tiny"]\n[[tool.uv.index]]\nurl = "wheels"\nformat = "flat"\n'
    (code / "pyproject.toml").write_text(project.format(">=3.8"))
    lock = [UV, "lock", "--project", code]
    subprocess.run([*lock, "--offline"], check=True, capture_output=True, cwd=code)
    for wheels in ("", "wheels"):
        found = ended(Environments(str(root)), wheels=wheels)
        assert found["state"] == "there", found
        assert version_in(found["python"]) == "1.0"
        listed = subprocess.run(
            [found["python"], "-c", "import importlib.metadata as m; print(m.version('job'))"],
            capture_output=True,
            check=False,
        )
        assert listed.returncode == 1, "the code is the run's own"
    (code / "pyproject.toml").write_text(project.format(">=3.99"))
    found = ended(Environments(str(root)), wheels="")
    assert found["state"] == "failed"
    assert "incompatible with the project's Python requirement: `>=3.99`" in found["log"]


@pytest.mark.thorough
@needs_uv
@pytest.mark.parametrize("wheels", ["", "wheels"])
@pytest.mark.parametrize("is_member", [True, False])
def test_folders_of_the_code_are_not_installed(root: Path, wheels: str, is_member: bool) -> None:
    """They would be those of the run that built it, for all runs and for ever."""
    code = root / "runs/one/code"
    project = '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.8"\n'
    project += (
        'dependencies = ["tiny", "inner"]\n[[tool.uv.index]]\nurl = "wheels"\nformat = "flat"\n'
    )
    source = "workspace = true" if is_member else 'path = "inner", editable = true'
    project += f"[tool.uv.sources]\ninner = {{ {source} }}\n"
    project += '[tool.uv.workspace]\nmembers = ["inner"]\n' if is_member else ""
    (code / "pyproject.toml").write_text(project)
    (code / "inner").mkdir()
    (code / "inner" / "pyproject.toml").write_text(
        '[project]\nname = "inner"\nversion = "1"\nrequires-python = ">=3.8"\n'
        '[build-system]\nrequires = []\nbuild-backend = "none"\n'
    )
    lock = [UV, "lock", "--project", code]
    subprocess.run([*lock, "--offline"], check=True, capture_output=True, cwd=code)
    found = ended(Environments(str(root)), wheels=wheels)
    assert found["state"] == "there", found
    assert version_in(found["python"]) == "1.0"


@needs_uv
def test_requirements_that_others_include_count(root: Path) -> None:
    """The environment is another one when they change."""
    code = root / "runs/one/code"
    (code / "more").mkdir()
    (code / "requirements.txt").write_text("-r more/base.txt  # as everybody\n")
    (code / "more" / "base.txt").write_text("-c ../pins.txt\ntiny\n")
    (code / "pins.txt").write_text("tiny==1.0\n")
    first = ended(Environments(str(root)))
    assert first["state"] == "there", first
    assert ended(Environments(str(root)))["python"] == first["python"]
    write_wheel(code / "other", "tiny", "2.0")
    (code / "pins.txt").write_text("tiny==2.0\n")
    second = ended(Environments(str(root)), wheels="other")
    assert version_in(second["python"]) == "2.0"
    (code / "pins.txt").write_text("tiny==3.0\n")
    assert asked(Environments(str(root)), wheels="other")["state"] == "building"


@pytest.mark.parametrize(
    "line", ["-e .", "--editable=lib", "./lib", "../lib", "/srv/lib", "lib @ file:///x"]
)
def test_a_folder_among_requirements_is_refused(root: Path, line: str) -> None:
    (root / "runs/one/code/requirements.txt").write_text(f"tiny\n\n{line}\n")
    with pytest.raises(Refused, match=r"requirements\.txt, line 3: .* is a local path"):
        asked(Environments(str(root)))


@pytest.mark.thorough
def test_pip_builds_requirements_where_there_is_no_uv(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which("uv") is None
    host = Environments(str(root))
    answer = asked(host)
    assert (answer["state"], answer["machine"]) == ("no-builder", os.uname().machine)
    assert Path(answer["tools"]).is_dir()
    found = ended(host, may_pip=True)
    assert found["state"] == "there", found
    assert version_in(found["python"]) == "1.0"
    (root / "runs/one/code/uv.lock").touch()
    (root / "runs/one/code/pyproject.toml").touch()
    assert asked(Environments(str(root)), may_pip=True)["state"] == "no-builder"
    bring_wheels(root)  # with the list of them, pip can do it
    lock = {"wheels": "", "fetched": True, "brought": VERSION, "may_pip": True}
    found = ended(Environments(str(root)), **lock)
    assert found["state"] == "there", found
    assert version_in(found["python"]) == "1.0"


@pytest.mark.parametrize(
    ("text", "wheels"),
    [
        ("tiny", "wheels"),
        ("./wheels/tiny-1.0-py3-none-any.whl", ""),
        ("tiny @ file:wheels/tiny-1.0-py3-none-any.whl ; python_version > '3'", ""),
        ("--find-links wheels\ntiny", ""),
        ("-r sub/more.txt", ""),
        ("environment.yml", ""),
    ],
)
def test_a_wheel_that_was_built_anew_under_its_name_makes_another_environment(
    root: Path, text: str, wheels: str
) -> None:
    code = root / "runs/one/code"
    (code / "requirements.txt").write_text(f"{text}\n")
    (code / "sub").mkdir()
    (code / "sub/more.txt").write_text("../wheels/tiny-1.0-py3-none-any.whl\n")
    pip = "{pip: [./wheels/tiny-1.0-py3-none-any.whl, x]}"
    (code / "environment.yml").write_text(f"dependencies: [python, {pip}]\n")

    def key() -> str:
        if text == "environment.yml":
            return wanted.OfConda(str(code), text).key()
        return wanted.OfUv(str(code), ".", wheels).key()

    first = key()
    assert key() == first
    os.utime(code / "wheels/tiny-1.0-py3-none-any.whl", (1, 1))
    assert key() == first, "a checkout made it anew, with what it had"
    write_wheel(code / "wheels", "tiny", "1.0", data=b"x")
    one = key()
    write_wheel(code / "wheels", "tiny", "1.0", data=b"y")
    assert len({first, one, key()}) == 3


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"path": "../.."}, "is outside of the workdir"),
        ({"path": "none.txt"}, "the run's code has no none.txt; is it ignored"),
        ({"path": "wheels"}, "the run's code has no requirements.txt"),
        ({"wheels": "none"}, "there is no folder of wheels none"),
        ({"run": "../x"}, "not the name of a run"),
        (
            {"path": "outside.txt"},
            r"outside\.txt, line 1: \.\./\.\./x\.txt is outside of the workdir",
        ),
        ({"path": "lacks.txt"}, r"lacks\.txt, line 2: the run's code has no my more\.txt; is it"),
    ],
)
def test_what_a_host_refuses(root: Path, wanted: dict[str, str], said: str) -> None:
    (root / "runs/one/code/outside.txt").write_text("-r ../../x.txt")
    (root / "runs/one/code/lacks.txt").write_text("tiny\n-c 'my more.txt'  # ours\n")
    with pytest.raises(Refused, match=said):
        Environments(str(root)).answer(
            {**WANTED, "run": "one", "wheels": "", "may_pip": True, **wanted}
        )


@pytest.mark.parametrize(
    ("wheels", "hint"),
    [("none", "what git ignores is not copied"), ("/none", "a whole path is that of each host")],
)
def test_wheels_that_are_missing_are_put_where_they_are_named(
    root: Path, wheels: str, hint: str
) -> None:
    with pytest.raises(Refused, match=f"there is no folder of wheels {wheels}") as refused:
        asked(Environments(str(root)), wheels=wheels)
    assert refusal("gpu1", Problem(refused.value.code, "")).hint.startswith(hint)


@needs_uv
def test_what_nobody_uses_is_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Environments(str(root))
    found = ended(host)
    key = Path(found["python"]).parts[-3]
    other = Environments(str(root))
    assert not other.remove(key), "a run is about to start with it"
    host._unlock(key)
    monkeypatch.setattr(environments.run_lock, "is_alive", lambda path: True)
    assert not other.remove(key), "a run that is alive uses it"
    (listed,) = usage.usage(str(root), lambda: None)["envs"]
    assert (listed["env"], listed["in_use"]) == (key, True)
    assert listed["bytes"] > 0
    monkeypatch.undo()
    assert usage.prune(str(root), [], [], [], False, [key, "../x"]) == ["../x"]
    assert [path.name for path in (root / "envs").iterdir()] == ["locks"]
