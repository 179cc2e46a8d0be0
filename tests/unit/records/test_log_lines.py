"""Lines are whole however the bytes of logs are cut."""

from __future__ import annotations

import pytest

from launcher.records.log_lines import LONGEST, LineCutter

TEXT = "loss 1\r\nb\u00fccher\n\n10%\r20%\r\nend\r"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_pieces_may_end_anywhere(size: int) -> None:
    data, cutter = TEXT.encode(), LineCutter()
    found = []
    for start in range(0, len(data), size):
        for host in ("a", "b"):
            found += cutter.feed(host, "attempt-0/rank-0.out", data[start : start + size])
    found += cutter.end()
    for host in ("a", "b"):
        texts = [str(line) for line in found if line.host == host]
        assert texts == ["loss 1", "b\u00fccher", "", "20%", "end"]
    assert cutter.end() == []


def test_a_line_knows_its_rank() -> None:
    cutter = LineCutter()
    names = ("attempt-1/rank-12.err", "attempt-0/node-0.out", "setup.out")
    ranks = [cutter.feed("a", name, b"x\n")[0].rank for name in names]
    assert ranks == [12, None, None]


def test_a_line_without_an_end_comes_in_parts() -> None:
    """Binary output would otherwise fill the memory."""
    cutter = LineCutter()
    (part,) = cutter.feed("a", "rank-0.out", b"x" * (LONGEST + 2))
    assert len(part.text) == LONGEST
    assert [line.text for line in cutter.end()] == ["xx"]


def test_a_progress_bar_that_goes_on_for_days_is_kept_short() -> None:
    cutter = LineCutter()
    bar = b"".join(b"\r%6d" % number for number in range(LONGEST // 7 + 10))
    assert cutter.feed("a", "rank-0.out", bar) == []
    assert [line.text.strip() for line in cutter.end()] == [str(LONGEST // 7 + 9)]
