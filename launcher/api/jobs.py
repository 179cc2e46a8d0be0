"""Make jobs from files, values and layers; plan them without going to a host."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from .. import frameworks
from ..jobs import foreign_terms, job_file, planner, wrapped_commands
from ..jobs.command import arguments_of
from ..jobs.data import of_flags as data_of_flags
from ..jobs.data import with_credentials as data_with_credentials
from ..jobs.durations import seconds, wait_time
from ..jobs.environments import FIELDS as ENVIRONMENTS
from ..jobs.environments import all_of, around, of_flags, replaced_in, used_images, with_python
from ..jobs.gpus import usable
from ..jobs.layout import make_layout
from ..jobs.preload import names as preload_names
from ..jobs.preparation import behind, command_of
from ..jobs.run_options import NO_PROJECT, OPTIONS, PRIORITIES, SETTINGS
from ..jobs.settings import in_a_job
from ..jobs.shares import check as check_shares
from ..jobs.shares import folders as shared_folders
from ..runner import credentials
from ..runner.data import registry
from ..runner.files import code_size, local_paths
from ..runner.files.code_size import LargeCode
from ..runner.files.local_paths import LocalPath
from ..runner.policy import spares
from ..runner.policy.projects import rule_of
from ..runner.policy.turn import can_wait
from ..runner.requests import check_restarts
from ..spec import inventory as inventories
from ..spec.credentials import LEAVE_OUT, NO_STORE, problem
from ..spec.credentials import NONE as NO_CREDENTIAL
from ..spec.data import DataSet, check
from ..spec.environments import Environment
from ..spec.errors import InputError, suggestion
from ..spec.files import read_text
from ..spec.given import value as given_value
from ..spec.model import Inventory, Job, Meeting, Plan, Resources
from .arguments import RunOptions
from .environment_paths import check_pixi, check_uv, with_local_image

__all__ = [
    "ENVIRONMENTS",
    "NO_PROJECT",
    "PRIORITIES",
    "LargeCode",
    "LocalPath",
    "agree_to_copy",
    "arguments_of",
    "behind",
    "can_wait",
    "command_of",
    "data_of_flags",
    "data_with_credentials",
    "describe_job",
    "describe_plan",
    "dry_run",
    "environment_of_flags",
    "framework_names",
    "gpu_bounds",
    "job_of_words",
    "large_code",
    "layered_job",
    "leave_out",
    "load_job",
    "load_options",
    "local_paths_of",
    "make_job",
    "misplaced_option",
    "parse_options",
    "preload_names",
    "pythons_of",
    "read_job",
    "read_options",
    "rule_of",
    "run_options",
    "schema",
    "seconds",
    "shared_folders",
    "spare_names",
    "used_images",
    "wait_time",
]


def load_job(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of a job file, ``workdir`` resolved from its folder. Raises DocumentError."""
    return read_job(read_text(path, "job file"), str(path), Path(path).parent)


def read_job(content: str, source: str, folder: Path) -> dict[str, Any]:
    """Return the values in the text of a job file, ``workdir`` resolved from a folder; ``source`` names
    the text in errors. Raises DocumentError."""
    values = job_file.load(content, source)
    values["workdir"] = str((folder / Path(values.get("workdir", ".")).expanduser()).resolve())
    values["data"] = _in_folder(values.get("data", ()), folder.resolve())
    return values


def load_options(path: str | os.PathLike[str]) -> RunOptions:
    """Return the options of a run that a job file holds, for `launcher.Client.run`.

    A file of somebody else's may have commands under ``notify``, which run on this machine. Raises
    DocumentError.
    """
    return read_options(read_text(path, "job file"), str(path))


def read_options(content: str, source: str) -> RunOptions:
    """Return the options of a run in the text of a job file. Raises DocumentError."""
    return run_options({name: one.value for name, one in in_a_job(content, source).items()})


def parse_options(values: Mapping[str, Any]) -> RunOptions:
    """Return options of a run from values named and written as in a job file, such as
    ``{"time": "8h", "priority": "high"}``; those that are None are left out. Raises InputError."""
    given = {name: value for name, value in values.items() if value is not None}
    for name in given.keys() - OPTIONS.keys():
        raise InputError(f"a run has no option {name!r}", suggestion(name, tuple(OPTIONS)))
    found: dict[str, Any] = {}
    for name, value in given.items():
        try:
            found |= read_options(json.dumps({name: value}), name)
        except InputError as error:
            is_named = error.message.startswith(f"{name}:")
            message = error.message if is_named else f"{name}: {error.message}"
            raise InputError(message, error.hint) from None
    return cast(RunOptions, found)


def run_options(values: Mapping[str, Any]) -> RunOptions:
    """Return options of a run from values named as in a job file; those for a screen are left out."""
    names = RunOptions.__annotations__
    found: dict[str, Any] = {name: value for name, value in values.items() if name in names}
    if "on_stall" in values:
        found["stop_stalled"] = values["on_stall"] == "stop"
    if "from" in values:
        found["continue_from"] = values["from"]
    if "wait" in values:
        found["wait"] = None if math.isinf(values["wait"]) else values["wait"]
    if "time" in values:
        found["time_limit"] = values["time"]
    if values.get("project") == NO_PROJECT:
        found["project"] = None
    if "priority" in values:
        found["priority"] = PRIORITIES[values["priority"]]
    return cast(RunOptions, found)


def make_job(**values: Any) -> Job:
    """Make a job from values named as in a job file. Raises InputError."""
    return layered_job({"argument": values})


def job_of_words(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], values: Mapping[str, Any]
) -> Job:
    """Make a job of a command, of a script, or of a job file that ``run`` names, with values as
    ``FunctionJob`` has them. Raises InputError."""
    given = dict(values)
    sizes = {name: given.pop(name) for name in ("nproc_per_node", "gpus") if name in given}
    if "nodes" in given:
        given["num_nodes"] = given.pop("nodes")
    if "env" in given:
        if "envs" in given:
            raise InputError("env and envs are the same", "leave one of them out")
        given["envs"] = given.pop("env")
    layers: dict[str, dict[str, Any]] = {}
    if isinstance(run, str | os.PathLike) and str(run).endswith((".yaml", ".yml")):
        layers["file"] = load_job(run)
    else:
        given["run"] = run
    if sizes:
        known = vars(layers.get("file", {}).get("resources", Resources()))
        known = {**known, "gpus": None, "gpu_model": None} if "gpus" in sizes else known
        named = given_value("resources", Mapping[str, Any], given.get("resources", {}))
        given["resources"] = {**known, **named, **sizes}
    return layered_job({**layers, "argument": given})


def layered_job(layers: Mapping[str, Mapping[str, Any]]) -> Job:
    """Make a job from layers of values, the strongest last: file, environment, flags.

    Raises InputError.
    """
    job = job_file.make(layers, os.environ)
    workdir = str(Path(job.workdir).expanduser().resolve())
    job = replace(job, workdir=workdir, data=_resolved(job.data))
    check_shares(job)
    credentials.require(job)
    job = local_paths.with_relative_script(job)
    job = replaced_in(job, lambda one: with_local_image(job.workdir, one))
    for one in all_of(job):
        if one.uv:
            check_uv(Path(job.workdir), one)
        elif one.pixi:
            check_pixi(Path(job.workdir), one.pixi)
        elif one.recipe:
            from ..runner.files import conda_file

            conda_file.check(Path(job.workdir), one.recipe)
    for script in job.scripts:
        if not (Path(job.workdir) / script).exists():
            raise InputError(*_no_script(job.workdir, script))
    _check_numbers(job)
    if job.run and not job.shell:
        _check_script(Path(job.workdir), *job.run)
        if job.sources["framework"] in ("default", *SETTINGS) and not job.roles:
            _check_inside(Path(job.workdir), job.run)
    return _with_lone_torchrun(job)


def _with_lone_torchrun(job: Job) -> Job:
    """Return a job whose script starts ``torchrun --standalone`` with one host for that: it would wait
    for the others of the plan, where none comes."""
    if job.framework != "env" or job.roles or not job.run:
        return job
    found = _started(Path(job.workdir), job.run, job.shell)
    return replace(job, envs={"PET_NNODES": "1", **job.envs}) if found and found.alone else job


#: Frameworks that start a job's command on the first host only.
_ON_THE_FIRST = ("ssh", "sbatch")
_MAY_BE_NUMBERED = re.compile(r"[-_](?:rank|id)\b")


def _check_numbers(job: Job) -> None:
    """Raise InputError for a command that says which of several hosts it is on: all would be that."""
    if job.roles or not job.run or job.num_nodes == 1 or job.framework in _ON_THE_FIRST:
        return
    path = "" if job.shell else wrapped_commands.script(job.run)
    text = job.run[0] if job.shell else _text_of(Path(job.workdir) / path) if path else ""
    if not _MAY_BE_NUMBERED.search(" ".join((*job.run, text))):
        return
    from ..jobs import host_numbers

    if not job.shell and (one := host_numbers.numbered(job.run)):
        foreign_terms.refuse_numbered(one)
    # Elsewhere, a script that starts a launcher is refused, or named with its framework.
    if job.framework == "env" and (found := host_numbers.in_script(text)):
        foreign_terms.refuse_numbered(found[1], path or "run", found[0])


def _check_inside(folder: Path, run: tuple[str, ...]) -> None:
    """Raise InputError for a script, or a target of make, that would start ranks in each rank."""
    if path := wrapped_commands.python_script(run):
        from ..jobs import own_ranks

        text = _text_of(folder / path)
        if line := own_ranks.line_of(text, run):
            foreign_terms.refuse_spawning(path, line, own_ranks.counts_machines(text))
    if found := _started(folder, run):
        path = wrapped_commands.script(run)
        is_batch = path and re.search(r"(?m)^#SBATCH\s", _text_of(folder / path))
        foreign_terms.check_script(found, path if is_batch else "")


def _started(
    folder: Path, run: tuple[str, ...], shell: bool = False
) -> wrapped_commands.Started | None:
    """Return what a command's script, or its target of make, starts; None for no launcher."""

    def read(path: str) -> str:
        return _text_of(folder / path)

    if shell:
        return wrapped_commands.started(run[0], "", read)
    if (made := wrapped_commands.made(run)) is not None:
        inside = made.folder

        def beside(path: str) -> str:
            return read(os.path.join(inside, path))

        for name in [made.file] if made.file else ["GNUmakefile", "makefile", "Makefile"]:
            if text := beside(name):
                found = wrapped_commands.started_by_make(text, made.targets, name, beside)
                return found and replace(found, path=os.path.join(inside, found.path))
    return wrapped_commands.started_by(run, read)


def _text_of(path: Path) -> str:
    """Return the text of a script; "" for what is none."""
    try:
        if not path.is_file() or path.stat().st_size > 1_000_000:
            return ""
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _resolved(sets: tuple[DataSet, ...]) -> tuple[DataSet, ...]:
    """Return the data sets of a job with their sources. Raises InputError."""
    found = registry.with_sources(_in_folder(sets, Path.cwd()))
    check(found)
    for one in found:
        if one.credential and not one.is_in_store:
            where, message = f"data: {one.name}", f"{NO_STORE}, and {one.source} is none"
            raise problem(one.credential, where, message, LEAVE_OUT)
    return tuple(
        replace(one, credential="") if one.credential == NO_CREDENTIAL else one for one in found
    )


def _in_folder(sets: tuple[DataSet, ...], folder: Path) -> tuple[DataSet, ...]:
    """Return the sets with whole paths for folders of this machine, which are relative to a folder."""
    return tuple(
        replace(one, source=os.path.normpath(folder / Path(one.source).expanduser()))
        if one.is_here
        else one
        for one in sets
    )


def _check_script(folder: Path, word: str, *arguments: str) -> None:
    """Raise InputError for a command that can be no script: a folder, a notebook, or a file outside."""
    path = folder / word
    if word.endswith(".ipynb"):
        script = Path(word).with_suffix(".py")
        raise InputError(
            f"{word} is a notebook, and not a script",
            f"jupyter nbconvert --to script {word}, then launcher run {script}",
        )
    if not arguments and path.is_dir():
        raise InputError(f"{word} is a folder", f"name a script in it: launcher run {word}/SCRIPT")
    outside = not path.resolve().is_relative_to(folder.resolve())
    if word.startswith("../") and outside and path.exists():
        raise InputError(
            f"{word} is outside the workdir {folder}, which is what is copied",
            f"launcher run --workdir {os.path.dirname(word)} {os.path.basename(word)}",
        )


def large_code(job: Job) -> LargeCode | None:
    """Return what a job would copy to every host, if it is more than 200 MB and its user has not agreed
    to that before. Raises InputError."""
    return code_size.of_job(job)


def agree_to_copy(code: LargeCode) -> None:
    """Remember that the user agrees to copy as much."""
    code_size.agree(code)


def leave_out(code: LargeCode) -> None:
    """Add what is proposed to the .launcherignore of the workdir. Raises InputError."""
    try:
        code_size.leave_out(code)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from None


def local_paths_of(job: Job) -> tuple[LocalPath, ...]:
    """Return arguments of a job that are paths of this machine, which hosts need not have."""
    return local_paths.found(job)


def environment_of_flags(given: Mapping[str, str]) -> Environment | None:
    """Return the environment that flags name, by its kind; None for none. Raises InputError."""
    return of_flags(given, os.path.expanduser("~"))


def misplaced_option(words: Sequence[str], command: str = "launcher run") -> tuple[str, str] | None:
    """Return an option of launcher behind a script, which gets it, and how it is written; or None."""
    return foreign_terms.behind_the_script(words, command)


def _no_script(workdir: str, script: str) -> tuple[str, str]:
    folder = (Path(workdir) / script).parent
    near = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    hint = suggestion(Path(script).name, near) or "paths are relative to the workdir"
    return f"there is no {script} in {workdir}", hint


def dry_run(job: Job, inventory: Inventory) -> Plan:
    """Return the plan, as far as it is known without connecting to a host. Raises InputError."""
    hosts = with_python(inventories.select(inventory, job.hosts), job)
    check_restarts(job, len(hosts))
    layout = make_layout(job, hosts, {})
    first = layout.nodes[0].host
    address = job.master_addr or first.address or first.name
    low, high = job.master_port
    port = low if low == high else f"{low}-{high}"
    return planner.plan(job, layout, Meeting(address, port), "agent")


def pythons_of(plan: Plan, job: Job) -> dict[str, str]:
    """Return the Pythons of each host's processes."""
    found = {}
    for entry in plan.nodes:
        roles = dict.fromkeys(task.role for task in entry.node.tasks) or {"": None}
        pythons = dict.fromkeys(around(job, entry.node, role).python for role in roles)
        found[entry.node.host.name] = ", ".join(pythons)
    return found


def gpu_bounds(plan: Plan) -> dict[str, str]:
    """Return the variables that bound the GPUs of hosts, as far as the inventory says so."""
    found = {node.host.name: usable(node.host, None).bound for node in plan.layout.nodes}
    return {host: bound for host, bound in found.items() if bound}


def spare_names(job: Job, inventory: Inventory, plan: Plan) -> list[str]:
    """Return the hosts that could replace a lost one; none without restarts."""
    hosts = inventories.select(inventory, job.hosts) if job.max_restarts else ()
    return [host.name for host in spares.spares(hosts, plan.layout, ())]


def describe_plan(plan: Plan, job: Job, spares: list[str]) -> dict[str, Any]:
    """Return a plan as JSON values, with the names of secrets but not their values."""
    from ..records import codec

    return {
        **codec.describe_plan(plan),
        "spares": spares,
        "gpu_bounds": gpu_bounds(plan),
        "job": codec.describe_job(job),
    }


def describe_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON values, with the names of secrets but not their values."""
    from ..records import codec

    return codec.describe_job(job)


def framework_names() -> list[str]:
    """Return the names of all frameworks, built in and from plug-ins."""
    return list(frameworks.names())


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, with the keys of a sweep."""
    from ..jobs import sweep_file  # a run does not need it

    return sweep_file.json_schema()
