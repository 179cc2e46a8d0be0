"""What a cell of a notebook asks for, and how its output is shown; tests/frameworks has the real IPython."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        ("--nodes two", "invalid int value: 'two'", "usage: %%launcher"),
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
