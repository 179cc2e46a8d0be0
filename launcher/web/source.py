"""What a run was started with, for its page: code, job, options. Of the environment the names alone."""

from __future__ import annotations

from typing import Any

from ..api.jobs import describe_job
from ..records.comparison import options_of
from ..records.run_reader import RunReader, code_of
from ..spec.errors import LauncherError
from . import confined
from .answers import Runs

#: Most bytes of a diff in an answer.
DIFF = 1 << 20
#: Stands for a value of the environment.
HIDDEN = "(not shown)"


def source(runs: Runs, run: str) -> dict[str, Any]:
    """Return code, diff, job and options of a run; no job if it ended before anything was decided.

    Raises OSError.
    """
    with confined.folder(runs.root, (run,)):
        path = runs.root / run
    code = code_of(path)
    try:
        with (
            confined.opened(runs.root, (run, "code.diff")) as file,
            open(file, "rb", closefd=False) as data,
        ):
            diff = data.read(DIFF + 1)
    except OSError:  # nothing was left uncommitted
        diff = b""
    value: dict[str, Any] = {
        "commit": code.commit,
        "branch": code.branch,
        "dirty": code.dirty,
        "folder": code.folder,
        "untracked": list(code.untracked[:200]),
        "diff": diff[:DIFF].decode("utf-8", "replace"),
        "diff_is_whole": len(diff) <= DIFF,
        "job": None,
        "options": {},
        "again": f"launcher rerun {run}",
    }
    try:
        reader = RunReader(path)
        request = reader.request
    except LauncherError:
        return value
    job = describe_job(request.job)
    job["secrets"] = list(reader.secret_names)
    job["envs"] = dict.fromkeys(job.get("envs", {}), HIDDEN)
    for role in job.get("roles", ()):
        if role.get("envs"):
            role["envs"] = dict.fromkeys(role["envs"], HIDDEN)
    return {**value, "job": job, "options": options_of(request)}
