"""What a cell of a notebook asks for, and how its output is shown; tests/frameworks has the real IPython."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import LogPiece
from launcher.integrations import notebook


def test_lines_are_whole_and_harmless() -> None:
    pieces = [
        LogPiece("a", "attempt-0/rank-0.out", b"loss 1\nlo"),
        LogPiece("b", "attempt-0/rank-1.err", b"\x1b[2Jevil\x07\n10%\r20%\n"),
        LogPiece("a", "attempt-0/rank-0.out", b"ss 2\nend"),
    ]
    assert list(notebook.lines_of(pieces)) == [
        "a [0] loss 1",
        "b [1] [2Jevil",
        "b [1] 20%",
        "a [0] loss 2",
        "a [0] end",
    ]


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
