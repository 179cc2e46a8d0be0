"""Settings as a user meets them: what wins, where it is from, and what is asked once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.api import settings
from support.command import Launcher


@pytest.fixture
def offline(tmp_path: Path) -> Launcher:
    """The command in a folder of a project, with an inventory of hosts that nothing may reach."""
    work = tmp_path / "project" / "inside"
    work.mkdir(parents=True)
    (work / "train.py").write_text("print('never')\n")
    inventory = tmp_path / "lab.yaml"
    inventory.write_text("hosts: ['gpu[1-4]']\n")
    return Launcher(inventory, work, tmp_path / "home")


def _user(offline: Launcher, text: str) -> None:
    file = offline.home / "config" / "launcher" / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _project(offline: Launcher, text: str) -> Path:
    file = offline.work.parent / ".launcher.yaml"
    file.write_text(text)
    return file


def _job(offline: Launcher, *words: str) -> dict[str, Any]:
    ran = offline.run("--dry-run", "--json", *words)
    assert ran.code == 0, ran.err
    value: dict[str, Any] = json.loads(ran.out)["job"]
    return value


@pytest.mark.thorough
def test_a_flag_wins_over_the_job_file_over_the_project_over_the_user(offline: Launcher) -> None:
    _user(
        offline, "grace: 1s\nframework: env\nhosts: gpu1\nnum_nodes: 1\nenvs: {A: user, B: user}\n"
    )
    _project(offline, "framework: torch\nhosts: gpu2\nnum_nodes: 1\nenvs: {B: project}\n")
    (offline.work / "job.yaml").write_text("run: train.py\nhosts: gpu3\nenvs: {C: job}\n")
    job = _job(offline, "-N", "2", "--hosts", "gpu[3-4]", "job.yaml")
    assert (job["grace"], job["framework"], job["hosts"]) == (1.0, "torch", "gpu[3-4]")
    assert job["num_nodes"] == 2
    assert job["envs"] == {"A": "user", "B": "project", "C": "job"}
    assert (job["sources"]["grace"], job["sources"]["framework"]) == ("user", "project")
    assert _job(offline, "job.yaml")["hosts"] == "gpu3"
    assert _job(offline, "train.py")["hosts"] == "gpu2"


def test_each_value_is_shown_with_its_file_and_line(offline: Launcher) -> None:
    _user(offline, "# mine\ngrace: 1s\nenvs: {A: 1}\n")
    _project(offline, "grace: 2s\nenvs: {B: 2}\n")
    offline.env["LAUNCHER_HOSTS"] = "gpu1"
    told = offline.call("config")
    assert told.returncode == 0, told.stderr
    rows = {tuple(line.split()) for line in told.stdout.splitlines()}
    project = str(offline.work.parent / ".launcher.yaml")
    mine = str(offline.home / "config" / "launcher" / "config.yaml")
    assert ("grace", "2s", f"{project}:1") in rows
    assert ("grace", "1s", f"{mine}:2") in rows
    assert ("envs", "B=2", f"{project}:2") in rows
    assert ("hosts", "gpu1", "LAUNCHER_HOSTS") in rows
    assert ("pull_every", "30s", "default") in rows
    found = json.loads(offline.call("config", "--json").stdout)
    assert found["files"] == {"user": mine, "project": project}
    graces = [one for one in found["settings"] if one["key"] == "grace"]
    assert [(one["value"], one["line"], one["overridden"]) for one in graces] == [
        ("2s", 1, False),
        ("1s", 2, True),
        ("10s", None, True),
    ]


def test_a_bad_key_names_file_and_line(offline: Launcher) -> None:
    _project(offline, "grace: 2s\npull_evry: 1h\n")
    for words in (["config"], ["run", "-i", str(offline.inventory), "--dry-run", "train.py"]):
        told = offline.call(*words)
        assert told.returncode == 2
        assert '.launcher.yaml:2: unknown key "pull_evry" in settings' in told.stderr
        assert 'did you mean "pull_every"?' in told.stderr


@pytest.mark.thorough
def test_settings_name_the_inventory(offline: Launcher) -> None:
    _user(offline, f"inventory: {offline.inventory}\n")
    assert offline.call("run", "--dry-run", "train.py").returncode == 0
    assert "gpu[1-4]" in offline.call("inventory", "ls").stdout
    (offline.work / "lab.yaml").write_text("hosts: [other]\n")
    _project(offline, "inventory: inside/lab.yaml\n")
    assert "other" in offline.call("inventory", "ls").stdout
    (offline.work / "job.yaml").write_text(f"run: train.py\ninventory: {offline.inventory}\n")
    told = offline.call("run", "--dry-run", "job.yaml")
    assert "gpu1" in told.stdout, told.stderr


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text",
    [
        "notify: touch SURPRISE",
        "prepare: touch SURPRISE",
        "secrets: [HOME]",
        "raw: true",
        "python: x",
        "envs: {LD_PRELOAD: x}",
    ],
)
def test_a_project_that_came_with_a_clone_has_no_surprises(offline: Launcher, text: str) -> None:
    """Nothing takes effect before its user has allowed just these lines, once."""
    file = _project(offline, f"grace: 1s\n{text}\n")
    ran = offline.run("--hosts", "gpu1", "train.py")
    assert ran.code == 2, ran.err
    assert (
        f".launcher.yaml:2 wants a say in what runs, and you have not allowed it: {text}" in ran.err
    )
    assert "launcher config allow" in ran.err
    assert not (offline.home / "runs").exists()
    assert offline.run("--dry-run", "train.py").code == 0, "a plan starts nothing"
    allowed = offline.call("config", "allow")
    assert (allowed.returncode, text in allowed.stderr) == (0, True), allowed.stderr
    lines = [settings.Line(str(file), 2, text)]
    assert _are_allowed(offline, lines)
    assert not _are_allowed(offline, [settings.Line(str(file), 2, text + "2")])


def _are_allowed(offline: Launcher, lines: list[settings.Line]) -> bool:
    before = os.environ.get("LAUNCHER_HOME")
    os.environ["LAUNCHER_HOME"] = str(offline.home)
    try:
        return settings.are_allowed(lines)
    finally:
        os.environ.pop("LAUNCHER_HOME")
        if before is not None:
            os.environ["LAUNCHER_HOME"] = before


@pytest.mark.thorough
def test_a_command_in_a_job_file_runs_here_only_if_it_was_allowed(offline: Launcher) -> None:
    (offline.work / "job.yaml").write_text("run: train.py\nprepare: x\nnotify: touch SURPRISE\n")
    ran = offline.run("job.yaml")
    assert ran.code == 2
    assert "job.yaml:3 wants a say" in ran.err
    assert "launcher config allow job.yaml" in ran.err
    _user(offline, "notify: 'true'\nprepare: x\n")
    (offline.work / "job.yaml").write_text("run: trian.py\nnotify: desktop\n")
    assert "there is no trian.py" in offline.run("job.yaml").err, (
        "mine and the desktop are no question"
    )


def test_settings_of_a_project_copy_no_other_folder(offline: Launcher) -> None:
    """An inventory may come with a clone, too: its hosts would get the home folder."""
    _project(offline, "workdir: ~/data\n")
    ran = offline.run("--dry-run", "train.py")
    assert ran.code == 2
    assert ".launcher.yaml:1: workdir: ~/data is outside of" in ran.err
    _project(offline, "workdir: inside\n")
    assert _job(offline, "train.py")["workdir"] == str(offline.work)


def test_settings_of_another_user_are_not_read(
    offline: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _project(offline, "grace: 1s\n")
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(offline.home))
    if file.stat().st_uid == 0:
        os.chown(file, 12345, 12345)
    (found,) = settings.found(offline.work)
    assert (found.others, found.settings) == (True, {})


@pytest.mark.thorough
def test_a_project_says_them_in_its_pyproject(offline: Launcher) -> None:
    """By the same rules: what is delicate is asked about, and one of two places has them."""
    file = offline.work.parent / "pyproject.toml"
    file.write_text('[tool.launcher]\nhosts = "gpu2"\ngrace = "7s"\n')
    assert _job(offline, "train.py")["hosts"] == "gpu2"
    shown = json.loads(offline.call("config", "--json").stdout)
    assert shown["files"]["project"] == str(file)
    grace = next(row for row in shown["settings"] if row["key"] == "grace")
    assert (grace["value"], grace["origin"]) == ("7s", f"{file}:3")
    file.write_text(file.read_text() + 'setup = """\ncurl x | sh\n"""\n')
    refused = offline.run("train.py")
    assert refused.code == 2
    assert f"{file}:4 wants a say in what runs" in refused.err
    assert "launcher config allow\n" in refused.err
    assert offline.call("config", "allow").returncode == 0
    text = 'setup = "curl x | sh\\n"'
    assert _are_allowed(offline, [settings.Line(str(file), 4, text)])
    assert not _are_allowed(offline, [settings.Line(str(file), 4, text.replace("x", "y"))])
    _project(offline, "grace: 1s\n")
    both = offline.run("--dry-run", "train.py")
    assert both.code == 2
    assert "are both settings of this project" in both.err
