"""``launcher project`` and ``--project``: what is refused before anything starts, and what is noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli.render.projects import projects_text
from launcher.runner.project_list import ProjectRun, ProjectShare

INVENTORY = """\
hosts: [h1, h2]
projects:
  team-a: {quota: 2, limit: 4, users: [u1]}
"""


def launcher(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "inventory.yaml").write_text(INVENTORY)
    (folder / "train.py").write_text("")
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "LAUNCHER_HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        cwd=folder, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--project", "team-b"), "there is no such project in inventory.yaml", "team-a"),
        (("--preemptible",), "there is no project", "--project NAME"),
        (("--project", "team-a", "--gpus", "3"), "the quota of project team-a", "--preemptible"),
        (("--project", "team-a", "--preemptible", "--gpus", "5"), "its limit is 4", "4 at most"),
    ],
)
def test_what_can_never_begin_is_refused_at_once(
    tmp_path: Path, words: tuple[str, ...], message: str, hint: str
) -> None:
    done = launcher(tmp_path, "run", "-i", "inventory.yaml", *words, "train.py")
    assert (done.returncode, message in done.stderr, hint in done.stderr) == (2, True, True), (
        done.stderr
    )
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("train-*"))


@pytest.mark.thorough
def test_the_project_of_a_user_is_one_line_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "config/launcher/config.yaml"
    assert launcher(tmp_path, "project", "set", "team-b", "-i", "inventory.yaml").returncode == 2
    assert not file.exists()
    done = launcher(tmp_path, "project", "set", "team-a", "-i", "inventory.yaml")
    assert (done.returncode, file.read_text()) == (0, "project: team-a\n"), done.stderr
    file.write_text("# mine\nproject: team-a  # of old\ngrace: 20s\n")
    refused = launcher(tmp_path, "run", "-i", "inventory.yaml", "--gpus", "3", "train.py")
    assert "the quota of project team-a" in refused.stderr
    file.write_text("# mine\nproject: gone  # of old\ngrace: 20s\n")
    for words in (("run", "train.py"), ("reserve", "--gpus", "1", "--for", "1h")):
        refused = launcher(tmp_path, *words)
        assert "project gone: there is no such project in inventory.yaml" in refused.stderr
        assert "--project none does without, whatever settings say" in refused.stderr
    done = launcher(tmp_path, "project", "set", "none")
    assert (done.returncode, file.read_text()) == (0, "# mine\ngrace: 20s\n"), done.stderr


def test_what_each_project_has() -> None:
    runs = (
        ProjectRun("firm-1", "ann", 8, ("gpu1", "gpu2")),
        ProjectRun("soft-2", "bob", 4, ("gpu3",), preemptible=True, borrows=True, counted=True),
    )
    a = ProjectShare("team-a", 8, 12, ("ann", "bob"), 300.0, 12, 4, runs, 1)
    b = ProjectShare("b", 4, None, ("eve",), 300.0, 0, 0, (), 0)
    assert projects_text((a, b), "team-a").splitlines() == [
        "   project  quota  limit  in use  borrowed  waiting  users",
        "*  team-a   8      12     12      4         1        ann,bob",
        "   b        4      -      0       0         0        eve",
        "",
        "run     project  user  gpus  hosts     note",
        "firm-1  team-a   ann   8     gpu[1-2]  -",
        "soft-2  team-a   bob   4     gpu3      borrows, its hosts cannot be asked",
        "",
        "12 GPUs in use by projects, 4 borrowed",
    ]


@pytest.mark.thorough
def test_a_quota_changes_in_the_inventory_once_it_is_agreed(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    words = ("project", "quota", "team-a", "3", "-i", "inventory.yaml")
    asked = launcher(tmp_path, *words)
    assert asked.returncode == 2 and "--yes writes it" in asked.stderr
    assert asked.stdout.splitlines()[-2:] == [
        "-  team-a: {quota: 2, limit: 4, users: [u1]}",
        "+  team-a: {quota: 3, limit: 4, users: [u1]}",
    ]
    assert file.read_text() == INVENTORY
    above = launcher(tmp_path, *words[:3], "5", *words[4:], "--yes")
    assert above.returncode == 2 and "--limit N raises it" in above.stderr
    done = launcher(tmp_path, *words, "--yes", "--limit", "8")
    assert done.returncode == 0, done.stderr
    assert "team-a: {quota: 3, limit: 8, users: [u1]}" in file.read_text()
    done = launcher(tmp_path, *words[:3], "2", "--no-limit", "--yes", "-i", "inventory.yaml")
    assert "team-a: {quota: 2, users: [u1]}" in file.read_text(), done.stderr
    for wrong in (("--limit", "1", "--yes"), ("--limit", "8", "--no-limit"), ("-1",)):
        refused = launcher(tmp_path, *words, *wrong)
        assert (refused.returncode, file.read_text()) == (2, INVENTORY), refused.stderr
