"""``launcher completion``: have the shell complete commands, runs, hosts and files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ...spec.errors import InputError
from ...spec.frozen import frozen
from .. import shells  # noqa: F401  click's scripts are replaced by ours
from ..grouped import CommandGroup

SHELLS = ("bash", "zsh", "fish")
#: Marks the line in a startup file that is ours.
MARK = "# launcher completion"


@click.group("completion", cls=CommandGroup)
def command() -> None:
    """Have the shell complete commands, options, runs, hosts and files."""


_shell = click.argument("shell", metavar="[bash|zsh|fish]", required=False)


@command.command()
@_shell
def install(shell: str | None) -> None:
    """Write the completion of a shell, the one in $SHELL by default, and have new shells read it.

    bash and zsh get a line in ~/.bashrc or ~/.zshrc; fish needs none. It is safe to do it again, as
    after an upgrade.
    """
    name = _name_of(shell)
    place = place_of(name, os.environ, Path.home())
    try:
        place.script.parent.mkdir(parents=True, exist_ok=True)
        place.script.write_text(_script(name))
        is_new = place.startup is not None and add_line(place.startup, place.line)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(f"{name}: wrote {place.script}")
    if is_new:
        click.echo(f"added a line to {place.startup}")
    click.echo("new shells complete launcher")


@command.command()
@_shell
def show(shell: str | None) -> None:
    """Print the completion of a shell, for a place of your own."""
    click.echo(_script(_name_of(shell)))


@frozen
class Place:
    """Where the completion of a shell is, and the ``line`` of its startup file that reads it."""

    script: Path
    startup: Path | None = None
    line: str = ""


def place_of(shell: str, env: Mapping[str, str], home: Path) -> Place:
    """Return where a shell looks for completions, by the variables of its user."""
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    if shell == "fish":
        config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(config / "fish" / "completions" / "launcher.fish")
    script = data / "launcher" / f"completion.{shell}"
    quoted = shlex.quote(str(script))
    line = f"[ -r {quoted} ] && . {quoted} {MARK}"
    if shell == "bash":
        return Place(script, home / ".bashrc", line)
    ready = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }; "
    return Place(script, Path(env.get("ZDOTDIR") or home) / ".zshrc", ready + line)


def add_line(file: Path, line: str) -> bool:
    """Add our line to a startup file, in the place of an older one; return whether it had none."""
    before = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
    lines = before.splitlines(keepends=True)
    ours = [at for at, one in enumerate(lines) if one.rstrip().endswith(MARK)]
    if ours:
        lines[ours[0]] = f"{line}\n"
    else:
        lines += ["\n"] if before and not before.endswith("\n") else []
        lines.append(f"{line}\n")
    after = "".join(lines)
    if after != before:
        file.write_text(after, "utf-8", "surrogateescape")
    return not ours


def _name_of(shell: str | None) -> str:
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise InputError(
            f'no completion for "{name}"' if name else "which shell? $SHELL is not set",
            "launcher completion install bash, zsh or fish",
        )
    return name


def _script(shell: str) -> str:
    from .. import cli

    found = get_completion_class(shell)
    assert found is not None, "shells.py has all of them"
    return found(cli, {}, "launcher", "_LAUNCHER_COMPLETE").source()
