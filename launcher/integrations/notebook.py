"""Notebooks: after ``%load_ext launcher.integrations.notebook``, ``%%launcher --nodes 2`` runs a cell on
ranks.

The cell is a script of its own: a run like any other, which sees no variables of the notebook. What its
ranks print appears below the cell while they run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
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


#: Flags of ``launcher run``, each with its key: a value of the job, or an option of the run, written as
#: in a job file.
_SIZES = {"--nproc-per-node": "nproc_per_node", "--gpus": "gpus"}
_JOB = {
    "--hosts": "hosts",
    "--nodes": "num_nodes",
    "--framework": "framework",
    "--python": "python",
    "--name": "name",
}
_OPTIONS = {
    "--wait": "wait",
    "--time": "time",
    "--priority": "priority",
    "--project": "project",
}
_SHORT = {"--nodes": ("-N",)}


def _parser() -> _Parser:
    parser = _Parser(prog="%%launcher", add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--inventory")
    for flag, key in {**_JOB, **_SIZES, **_OPTIONS}.items():
        read = int if key == "nproc_per_node" else str
        parser.add_argument(*_SHORT.get(flag, ()), flag, dest=key, type=read)
    parser.add_argument("--no-wait", action="store_true")
    parser.add_argument("-d", "--detach", action="store_true")
    parser.add_argument("args", nargs="*", metavar="ARGS")
    return parser


def load_ipython_extension(shell: _Shell) -> None:
    """Add ``%%launcher``."""
    shell.register_magic_function(run_cell, "cell", "launcher")


def run_cell(line: str, cell: str) -> None:
    """Run a cell on the ranks that ``line`` asks for, and print what they print. Raises CellFailed."""
    given = vars(_parser().parse_args(shlex.split(line)))
    try:
        job = launcher.make_job(
            **{"name": "cell", **_given(given, _JOB)},
            run=("-m", MODULE, *given["args"]),
            resources=_given(given, _SIZES),
        )
        options = _options(given, launcher.can_wait(job))
        with launcher.Client(launcher.need_inventory(given["inventory"])) as client:
            run = client.run(
                job,
                detach=given["detach"],
                add_files={f"{MODULE}.py": cell.encode()},
                on_event=_tell_of_waiting,
                **options,
            )
            if given["detach"]:
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


def _given(values: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {key: values[key] for key in keys.values() if values[key] is not None}


def _options(given: Mapping[str, Any], can_wait: bool) -> launcher.RunOptions:
    """Return the options of the run: who looks at a cell sees it wait. Raises InputError."""
    if given["no_wait"] and given["wait"] is not None:
        raise launcher.InputError("--wait and --no-wait contradict each other", "leave one out")
    options = launcher.parse_options(_given(given, _OPTIONS))
    if given["wait"] is None:
        options["wait"] = None if can_wait and not given["no_wait"] else 0.0
    return options


def _tell_of_waiting(event: launcher.events.Event) -> None:
    if isinstance(event, launcher.events.RunWaits):
        print_line("waits for GPUs: launcher queue shows who holds them")


def print_line(text: str) -> None:
    """Show a line below the cell."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def shown(line: launcher.LogLine) -> str:
    """Return a line behind its host and rank, without control characters."""
    who = line.name.rpartition("/")[2].partition(".")[0].removeprefix("rank-")
    text = "".join(one for one in line.text if one.isprintable() or one == "\t")
    return f"{line.host} [{who}] {text}"
