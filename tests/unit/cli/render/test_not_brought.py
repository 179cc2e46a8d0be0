"""Files of a run that hosts alone have, in words."""

from __future__ import annotations

import pytest

from launcher.cli.render.not_brought import also, loss, not_brought_lines
from launcher.records.receipt import Because, NotBrought


def outside(host: str, *paths: tuple[str, int, int]) -> list[NotBrought]:
    return [NotBrought(host, *one, Because.OUTSIDE) for one in paths]


FOUND = (("checkpoints/", 1, 1_000_000), ("results.csv", 1, 3))


def test_paths_sizes_and_the_commands() -> None:
    text = "\n".join(not_brought_lines("lark-1", outside("gpu3", *FOUND), 100))
    assert (
        "2 files, 1.0 MB on gpu3\n           checkpoints/ (1 file, 1.0 MB)  results.csv (3 B)"
        in text
    )
    assert "now: launcher pull lark-1 --also checkpoints,results.csv" in text
    assert "next time: --output checkpoints  or --output auto (up to 100.0 MB of each host)" in text


@pytest.mark.parametrize("width", [80, 200])
def test_64_hosts_with_the_same_paths_are_one_line(width: int) -> None:
    left = [one for number in range(64) for one in outside(f"node{number:02d}", *FOUND)]
    lines = not_brought_lines("lark-1", left, width)
    assert len(lines) <= 7
    assert "128 files, 64.0 MB on node[00-63]" in "\n".join(lines)
    assert max(map(len, lines)) <= width


def test_names_of_hosts_do_no_harm_and_commands_can_be_pasted() -> None:
    left = outside("gpu1", ("a b,c\x1b[2J.csv", 1, 1))
    text = "\n".join(not_brought_lines("lark-1", left, 100))
    assert "\x1b" not in text
    assert also(outside("gpu1", ("a b.csv", 1, 1))) == "--also 'a b.csv'"
    assert also(outside("gpu1", *((f"f{n}", 1, 1) for n in range(9)))) == "--also '*'"


def test_missing_and_kept_files() -> None:
    left = [
        NotBrought("gpu1", "", 61, 3_000_000_000, Because.MISSING),
        NotBrought("gpu2", "", 2, 5_000, Because.KEPT),
    ]
    assert not_brought_lines("lark-1", left, 80) == [
        "outputs  NOT brought back: 61 files, 3.0 GB on gpu1: launcher pull lark-1",
        "outputs  kept on the hosts: 2 files, 5.0 kB on gpu2",
        "         now: launcher pull lark-1 DEST --only '*'",
    ]
    assert loss(left) == "63 files, 3.0 GB on gpu[1-2], never brought back"
