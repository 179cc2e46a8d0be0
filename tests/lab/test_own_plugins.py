"""The example of a package with plug-ins, installed by pip as anybody would, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT
from support.command import Launcher

EXAMPLE = ROOT / "examples" / "plugin"


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Launcher]:
    """Two embedded hosts, and the example in a folder of its own beside launcher."""
    shutil.copytree(EXAMPLE, tmp_path / "source")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Nothing is downloaded: setuptools is in the environment of the tests.
    alone = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, *alone, "./source"], cwd=tmp_path, check=True, capture_output=True)
    work = tmp_path / "work"
    work.mkdir()
    inventory = work / "inventory.yaml"
    inventory.write_text("sandbox: true\nhosts: ['local[1-2]']\n")
    path = os.pathsep.join([str(ROOT), str(site)])
    command = Launcher(inventory, work, tmp_path / "home", {"PYTHONPATH": path})
    assert command.call("sandbox", "up", "2").returncode == 0
    yield command
    assert command.call("sandbox", "down").returncode == 0


def test_each_plug_in_is_used_and_a_broken_one_breaks_nothing_else(user: Launcher) -> None:
    (user.work / "show.py").write_text("import os\nprint('seed', os.environ['SEED'])\n")
    words = ("--framework", "seeded", "--nodes", "2", "--nproc-per-node", "1", "show.py")
    ran = user.run("--notify", f"append:{user.work}/news", *words)
    assert ran.code == 0, ran.err
    assert sorted(line.split("seed ")[1] for line in ran.out.splitlines() if "seed " in line) == [
        "1000",
        "1001",
    ]
    assert (user.work / "news").read_text() == f"ended: {ran.folder.name} succeeded\n"
    (user.work / "task.recipe").write_text("name: demo\nnodes: 2\ncommand: ./train.sh\n")
    imported = user.call("import", "recipe", "task.recipe")
    assert "num_nodes: 2\n" in imported.stdout, imported.stderr
    (user.work / "hosts.csv").write_text("host,address,gpus\ngpu1,10.0.0.1,8\n")
    listed = user.call("inventory", "ls", "-i", "hosts.csv", "--json")
    assert json.loads(listed.stdout)["hosts"][0]["address"] == "10.0.0.1", listed.stderr

    package = user.home.parent / "site" / "launcher_example"
    for module in ("framework", "check"):
        (package / f"{module}.py").write_text("import not_installed_anywhere\n")
    refused = user.run(*words)
    assert refused.code == 2
    assert refused.err.startswith(
        'error: framework plug-in "seeded" of launcher-example 1.0 cannot be used: ModuleNotFoundError'
    )
    whole = user.call("ls")
    assert (whole.returncode, whole.stderr) == (0, "")
    checked = user.call("check", "-i", str(user.inventory), "--no-pairs", "--json")
    findings = {one["code"]: one for one in json.loads(checked.stdout)["findings"]}
    assert "of launcher-example 1.0 cannot be used" in findings["PLUGIN-BROKEN"]["evidence"]
    assert findings["PLUGIN-BROKEN"]["hosts"] == ["local1", "local2"]
