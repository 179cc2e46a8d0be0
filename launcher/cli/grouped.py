"""Help with options in groups, with examples, and with whole sentences about commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

#: Where options stand that no group names.
OTHERS = "Also"
#: What click adds to a number: the error says it, too.
_RANGE = re.compile(r"\s*\[x[<>]=?\d+\]\Z")


class GroupedCommand(click.Command):
    """A command whose help lists its options in ``groups``, by the names of their parameters, and ends
    with ``examples``."""

    def __init__(
        self,
        *args: Any,
        groups: Mapping[str, Sequence[str]] | None = None,
        examples: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.groups, self.examples = groups or {}, examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each group under its title."""
        shown = {
            str(param.name): (record[0], _RANGE.sub("", record[1]))
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx))
        }
        for title, names in self.groups.items():
            with formatter.section(title):
                formatter.write_dl([shown.pop(name) for name in names if name in shown])
        if shown:
            with formatter.section(OTHERS if self.groups else "Options"):
                formatter.write_dl(list(shown.values()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class CommandGroup(click.Group):
    """A group whose help says of each command its whole first sentence, which click would cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, each with what it does."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(1000))
                    for name, command in commands
                    if not command.hidden
                ]
            )
