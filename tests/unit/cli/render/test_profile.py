"""The table and the picture of where the time of a run went."""

from __future__ import annotations

from xml.etree import ElementTree

from launcher.cli.render.profile import MOST, profile_text, svg
from launcher.records.profile import Span, step_times

STAGES = (Span("", "connect", 0.0, 0.5), Span("", "run", 0.5, 10.0))
STEPS = (
    Span("gpu1", "connect", 0.0, 0.2),
    Span("gpu1", "ranks", 0.6, 9.5),
    Span("gpu2", "connect", 0.0, 0.5),
)


def test_a_table_of_stages_and_of_the_slowest_hosts() -> None:
    assert profile_text(STAGES, step_times(STEPS), plain=True).split("\n") == [
        "stage          took  share",
        "connect     0.500 s    5 %  ##",
        "run         9.500 s   95 %  ##############################",
        "",
        "on 2 hosts  hosts      median     longest",
        "connect         2     0.350 s     0.500 s  gpu2",
        "ranks           1     8.900 s     8.900 s",
    ]


def test_a_picture_has_a_bar_for_each_host_and_text_that_cannot_break_it() -> None:
    odd = (*STEPS, Span("<script>&", "connect", 0.0, 1.0))
    drawn = ElementTree.fromstring(svg("a & b", STAGES, odd))
    texts = ["".join(one.itertext()) for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"run", "gpu1", "gpu2", "<script>&"} <= set(texts)
    titles = ["".join(one.itertext()) for one in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert "gpu1: ranks 8.900 s" in titles


def test_of_many_hosts_the_slowest_are_drawn() -> None:
    many = tuple(Span(f"n{i}", "connect", 0.0, i / 100) for i in range(512))
    drawn = svg("many", STAGES, many)
    assert drawn.count("connect ") - 2 <= MOST
    assert f"the {MOST} slowest of 512 hosts" in drawn
    assert "n511:" in drawn
    assert "n3:" not in drawn


def test_a_run_of_no_time() -> None:
    assert ElementTree.fromstring(svg("nothing", (), ())) is not None
    assert "connect" in profile_text((Span("", "connect", 0.0, 0.0),), (), plain=True)
