"""What ``launcher show`` says of a run besides its receipt."""

from __future__ import annotations

import click

from launcher.cli.render.run_facts import Facts, facts_lines
from launcher.records.code import Code
from launcher.spec.model import Inventory, Job, Layout, Request


def test_options_are_named_in_words_of_people() -> None:
    request = Request(Job(("train.py",)), Inventory(()), (), check=False, max_restarts=2)
    facts = Facts(request, Code(), Layout("r", ()), (), started=0.0, ended=None)
    (line,) = [one for one in map(click.unstyle, facts_lines(facts, 60.0, 80)) if "option" in one]
    assert line.split()[0] == "options"
    assert "check no" in line
    assert "max_restarts 2" in line
