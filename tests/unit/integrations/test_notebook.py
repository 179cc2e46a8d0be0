"""What a cell of a notebook asks for, and how its output is shown; tests/frameworks has the real IPython."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import launcher
from launcher import LogLine
from launcher.integrations import notebook


def test_lines_say_who_wrote_them_and_are_harmless() -> None:
    lines = [
        LogLine("a", "attempt-0/rank-0.out", "loss\t1"),
        LogLine("b", "attempt-0/node-1.err", "\x1b[2Jevil\x07"),
    ]
    assert [notebook.shown(line) for line in lines] == ["a [0] loss\t1", "b [node-1] [2Jevil"]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--nodez 2", "unrecognized arguments: --nodez", "usage: %%launcher"),
        ("--nodes two", "not a number of hosts: 'two'", ""),
        ("-i lab.yaml --gpus A100:", "'A100:' is no number of GPUs", ""),
        ("-i lab.yaml --wait soon", "wait: ", ""),
        ("-i lab.yaml --wait 1h --no-wait", "contradict each other", "leave one out"),
        ("-i none.yaml", "none.yaml: No such file", "launcher init"),
        ("-i lab.yaml --framework rey", 'unknown framework "rey"', 'did you mean "ray"?'),
    ],
)
def test_a_wrong_line_is_one_message(
    line: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.yaml").write_text("hosts: [a]\n")
    with pytest.raises(notebook.CellFailed) as caught:
        notebook.run_cell(line, "print(1)")
    (shown,) = caught.value._render_traceback_()
    assert message in shown
    assert hint in shown


@pytest.mark.parametrize(
    ("line", "job", "options"),
    [
        ("--gpus A100:4", {"gpus": 4, "gpu_model": "A100"}, {"wait": None}),
        ("-N 1:2 --no-wait", {"elastic": 1, "num_nodes": 2}, {"wait": 0.0}),
        ("--gpus 0 --nproc-per-node 2", {"gpus": 0, "nproc_per_node": 2}, {"wait": 0.0}),
        (
            "--wait 2h --time 8h --priority high --project p",
            {"name": "cell"},
            {"wait": 7200.0, "time_limit": 28800.0, "priority": 1, "project": "p"},
        ),
    ],
)
def test_flags_mean_what_they_mean_for_launcher_run(
    line: str,
    job: dict[str, object],
    options: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is a fake, which notes what it is asked for; the inventory is found in a folder above."""
    (tmp_path / "inventory.yaml").write_text("hosts: [a]\n")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    monkeypatch.delenv("LAUNCHER_INVENTORY", raising=False)
    asked: dict[str, Any] = {}

    class Fake(launcher.Client):
        def run(self, job: Any, **given: Any) -> Any:
            asked.update(given, job=job, inventory=self.inventory.source)
            raise launcher.LauncherError("enough")

    monkeypatch.setattr(launcher, "Client", Fake, raising=False)
    with pytest.raises(notebook.CellFailed, match="enough"):
        notebook.run_cell(line, "print(1)")
    made = {**vars(asked["job"]), **vars(asked["job"].resources)}
    assert {name: made[name] for name in job} == job
    assert {name: asked[name] for name in options} == options
    assert asked["inventory"] == "../inventory.yaml"
