"""Help as people read it: options in groups, and examples that can be typed."""

from __future__ import annotations

import shlex
from collections import Counter

import click
import pytest

from launcher.cli import cli
from launcher.cli.grouped import GroupedCommand
from launcher.jobs import foreign_terms


def _grouped() -> dict[str, GroupedCommand]:
    context = click.Context(cli, info_name="launcher")
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: one for name, one in found.items() if isinstance(one, GroupedCommand)}


COMMANDS = _grouped()


def test_every_option_of_run_is_in_one_group() -> None:
    run = COMMANDS["run"]
    named = Counter(name for names in run.groups.values() for name in names)
    options = [one for one in run.params if isinstance(one, click.Option) and not one.hidden]
    assert named == Counter(str(option.name) for option in options)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_fits_a_terminal_and_its_examples_are_commands(name: str) -> None:
    command = COMMANDS[name]
    context = click.Context(command, info_name=f"launcher {name}", terminal_width=80)
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80
    assert "[x>=" not in text
    for example in command.examples:
        assert f"\n  {example}\n" in f"{text}\n"
        words = shlex.split(example.partition("   ")[0])
        assert words[:2] == ["launcher", name]
        command.make_context(name, words[2:], resilient_parsing=True)


def test_no_command_of_launcher_is_taken_for_one_of_other_tools() -> None:
    context = click.Context(cli, info_name="launcher")
    there = [name for name in foreign_terms.COMMANDS if cli.get_command(context, name)]
    assert there == []


def test_du_is_another_name_of_df() -> None:
    """People type either; lists have one of them."""
    context = click.Context(cli, info_name="launcher")
    assert cli.get_command(context, "du") is cli.get_command(context, "df")
    assert cli.resolve_command(context, ["du", "--json"])[0] == "df"
    assert "du" not in cli.list_commands(context)


def test_a_group_says_of_its_commands_all_that_they_do() -> None:
    """click cuts a sentence that does not fit beside the name."""
    context = click.Context(cli, info_name="launcher")
    for name in cli.list_commands(context):
        group = cli.get_command(context, name)
        if isinstance(group, click.Group):
            text = group.get_help(click.Context(group, info_name=name, terminal_width=80))
            words = " ".join(text.split())
            for command in group.commands.values():
                assert f" {command.get_short_help_str(1000)}" in words
            assert max(map(len, text.splitlines())) <= 80
