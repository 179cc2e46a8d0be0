"""What a Python may know of a run that is kept for others, and for whom it fits."""

from __future__ import annotations

import pytest

from launcher.agent.supervisor.warm.rules import OfRun, hindrance, own, shared

ENV = {
    "PATH": "/w/runs/calm-otter-3f9a/bin:/usr/bin",
    "LAUNCHER_RUN_ID": "calm-otter-3f9a",
    "LAUNCHER_RUN_DIR": "/w/runs/calm-otter-3f9a",
    "LAUNCHER_HOST": "gpu1",
    "LAUNCHER_NODE_RANK": "0",
    "TMPDIR": "/w/runs/calm-otter-3f9a/outputs/tmp",
    "WANDB_NAME": "exp-calm-otter-3f9a",
    "TOKEN": "hush",
    "OMP_NUM_THREADS": "2",
    "RANK": "3",
}
PLACE = "/w/warm/0123"
ARGV = ["/usr/bin/python3", "train.py", "--lr", "0.1"]


def test_it_gets_what_other_runs_have_as_well() -> None:
    run = OfRun(ENV, ["TOKEN"], PLACE)
    assert shared(ENV, run) == {"PATH": f"{PLACE}/bin:/usr/bin", "OMP_NUM_THREADS": "2"}
    assert own(ENV, run).keys() == ENV.keys() - {"PATH", "OMP_NUM_THREADS"}
    assert shared(ENV, None) == {name: ENV[name] for name in ENV if name != "RANK"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"TOKEN": "other", "RANK": "0", "LAUNCHER_NODE_RANK": "1", "LAUNCHER_HOST": "a"}, None),
        ({"OMP_NUM_THREADS": "4"}, ("other-variable", "OMP_NUM_THREADS")),
        ({"PATH": "/opt/bin:/usr/bin"}, ("other-variable", "PATH")),
        # Python reads it before anybody could watch.
        ({"PYTHONPATH": "/w/runs/vivid-lynx-1c2d/lib"}, ("other-variable", "PYTHONPATH")),
    ],
)
def test_for_whom_it_fits(change: dict[str, str], why: tuple[str, str] | None) -> None:
    kept = shared(ENV, OfRun(ENV, ["TOKEN"], PLACE))
    moved = {
        name: value.replace("calm-otter-3f9a", "vivid-lynx-1c2d") for name, value in ENV.items()
    }
    env = {**moved, **change}
    other = ["/usr/bin/python3", "train.py", "--lr", "0.2"]
    assert hindrance(ARGV, kept, other, env, None, OfRun(env, ["TOKEN"], PLACE)) == why


def test_a_short_name_of_a_run_is_not_looked_for_inside_of_values() -> None:
    env = {
        "LAUNCHER_RUN_ID": "lib",
        "LAUNCHER_RUN_DIR": "/w/runs/lib",
        "CUDA_HOME": "/opt/lib/cuda",
    }
    assert shared(env, OfRun(env, [], PLACE)) == {"CUDA_HOME": "/opt/lib/cuda"}
