"""What a command line asks for: its words and flags, the job file and settings, as layers of a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from ..api import formats, jobs
from ..api.settings import OPTIONS, SettingsFile, of_job
from ..jobs import foreign_terms
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.gpu_models import read_count
from ..spec.gpus import read_ids
from ..spec.model import Resources
from . import options
from .inventory_lookup import note as tell
from .settings import agree, found_settings


@frozen
class Asked:
    """What a command line asks for: ``layers`` of a job, by where they come from, the weakest first; and
    options of its run."""

    layers: dict[str, dict[str, Any]]
    options: Mapping[str, Any]


def asked_for(
    ctx: click.Context,
    words: tuple[str, ...],
    flags: dict[str, Any],
    read: Mapping[str, Any] | None = None,
) -> Asked:
    """Return what a command line, its job file and settings ask for.

    ``read`` are the values of the job file, or of the words, if they were read already. Raises
    InputError.
    """
    known = [name for one in ctx.command.params for name in one.opts if name.startswith("-")]
    foreign_terms.check_options(words, known, str(ctx.info_name))
    files = found_settings()
    layers: dict[str, dict[str, Any]] = {file.whose: file.values() for file in files}
    if words[0].endswith((".yaml", ".yml")):
        files = (*files, _only_file(words))
        values = jobs.load_job(words[0]) if read is None else read
        layers["file"] = {**values, **files[-1].values()}
    elif read is not None:
        layers["file"] = dict(read)
    elif (batch := _batch_script(words, flags)) is not None:
        layers["file"] = batch
    else:
        flags["run"] = words
    for name, value in _values(flags).items():
        layers.setdefault(_origin(ctx, name), {})[name] = value
    for low, high in (("file", "environment"), ("environment", "flag")):
        if low in layers and high in layers:  # so that dictionaries stand in rising order
            layers[high] = layers.pop(high)
    options: dict[str, Any] = {}
    for values in layers.values():
        options |= {name: values.pop(name) for name in OPTIONS if name in values}
    _merge_resources(layers)
    if not ctx.params.get("dry_run"):
        agree(files)
    return Asked(layers, options)


def _only_file(words: tuple[str, ...]) -> SettingsFile:
    """Return the settings in a job file, behind which nothing may stand. Raises InputError."""
    if len(words) > 1:
        raise InputError(
            f"{words[0]} says what to run; {words[1]!r} cannot be added",
            "put options before the job file, or change run: in the file",
        )
    return of_job(words[0])


def _batch_script(words: tuple[str, ...], flags: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a script with ``#SBATCH`` lines asks for, unless a framework is named."""
    if flags.get("framework") is not None:
        return None
    script = formats.batch_script(words, flags.get("workdir"))
    if script is None:
        return None
    for one in script.notes:
        tell(f"{words[0]}: {one}")
    return {**script.values, **script.options}


def _origin(ctx: click.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "environment" if source == click.core.ParameterSource.ENVIRONMENT else "flag"


def _values(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags that were given, as values of a job file."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    for name, convert in _CONVERTED.items():
        if name in given:
            given[name] = convert(given[name])
    if credentials := given.pop("data_credential", ()):
        given["data"] = jobs.data_with_credentials(given.get("data", ()), credentials)
    if environment := {kind: given.pop(kind) for kind in jobs.ENVIRONMENTS if kind in given}:
        given["environment"] = jobs.environment_of_flags(environment)
    if given.pop("no_wait", False):
        if "wait" in given:
            raise InputError("--wait and --no-wait contradict each other", "leave one of them out")
        given["wait"] = 0.0
    if "gpus" in given:
        given["gpu_model"], given["gpus"] = read_count(str(given["gpus"]))
    return given


def _gpu_ids(text: str) -> tuple[str, ...]:
    try:
        return read_ids(text)
    except ValueError as error:
        raise InputError(f"--gpu-ids: {error}") from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        if name not in os.environ:
            raise InputError(f"--env {name}: it is not set here", f"--env {name}=VALUE")
        value = os.environ[name]
    if not name.isidentifier():
        raise InputError(
            f"--env {text}: {name!r} cannot be the name of a variable",
            "letters, digits and _, and no digit first: --env NAME=VALUE",
        )
    return name, value


def _merge_resources(layers: dict[str, dict[str, Any]]) -> None:
    """Move ``--gpus``, ``--gpu-ids`` and ``--nproc-per-node`` into ``resources``, as in a job file."""
    known: dict[str, Any] = {}
    for values in layers.values():
        if "resources" in values:
            known = vars(values["resources"])
        fields = ("gpus", "gpu_model", "gpu_ids", "nproc_per_node")
        names = [name for name in fields if name in values]
        given: dict[str, Any] = {name: values.pop(name) for name in names}
        if given:
            if "gpus" in given or "gpu_ids" in given:  # one takes the other's place
                known = {**known, "gpus": None, "gpu_model": None, "gpu_ids": ()}
            known = {**known, **given}
            values["resources"] = Resources(**known)


def seconds(flag: str, text: str) -> float:
    """Return the duration that a flag names. Raises InputError."""
    try:
        return jobs.seconds(text)
    except ValueError as error:
        raise InputError(f"{flag}: {error}") from None


def _share(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return jobs.shared_folders(texts)
    except ValueError as error:
        raise InputError(f"--{error}", "such as --share checkpoints") from None


def _preload(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return jobs.preload_names(texts)
    except ValueError as error:
        raise InputError(f"--preload: {error}", "such as --preload torch,transformers") from None


def _wait(text: str) -> float:
    try:
        return jobs.wait_time(text)
    except ValueError as error:
        raise InputError(f"--wait: {error}") from None


def _some_seconds(flag: str, text: str) -> float:
    """Return an optional duration. Raises InputError unless it is more than 0."""
    found = seconds(flag, text)
    if found <= 0:
        raise InputError(f"{flag} {text}: must be more than 0", "leave it out for never")
    return found


#: Flags whose texts are values of another type.
_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "data": jobs.data_of_flags,
    "envs": lambda texts: dict(_variable(text) for text in texts),
    "gpu_ids": _gpu_ids,
    "preload": _preload,
    "share": _share,
    "secrets": dict.fromkeys,
    "pull_every": partial(seconds, "--pull-every"),
    "max_rate": options.rate_of,
    "lost_after": partial(seconds, "--lost-after"),
    "orphan_timeout": partial(_some_seconds, "--orphan-timeout"),
    "stall_timeout": partial(_some_seconds, "--stall-timeout"),
    "time": partial(_some_seconds, "--time"),
    "wait": _wait,
}
