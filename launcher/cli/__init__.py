"""The command line: reads flags, calls :mod:`launcher.api`, prints. Nothing is decided here.

Modules that take long to import are imported by the command that needs them.
"""

from __future__ import annotations

import os
import sys

import click

from ..jobs import foreign_terms
from ..spec.errors import LauncherError
from ..spec.version import __version__
from . import output, process
from .render.hints import below_error


class _Commands(click.Group):
    """Commands by name, each in a module of its own that is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ABOUT)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ABOUT:
            return None
        from importlib import import_module

        module = import_module(f".commands.{_HOME.get(name, name)}", __name__)
        command: click.Command = getattr(module, "command", None) or getattr(
            module, f"{name}_command"
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _ABOUT and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise foreign_terms.command_error(args[0], tuple(_ABOUT))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_ABOUT.items()))


_ABOUT = {
    "run": "take a script or a job file to the hosts, follow it, bring everything back",
    "check": "look at every host and every pair of hosts, a fix beside each finding",
    "scale": "short trials on 1, 2, 4... hosts, and whether more of them pay",
    "ls": "list runs: how each stands, since when, and where",
    "attach": "go on with a run as if never gone, at the exact byte",
    "show": "show how a run stands, host by host, and what happened when",
    "logs": "show what the ranks of a run wrote",
    "pull": "bring outputs and logs back, now",
    "exec": "run a command on all hosts of a run, equal output as one",
    "shell": "open a terminal in a run's folder on one of its hosts",
    "stop": "end a run on all its hosts, with a verified receipt",
    "rerun": "run it again: same code, job and hosts",
    "rm": "forget a run, here and on its hosts",
    "inventory": "show the hosts; bring inventories of other tools in and out",
    "import": "turn a task file of SkyPilot, dstack, Polyaxon or OSMO into a job file",
    "export": "write a job as shell scripts for its hosts, or for Slurm",
    "bootstrap": "make bare hosts ready: your key, rsync, Python, an environment",
    "init": "find hosts, look at them, write an inventory",
    "sandbox": "embedded hosts on this machine, to try things: up, down, ls",
    "schema": "print the JSON Schema of an inventory or a job file, for editors",
}


#: Commands that share a module with another one.
_HOME = {"import": "import_", "stop": "attach", "shell": "exec"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="launcher")
def cli() -> None:
    """Takes a training script to GPU machines that have nothing but SSH, and back."""


def main() -> None:
    """The entry point: our errors become a message with a hint, and an exit code."""
    process.prepare()
    try:
        # Around the commands' own contexts, so that errors are told in the same manner.
        with click.Context(cli, color=_colour()):
            sys.exit(_written(_code()))
    finally:
        process.finish()


def _colour() -> bool | None:
    """What click's contexts take: False where the user wants none (https://no-color.org, which click
    does not read), None where the terminal decides."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _code() -> int:
    """Calls the command that is meant. Returns the exit code; whatever went wrong has been told."""
    try:
        # Without standalone mode click returns what ctx.exit was given.
        code = cli(standalone_mode=False, color=_colour())
        return code if isinstance(code, int) else 0
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LauncherError as error:
        complain(error)
        return error.exit_code
    except Exception as error:
        _bug(error)
        return 125


def _written(code: int) -> int:
    """Return the exit code; not 0 where the disk that our output goes to was full."""
    if why := output.lost():
        click.echo(f"error: some output could not be written: {why}", err=True)
        return code or 1
    return code


def _bug(error: Exception) -> None:
    """A line on the screen, the rest in a file."""
    import traceback

    from ..api.client import home

    place = home() / "traceback.txt"
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.write_text(traceback.format_exc())
    except OSError:
        traceback.print_exc()
    click.secho("internal error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(f"{type(error).__name__}: {error}", err=True)
    click.echo(below_error(f"a bug of launcher's: {place} says where"), err=True)


def complain(error: LauncherError) -> None:
    """One error as a person wants it: what and where, then what to do."""
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(str(error), err=True)
    if error.hint:
        click.echo(below_error(error.hint), err=True)
