"""Notebooks: after ``%load_ext launcher.integrations.notebook``, ``%%launcher --nodes 2`` runs a cell on
ranks.

The cell is a script of its own: a run like any other, which sees no variables of the notebook. What its
ranks print appears below the cell while they run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any, NoReturn, Protocol

import launcher

#: The module that the cell is on hosts.
MODULE = "launcher_cell"


class CellFailed(launcher.LauncherError):
    """The run of a cell did not succeed."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the lines of ours on the way are of no use to anybody."""
        return [f"{self}\n  {self.hint}"]


class _Shell(Protocol):
    def register_magic_function(self, func: Any, magic_kind: str, magic_name: str) -> None: ...


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CellFailed(f"%%launcher: {message}", self.format_usage().strip())


def _parser() -> _Parser:
    parser = _Parser(prog="%%launcher", add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--inventory", default=os.environ.get("LAUNCHER_INVENTORY"))
    parser.add_argument("--hosts")
    parser.add_argument("-N", "--nodes", dest="num_nodes", type=int)
    parser.add_argument("--nproc-per-node", type=int)
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--framework")
    parser.add_argument("--python")
    parser.add_argument("--name")
    parser.add_argument("-d", "--detach", action="store_true")
    parser.add_argument("args", nargs="*", metavar="ARGS")
    return parser


def load_ipython_extension(shell: _Shell) -> None:
    """Add ``%%launcher``."""
    shell.register_magic_function(run_cell, "cell", "launcher")


def run_cell(line: str, cell: str) -> None:
    """Run a cell on the ranks that ``line`` asks for, and print what they print. Raises CellFailed."""
    given = {
        name: value
        for name, value in vars(_parser().parse_args(shlex.split(line))).items()
        if value
    }
    inventory, detach = given.pop("inventory", "inventory.yaml"), given.pop("detach", False)
    run_words = ("-m", MODULE, *given.pop("args", ()))
    sizes = {name: given.pop(name) for name in ("nproc_per_node", "gpus") if name in given}
    try:
        job = launcher.make_job(
            **{"name": "cell", **given},
            run=run_words,
            **({"resources": sizes} if sizes else {}),
        )
        with launcher.Client(inventory) as client:
            files = {f"{MODULE}.py": cell.encode()}
            run = client.run(job, detach=detach, add_files=files)
            if detach:
                run.wait_until_started(or_waits=True)
                print_line(f"{run.name}: launcher attach {run.name}")
                return
            for text in run.lines(follow=True):
                print_line(shown(text))
            receipt = run.wait(progress=False)
    except launcher.LauncherError as error:
        raise CellFailed(str(error), error.hint) from None
    print_line(f"{receipt.status}  {run.name}")
    if receipt.exit_code:
        raise CellFailed(
            f"{run.name} {receipt.status} ({receipt.reason})", f"launcher show {run.name}"
        )


def print_line(text: str) -> None:
    """Show a line below the cell."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def shown(line: launcher.LogLine) -> str:
    """Return a line behind its host and rank, without control characters."""
    who = line.name.rpartition("/")[2].partition(".")[0].removeprefix("rank-")
    text = "".join(one for one in line.text if one.isprintable() or one == "\t")
    return f"{line.host} [{who}] {text}"
