"""What the host's Python has, without importing any of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.host import modules
from launcher.spec.errors import BadAnswer
from launcher.transport.answers.environments import Missing
from launcher.transport.answers.reading import read


def test_modules_and_packages_of_a_python(tmp_path: Path) -> None:
    for name in (
        "one_two-1.0.post1.dist-info",
        "old-2.5-py3.8.egg-info",
        "nothing.dist-info",
        "x-1",
    ):
        (tmp_path / "there" / name).mkdir(parents=True)
    (tmp_path / "mine.py").touch()
    env = {"PYTHONPATH": str(tmp_path / "there")}
    found = modules.Search(["json", "mine", "not_there"], env, str(tmp_path)).result()
    assert found["missing"] == ["not_there"]
    assert {"one_two==1.0.post1", "old==2.5"} <= set(found["packages"])
    read(Missing, "gpu1", "found", found)
    assert not [one for one in found["packages"] if one.startswith(("nothing", "x="))]


@pytest.mark.parametrize("packages", [["a==1"] * 5000, ["torch==1\x1b[0m"], ["../x==1"], [3]])
def test_a_host_names_no_other_packages(packages: list[object]) -> None:
    with pytest.raises(BadAnswer, match="its answer to found"):
        read(Missing, "gpu1", "found", {"missing": [], "packages": packages})
    older = read(Missing, "gpu1", "found", {"missing": []})
    assert older.packages == ()


def test_an_environment_that_cannot_be_activated_is_told(tmp_path: Path) -> None:
    """By its last word of ours; what runs behind one that can, sees its variables."""
    (tmp_path / "mine.py").touch()
    script = 'export PYTHONPATH=$HERE; echo noise; exec "$@"'
    env = {"HERE": str(tmp_path)}
    search = modules.Search(["mine"], env, "/", ["bash", "-c", script, "prepare"])
    assert search.result()["missing"] == []
    script = "echo 'launcher: one'; echo 'launcher: modules: x cannot'; echo noise; exit 0"
    found = modules.Search(["mine"], env, "/", ["bash", "-c", script, "prepare"]).result()
    assert found["trouble"] == "modules: x cannot"
    assert read(Missing, "gpu1", "found", found).trouble == "modules: x cannot"
    assert modules.Search(["mine"], {}, "/", ["/no/bash"]).result() == {
        "missing": [],
        "packages": [],
    }
    with pytest.raises(BadAnswer, match="its answer to found"):
        read(Missing, "gpu1", "found", {**found, "trouble": "x" * (1 << 17)})
