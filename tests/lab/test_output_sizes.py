"""Outputs of any size: memory stays flat while they come."""

from __future__ import annotations

import sys

import pytest

from lab.test_full_disks import SMALL_HERE
from lab.test_log_flood import ENOUGH, MEASURE
from support import hostile
from support import lab as labs
from support.command import Launcher


def test_memory_stays_flat_however_large_outputs_are(launcher: Launcher, clean: labs.Lab) -> None:
    words = ["--hosts", "lab1", "--framework", "env", "--", "sh", "-c"]
    script = 'head -c 400000000 /dev/urandom >"$LAUNCHER_OUTPUT_DIR/weights"'
    ran = launcher.run(*words, script, within=[sys.executable, "-c", MEASURE])
    assert ran.code == 0, ran.err
    (run,) = (launcher.home / "runs").iterdir()
    assert (run / "outputs" / "weights").stat().st_size == 400_000_000
    peak = int(ran.err.split()[-1])
    print(f"peak: {peak / 1024:.0f} MiB")
    assert peak < ENOUGH * 1024


def test_sparse_files_and_those_without_room(launcher: Launcher, clean: labs.Lab) -> None:
    """The small ones come, holes take no room here, and the one that cannot fit is named."""
    script = (
        'cd "$LAUNCHER_OUTPUT_DIR" && echo a >asmall && truncate -s 1T huge && truncate -s 20M holes'
        " && echo z >zsmall"
    )
    show = 'exec "$@"; code=$?; du -k "$LAUNCHER_HOME"/runs/*/.hosts/lab1/outputs/*; exit $code'
    within = [*SMALL_HERE]
    within[4] = within[4].replace("600k", "40m").replace('exec "$@"', show[5:])
    words = ["--hosts", "lab1", "--framework", "env", "--", "sh", "-c", script]
    process = launcher.run(*words, within=within)
    assert process.code == 74, process.err
    assert "no room here for huge (1.1 TB; " in process.err
    sizes = dict(reversed(line.split()) for line in process.out.splitlines() if "outputs/" in line)
    sizes = {name.rpartition("/")[2]: int(size) for name, size in sizes.items()}
    assert sizes.keys() == {"asmall", "holes", "zsmall"}
    assert sizes["holes"] < 100


def test_odd_outputs_cost_themselves_alone(launcher: Launcher, clean: labs.Lab) -> None:
    """A time that no record holds; a folder that rsync takes for its own."""
    script = (
        'cd "$LAUNCHER_OUTPUT_DIR" && mkdir .partial && echo 1 >.partial/a && echo 2 >late && echo 3 >b'
        " && touch -d 2400-01-01 late"
    )
    ran = launcher.run("--hosts", "lab1", "--framework", "env", "--", "sh", "-c", script)
    assert ran.code == 74, ran.err
    assert ran.receipt["outputs_failed"] == {
        "lab1": "1 in folders named .partial: rsync has its own there"
    }
    assert sorted(path.name for path in (ran.folder / "outputs").iterdir()) == ["b", "late"]
    assert "NOT brought back: 1 file, 2 B" in ran.err


#: Runs a command line that takes few values in a message.
FEW_VALUES = """
import runpy, sys
from launcher.agent.base import protocol
protocol.MAX_VALUES = 4000
sys.argv[:] = sys.argv[3:]
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""
ONE = (labs.HostSpec("lab1"),)


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_a_list_of_outputs_may_be_longer_than_a_message(own: labs.Lab, launcher: Launcher) -> None:
    """A host that lists many files is no hostile one, and its ranks go on."""
    hostile.corrupt(own.hosts["lab1"], "relay.tree.PART = 100_000")
    launcher.inventory.write_text(labs.inventory(own, hostile.PYTHON))
    script = 'cd "$LAUNCHER_OUTPUT_DIR" && seq 2000 | xargs touch'
    words = ["--framework", "env", "--", "sh", "-c", script]
    ran = launcher.run(*words, within=[sys.executable, "-c", FEW_VALUES])
    assert ran.code == 0, ran.err
    assert ran.receipt["outputs_failed"] == {}
    assert len(list((ran.folder / "outputs").iterdir())) == 2000
