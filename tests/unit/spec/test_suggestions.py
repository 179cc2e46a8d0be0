"""A suggestion is what was meant, or nothing."""

from __future__ import annotations

import pytest

from launcher.jobs.foreign_terms import command_error
from launcher.spec.errors import suggestion

OPTIONS = (
    "--lease",
    "--hosts",
    "--nodes",
    "--gpus",
    "--name",
    "--detach",
    "--framework",
    "--stall-timeout",
)
COMMANDS = ("attach", "exec", "logs", "ls", "pull", "rm", "run", "scale", "shell", "show", "stop")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--node", "--nodes"),
        ("--frameworks", "--framework"),
        ("--hsots", "--hosts"),
        ("--gpu", "--gpus"),
        ("--verbose", ""),
        ("--time", ""),
        ("--mem", ""),
        ("--conda", ""),
        ("--tag", ""),
        ("-x", ""),
    ],
)
def test_of_an_option(word: str, meant: str) -> None:
    assert suggestion(word, OPTIONS) == (f'did you mean "{meant}"?' if meant else "")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("rum", "run"), ("atach", "attach"), ("shwo", "show"), ("log", "logs"), ("exce", "exec")],
)
def test_of_a_command(word: str, meant: str) -> None:
    assert command_error(word, COMMANDS).hint == f'did you mean "{meant}"?'


@pytest.mark.parametrize("word", ["stp", "rmm", "tsop"])
def test_a_mistake_leads_to_nothing_that_ends_a_run(word: str) -> None:
    assert command_error(word, COMMANDS).hint == "launcher --help lists the commands"
