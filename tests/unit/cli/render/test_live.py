"""The live view of a run: every size of a screen is filled, and none overflows."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest

from launcher.cli.render.live import HostView, LiveView, ScalarView, live_text, spark, state_of


def host(number: int, state: str = "8 running") -> HostView:
    return HostView(
        f"gpu{number}",
        f"{8 * number - 8}-{8 * number - 1}",
        state,
        (10.0, None, 40.0),
        120.0 + number,
        (90.0, 95.0 - number),
        61.2,
    )


def view(hosts: int, scalars: int = 3) -> LiveView:
    return LiveView(
        "calm-otter-3f9a",
        "running",
        f"12 min 05 s  {hosts} hosts, {8 * hosts} ranks",
        tuple(map(host, range(1, hosts + 1))),
        tuple(
            ScalarView(f"train/loss{n}", "rank 0", 8, 400, (3.0, 2.0, 1.0)) for n in range(scalars)
        ),
        tuple(f"gpu1 [0] │ line {n} {'long ' * 60}" for n in range(400)),
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 5, 12, 23, 60])
@pytest.mark.parametrize("hosts", [0, 1, 2, 64])
def test_it_fits(width: int, height: int, hosts: int) -> None:
    lines = [click.unstyle(line) for line in live_text(view(hosts), width, height)]
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines), lines
    assert lines[0].startswith("calm-otter-3f9a")
    if height >= 12:
        assert len(lines) == height
        assert lines[-1].startswith("gpu1 [0] │ line 399"), "the last line is at the bottom"


def test_hosts_have_lines_of_their_own_or_share_them() -> None:
    text = "\n".join(map(click.unstyle, live_text(view(2), 200, 40)))
    print(text)
    assert "gpu1   0-7    8 running   40 % ▁" in text
    assert "94 % ██" in text
    assert "train/loss0  1  step 400  rank 0 +7" in text, "a title of a plot"
    assert "3 ┤" in text and "1 ┤" in text
    assert "train/loss2  1  step 400" in text, "three beside each other"
    low = "\n".join(map(click.unstyle, live_text(view(2), 200, 15)))
    assert "train/loss0  1     400   rank 0 +7  █▅▁" in low, "no room for plots"
    held = live_text(replace(view(2), held=7), 80, 24)
    assert any("7 lines below: space goes on" in line for line in held)
    many = view(64)
    many = replace(many, hosts=(*many.hosts[:-1], host(64, "lost")))
    text = "\n".join(map(click.unstyle, live_text(many, 80, 24)))
    print(text)
    assert "gpu[1-63]  63 hosts  8 running" in text
    assert "32-94 %" in text
    assert "gpu64" in text and "lost" in text


def test_colours_are_styles_alone() -> None:
    """So that NO_COLOR leaves the same text."""
    lines = live_text(view(2), 80, 24)
    assert "\x1b[32mrunning" in lines[0]
    assert [click.unstyle(line) for line in lines if "\x1b" in line] != lines


def test_a_curve_of_any_numbers() -> None:
    assert spark((1.0, 2.0, 3.0), 3) == "▁▅█"
    assert spark((5.0, 5.0), 9) == "▄▄"
    assert spark((float("nan"), float("inf")), 9) == ""
    assert spark((-1e308, 1e308), 2) == "▄▄"
    assert len(spark(tuple(map(float, range(1000))), 40)) == 40


def test_how_processes_are() -> None:
    assert state_of({}) == "not started"
    assert state_of({None: 7, 0: 1}) == "7 running, 1 done"
    assert state_of({1: 1, -9: 2}) == "2 ended by 9, 1 exited with 1"
