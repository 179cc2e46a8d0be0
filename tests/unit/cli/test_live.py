"""The live view while somebody scrolls in its output."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from launcher.cli.live import _Watched
from launcher.records.run_reader import LogPiece
from launcher.records.state import RunState


class Reader:
    def __init__(self, text: str) -> None:
        self._data = text.encode()

    def skip_to_tail(self, lines: int) -> None: ...

    def new_logs(self) -> list[LogPiece]:
        data, self._data = self._data, b""
        return [LogPiece("gpu1", "attempt-0/rank-0.out", data)] if data else []


def watched(folder: Path, lines: int) -> _Watched:
    reader = Reader("".join(f"line {number}\n" for number in range(1, lines + 1)))
    layout = SimpleNamespace(nodes=(), num_nodes=1, world_size=1, wanted=0)
    run: Any = SimpleNamespace(
        reader=lambda: reader,
        folder=folder,
        layout=layout,
        state=RunState,
        name="calm-otter-3f9a",
        started=0.0,
    )
    view = _Watched(run, None)
    view.look()
    return view


def output(view: _Watched, height: int) -> list[str]:
    shown = map(click.unstyle, view.text(0.0, 80, height))
    return [line.partition("│ ")[2] for line in shown if "│ " in line]


def test_scrolling_ends_where_the_first_line_is_on_top(tmp_path: Path) -> None:
    view = watched(tmp_path, 30)
    assert output(view, 12) == [f"line {number}" for number in range(21, 31)]
    for key in "bbbbb":
        assert view.scroll(key)
        assert len(output(view, 12)) == 9, "and how many are below"
    assert output(view, 12) == [f"line {number}" for number in range(1, 10)]
    view.scroll("j")
    assert output(view, 12)[-1] == "line 10", "what was too much does not count"
    assert len(output(view, 20)) == 17, "the screen has become higher"
    assert len(output(view, 40)) == 30, "all of them are seen"
    assert not view.scroll("f"), "so none is below"


def test_output_that_fits_does_not_scroll(tmp_path: Path) -> None:
    view = watched(tmp_path, 3)
    assert len(output(view, 12)) == 3
    view.scroll("k")
    assert len(output(view, 12)) == 3
    assert not any("below" in line for line in view.text(0.0, 80, 12))
