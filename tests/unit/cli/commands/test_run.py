"""`launcher run` as a user types it: bad input, and the plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Launcher

INVENTORY = """\
defaults: {gpus: 4}
hosts:
  gpu[01-02]:
  big: {gpus: 8}
groups: {small: "gpu[01-02]"}
"""


@pytest.fixture
def offline(tmp_path: Path) -> Launcher:
    """The command with an inventory of hosts that nothing may try to reach."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text("print('never')\n")
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(INVENTORY)
    return Launcher(inventory, work, tmp_path / "home")


FILES = {
    "unknown key": ("run: train.py\nnodes: 2\n", 'job.yaml:2: unknown key "nodes"', "num_nodes"),
    "wrong type": ("run: train.py\nnum_nodes: two\n", "job.yaml:2: num_nodes: not a number of hosts: 'two'", ""),
    "not YAML": ("run: [train.py\n", "job.yaml:2: not YAML", ""),
    "missing script": ("run: trian.py\n", "there is no trian.py", 'did you mean "train.py"?'),
    "more GPUs than there are": (
        "run: train.py\nresources: {gpus: 17}\n", "gpus: 17", "--gpus 16 would fit"),
    "more hosts than there are": (
        "run: train.py\nnum_nodes: 4\n", "--nodes 4: there are only 3 hosts", "inventory with -i"),
    "no such host": ("run: train.py\nhosts: gpu3\n", 'no host "gpu3"', "hosts: big,gpu[01-02]"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", FILES)
def test_a_bad_job_file(offline: Launcher, case: str) -> None:
    """Exit 2, the place, what was expected; no run and no host was touched."""
    text, error, hint = FILES[case]
    (offline.work / "job.yaml").write_text(text)
    flags = ["--dry-run"] if case == "more GPUs than there are" else []
    ran = offline.run(*flags, "job.yaml", timeout=20)
    assert ran.code == 2, ran.err
    assert error in ran.err
    assert hint in ran.err
    assert "Traceback" not in ran.err
    assert not (offline.home / "runs").exists()


INVENTORIES = {
    "unknown key": ("hosts:\n  gpu1: {gpu: 8}\n", 'lab.yaml:2: unknown key "gpu"', "gpus"),
    "duplicate host": ("hosts: ['gpu[1-2]', gpu2]\n", "lab.yaml:1:", ""),
    "empty nodeset": ("hosts: ['']\n", "lab.yaml:1: an empty nodeset", "gpu[01-08,12]"),
    "not YAML": ("hosts: {\n", "lab.yaml:", ""),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", INVENTORIES)
def test_a_bad_inventory(offline: Launcher, case: str) -> None:
    text, error, hint = INVENTORIES[case]
    offline.inventory.write_text(text)
    ran = offline.run("train.py", timeout=20)
    assert ran.code == 2, ran.err
    assert error in ran.err
    assert hint in ran.err


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--grace", "soon"], "--grace: not a duration"),
        (["--master-port", "x"], "--master-port: not a port"),
        (["--ranks", "a-b"], "--ranks: not a set of ranks"),
        (["--env", "1x=2"], "--env 1x=2: '1x' cannot be the name of a variable"),
        (["--env", "NOT_SET_HERE"], "--env NOT_SET_HERE: it is not set here"),
        (["--secret", "NOT_SET_HERE"], "secret NOT_SET_HERE is not set in your environment"),
        (["--framework", "torchrn"], 'unknown framework "torchrn"'),
        (["--hosts", "small,bgi"], 'no host "bgi"'),
        (["--nodes", "0"], "--nodes"),
    ],
)
def test_a_bad_flag(offline: Launcher, flags: list[str], error: str) -> None:
    ran = offline.run(*flags, "train.py", timeout=20)
    assert ran.code == 2, ran.err
    assert error in ran.err


def test_the_plan_as_text_and_as_json(offline: Launcher) -> None:
    """Unequal hosts; nothing secret in it; no host touched."""
    flags = [
        "--dry-run",
        "--gpus",
        "12",
        "--secret",
        "TOKEN",
        "-e",
        "A=it's",
        "train.py",
        "--lr",
        "1",
    ]
    offline.env["TOKEN"] = "hunter2"
    shown = offline.run(*flags)
    assert shown.code == 0, shown.err
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["big", "1", "4-11", "0,1,2,3,4,5,6,7", "python3"] in rows
    assert ["gpu01", "0", "0-3", "0,1,2,3", "python3"] in rows
    assert "2 hosts, 12 ranks, framework torchrun" in shown.out
    assert "A='it'\"'\"'s'" in shown.out
    assert ["resources", "flag", "gpus", "12"] in rows
    assert not [row for row in rows if row[1:2] == ["default"]]  # they are only counted
    as_json = offline.run(*flags[:1], "--json", *flags[1:])
    plan = json.loads(as_json.out)
    assert [node["ranks"] for node in plan["nodes"]] == [[*range(4)], [*range(4, 12)]]
    assert plan["nodes"][1]["processes"][0]["argv"][:3] == [
        "python3",
        "-m",
        "torch.distributed.run",
    ]
    assert "hunter2" not in shown.out + as_json.out
    assert not (offline.home / "runs").exists()


#: `launcher ls` with a bug in what it calls.
BUG = """
from launcher.api.client import Client
from launcher.cli import main
Client.list = lambda self: None + 1
main()
"""


def test_a_bug_of_ours_is_one_line_and_a_file(offline: Launcher) -> None:
    argv = [sys.executable, "-c", BUG, "ls"]
    ran = subprocess.run(
        argv, env=offline.environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 125
    assert len(ran.stderr.splitlines()) == 2
    assert ran.stderr.startswith("internal error: TypeError: ")
    assert "Traceback" in (offline.home / "traceback.txt").read_text()


#: Python text that makes the folder of this user, as a run does.
FOLDER = "from launcher.records.run_folder import RunFolder; RunFolder.create().close()"


@pytest.mark.parametrize("maker", [FOLDER, BUG], ids=["a run", "a bug"])
def test_our_folder_and_what_is_in_it_are_private(offline: Launcher, maker: str) -> None:
    """Whoever makes it, with any umask."""
    _with_umask_0(offline, maker)
    found = [offline.home, *offline.home.rglob("*")]
    assert len(found) > 1
    assert not [path for path in found if path.stat().st_mode & 0o077]


def test_a_traceback_is_written_through_no_link(offline: Launcher) -> None:
    victim = offline.work / "victim"
    victim.write_text("mine")
    offline.home.mkdir(mode=0o700)
    (offline.home / "traceback.txt").symlink_to(victim)
    _with_umask_0(offline, BUG)
    assert victim.read_text() == "mine"
    assert "Traceback" in (offline.home / "traceback.txt").read_text()


def _with_umask_0(user: Launcher, program: str) -> None:
    subprocess.run(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", sys.executable, "-c", program, "ls"],
        cwd=user.work, env=user.environment(), capture_output=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train.py", "--gpus", "1"), "launcher run --gpus 1 train.py"),
        (("train.py", "--lr", "1", "--hosts=gpu01"), "launcher run --hosts=gpu01 train.py"),
        (("train.py", "--dry-run", "x"), "launcher run --dry-run train.py"),
        (("train.py", "--name", "x", "--output", "y"), ""),
    ],
)
def test_options_behind_the_script_are_noticed(
    offline: Launcher, words: tuple[str, ...], said: str
) -> None:
    """The script gets them, as it may well expect."""
    ran = offline.run("--dry-run", *words)
    assert ran.code == 0, ran.err
    assert ("goes to train.py; for launcher write " + said in ran.err) if said else not ran.err
    assert words[1] in ran.out
