"""The command line: parse flags, call :mod:`launcher.api`, print. It decides nothing.

Slow modules are imported by the commands that need them.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import sys

import click

from ..jobs import foreign_terms
from ..records.reasons import EndReason
from ..spec.errors import (
    HostError,
    InputError,
    LauncherError,
    RecordError,
    in_words,
    suggestion,
)
from ..spec.home import is_at_home
from ..spec.version import __version__
from . import output, process

#: The folder is full, read-only, somebody else's, or no folder.
_UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EEXIST, errno.ELOOP),
)
_UNKNOWN_COMMAND = re.compile(r"No such command '([^']*)'")


class _Commands(click.Group):
    """Commands by name. A command's module is imported when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ABOUT)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = _ALIASES.get(name, name)
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
        args[0] = _ALIASES.get(args[0], args[0])
        if args[0] not in _ABOUT and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise foreign_terms.command_error(args[0], tuple(_ABOUT))
        if args[0] == "run" and (words := foreign_terms.as_sweep(args[1:])):
            args[:] = ["sweep", "run", *words]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_ABOUT.items()))


_ABOUT = {
    "run": "run a script or a job file on the hosts; bring everything back",
    "check": "check every host and pair of hosts, with a fix for each finding",
    "sweep": "run a job with many values, and compare the results",
    "scale": "try a job on 1, 2, 4... hosts, and recommend how many to use",
    "gpus": "show the GPUs of all hosts: which are free, who uses the others, since when",
    "top": "show what all GPUs do, who holds them and who waits, as it changes",
    "queue": "show who holds GPUs and who waits for them; move a waiting run",
    "project": "show what each project has and may have; choose yours",
    "warm": "show which Pythons hosts keep for your next run, or end them",
    "reserve": "hold GPUs for work by hand, until a time that everybody sees",
    "up": "keep a Dask or Ray cluster over hosts until launcher stop",
    "ls": "list runs: status, when, how long, commit, command",
    "console": "show the runs of this machine in a browser",
    "tensorboard": "start TensorBoard over the outputs of runs, for you alone",
    "wandb": "hand what runs recorded offline to Weights & Biases, from here",
    "mlflow": "hand what runs recorded to an MLflow server, from here",
    "attach": "follow a running run again, from where you left off",
    "follow": "keep all runs of this machine followed, also across logouts",
    "show": "show a run: status, host by host, what was run, and its timeline",
    "metrics": "show how busy the hosts and GPUs of a run were",
    "tag": "tag a run, or write a note about it",
    "diff": "show what differs between two runs: arguments, code, hosts, result",
    "logs": "show what the ranks of a run wrote",
    "pull": "bring outputs and logs back now",
    "exec": "run a command on hosts, of a run or not; equal output is shown once",
    "shell": "open a terminal in a run's folder on one of its hosts",
    "push": "copy a folder of data to hosts; only changes travel",
    "data": "data sets by name: add, push, show, verify, pin, rm, prune",
    "credential": "credentials for object stores by name: set, ls, rm",
    "image": "images on hosts: which they have; build one, bring one, remove one",
    "forward": "forward a port of this machine to a run's host: TensorBoard, Jupyter",
    "stop": "stop a run on all its hosts, and print a verified receipt",
    "wait": "wait until runs have ended; the exit code is theirs",
    "rerun": "run a run again: same code, job and hosts, or with other arguments",
    "rm": "delete a run, here and on its hosts",
    "df": "show what runs take on disk, here and on the hosts",
    "prune": "delete old runs, code and agents, here and on the hosts",
    "config": "show the settings that hold here, and where each is from",
    "inventory": "show the hosts; import and export inventories of other tools",
    "import": "convert a task file of SkyPilot, dstack, Polyaxon or OSMO",
    "export": "write a job as shell scripts for its hosts, or for Slurm",
    "bootstrap": "prepare bare hosts: your key, rsync, Python, an environment",
    "init": "find hosts, probe them, write an inventory",
    "sandbox": "embedded hosts on this machine, to try things out: up, down, ls",
    "schema": "print the JSON Schema of an inventory or a job file, for editors",
    "completion": "have bash, zsh or fish complete commands, runs, hosts and files",
    "help": "show what a command does and takes",
    "version": "print the version",
}


#: Other names of commands, which no list shows.
_ALIASES = {"du": "df", "tunnel": "forward"}
#: Commands that share a module with another one.
_HOME = {"import": "import_", "stop": "attach", "shell": "exec", "prune": "df", "version": "help"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="launcher")
def cli() -> None:
    """Run training scripts on GPU machines that have nothing but SSH."""


def main() -> None:
    """Run the command line. Errors become a message with a hint, and an exit code."""
    process.prepare()
    try:
        # Around the commands' own contexts, so that errors get the same colours.
        with click.Context(cli, color=_colour()):
            sys.exit(_written(_code()))
    finally:
        process.finish()


def _colour() -> bool | None:
    """Return click's ``color``: False if the user wants none, None to let the terminal decide.

    Click does not read NO_COLOR (https://no-color.org).
    """
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _code() -> int:
    """Run the command and return its exit code. Errors are printed."""
    if "_LAUNCHER_COMPLETE" in os.environ:
        from . import shells  # noqa: F401  click's scripts for shells are replaced by ours
    try:
        # Without standalone mode click returns what ctx.exit was given.
        code = cli(prog_name="launcher", standalone_mode=False, color=_colour())
        return code if isinstance(code, int) else 0
    except click.Abort:
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        return _failed(_of_usage(error))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LauncherError as error:
        return _failed(error)
    except Exception as error:
        if isinstance(error, OSError) and (ours := _of_our_folder(error)):
            return _failed(ours)
        _bug(error)
        _tell_program(in_words(error), "", EndReason.INTERNAL_ERROR, 125)
        return 125


def _of_our_folder(error: OSError) -> RecordError | None:
    """Return an error about a file of launcher's own folder on this machine; None for another one."""
    is_ours = isinstance(error.filename, str | os.PathLike) and is_at_home(error.filename)
    return RecordError(error.filename, error) if is_ours and error.errno in _UNWRITABLE else None


def _failed(error: LauncherError) -> int:
    """Print an error, for a program as well where one listens; return the exit code."""
    from .render.messages import complain  # most commands end well

    complain(error)
    host = error.host if isinstance(error, HostError) else None
    _tell_program(str(error), error.hint, error.code, error.exit_code, host)
    return error.exit_code


def _tell_program(text: str, hint: str, code: str, exit_code: int, host: str | None = None) -> None:
    """Print an error as JSON on stdout, if JSON was asked for: before the script and before ``--``."""
    own = itertools.takewhile(lambda word: word != "--" and not word.endswith(".py"), sys.argv[1:])
    if "--json" in own:
        value = {"error": text, "hint": hint, "code": code, "exit_code": exit_code, "host": host}
        click.echo(json.dumps(value, indent=2))


def _of_usage(error: click.UsageError) -> InputError:
    """Return an error of the parser in our voice."""
    command = error.ctx.command_path if error.ctx else "launcher"
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [name for one in error.ctx.command.get_params(error.ctx) for name in one.opts]
        like = suggestion(error.option_name, known) if error.option_name.startswith("--") else ""
        hint = like or f"{command} --help lists the options"
        return InputError(f"{command} has no option {error.option_name}", hint)
    if found := _UNKNOWN_COMMAND.match(error.message):
        inner = error.ctx.command if error.ctx else None
        names = (
            inner.list_commands(error.ctx) if isinstance(inner, click.Group) and error.ctx else []
        )
        hint = suggestion(found[1], names) or f"{command} --help lists the commands"
        return InputError(f'there is no command "{command} {found[1]}"', hint)
    message = " ".join(error.format_message().split()).rstrip(".")
    for pattern, words in _OUR_WORDS:
        message = pattern.sub(words, message)
    return InputError(message[:1].lower() + message[1:], f"{command} --help")


#: What click says of numbers and choices, and what we say.
_OUR_WORDS = (
    (re.compile(r" is not a valid (?:integer|int)(?: range)?$"), " is no whole number"),
    (re.compile(r" is not a valid float(?: range)?$"), " is no number"),
    (re.compile(r" is not in the range x>=(\S+)$"), r" is less than \1"),
    (re.compile(r" is not in the range (\S+?)<=x<=(\S+)$"), r" is not from \1 to \2"),
    (re.compile(r"(\})'\. Choose from: .*$"), r"\1'"),
)


def _written(code: int) -> int:
    """Return the exit code; not 0 where the disk that our output goes to was full."""
    if why := output.lost():
        click.echo(f"error: some output could not be written: {why}", err=True)
        return code or 1
    return code


def _bug(error: Exception) -> None:
    """Print a line about a bug of ours, and write its traceback to a file."""
    import traceback

    from ..api.client import home, write_at_home
    from .render.hints import below_error

    place = home() / "traceback.txt"
    try:
        write_at_home(place.name, traceback.format_exc())
    except OSError:
        traceback.print_exc()
    click.secho("internal error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(f"{type(error).__name__}: {error}", err=True)
    click.echo(below_error(f"this is a bug in launcher; the traceback is in {place}"), err=True)
