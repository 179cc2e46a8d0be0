"""Jobs that are written in a page: planned as by ``--dry-run``, started as by ``launcher run -d``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..api import jobs, settings
from ..api.arguments import RunOptions
from ..api.client import AsyncClient
from ..spec.errors import DocumentError, InputError
from ..spec.frozen import frozen
from ..spec.model import Job

#: What a page is not asked for: more than one run, and what is of a terminal.
_ELSEWHERE = ("matrix", "sweep", "roles", "inventory", "detach", "ranks", "raw", "stdin")
#: Most scripts that are proposed, how deep they are looked for, and how many files are looked at.
SCRIPTS, DEPTH, ENTRIES = 300, 3, 5000
_SOURCE = "job"
#: Flags that errors name whose keys are called otherwise.
_FLAGS = {"nodes": "num_nodes", "env": "envs", "secret": "secrets", "output": "outputs"}


class Refused(Exception):
    """A draft that cannot be planned or started because of an ``error`` in its key ``field``."""

    def __init__(self, error: InputError, field: str) -> None:
        super().__init__(error.message)
        self.error, self.field = error, field


@frozen
class Draft:
    """A job file, and what it says."""

    content: str
    job: Job
    options: RunOptions


def fields() -> dict[str, Any]:
    """Return the JSON Schema of a job's keys that a page asks for, and the names of frameworks."""
    known = jobs.schema()["properties"]
    return {
        "properties": {name: one for name, one in known.items() if name not in _ELSEWHERE},
        "frameworks": jobs.framework_names(),
        "workdir": os.getcwd(),
    }


def content(values: Mapping[str, Any]) -> str:
    """Return the job file with these values, a key after the other."""
    return "".join(text for _, text in _parts(values))


def read(values: Mapping[str, Any]) -> Draft:
    """Return the draft with these values, on top of what settings say. Raises Refused."""
    try:
        text = content(values)
        files = [file for file in settings.found() if not file.others]
        settings.require_allowed(settings.delicate_lines(files))
        layers: dict[str, dict[str, Any]] = {file.whose: file.values() for file in files}
        given: dict[str, Any] = {}
        for layer in layers.values():
            given |= {key: layer.pop(key) for key in settings.OPTIONS if key in layer}
        layers["file"] = jobs.read_job(text, _SOURCE, Path.cwd())
        options = jobs.run_options(given)
        options.update(jobs.read_options(text, _SOURCE))
        job = jobs.layered_job(layers)
    except InputError as error:
        raise Refused(error, _field(error, values)) from None
    return Draft(text, job, options)


def plan(values: Mapping[str, Any], client: AsyncClient) -> dict[str, Any]:
    """Return the job file and its plan, as far as it is known without a connection. Raises Refused."""
    draft = read(values)
    try:
        planned = jobs.dry_run(draft.job, client.inventory)
    except InputError as error:
        raise Refused(error, _field(error, values)) from None
    return {
        "file": draft.content,
        "framework": planned.framework,
        "nodes": [
            {"host": node.host.name, "ranks": list(node.ranks), "gpus": list(node.gpu_labels)}
            for node in planned.layout.nodes
        ],
        "spares": jobs.spare_names(draft.job, client.inventory, planned),
    }


async def start(values: Mapping[str, Any], client: AsyncClient) -> str:
    """Start a draft in the background, and return the name of the run. Raises Refused."""
    draft = read(values)
    try:
        if large := jobs.large_code(draft.job):
            raise InputError(
                f"the code in {large.folder} is {large.bytes / 1e9:.1f} GB, copied to every host",
                "leave data out by .launcherignore, or agree to it: launcher run -y",
            )
        options = draft.options
        if "wait" not in options:  # a person sees that it waits
            options["wait"] = None if jobs.can_wait(draft.job) else 0.0
        return (await client.run(draft.job, detach=True, **options)).name
    except InputError as error:
        raise Refused(error, _field(error, values)) from None


def scripts(workdir: str) -> dict[str, Any]:
    """Return the scripts in a folder of this machine, and its whole path. Raises InputError."""
    folder = Path(workdir or ".").expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    found: list[str] = []
    looked = 0
    for place, folders, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        looked += len(names)
        folders[:] = sorted(one for one in folders if _is_code(one) and len(here.parts) < DEPTH)
        found += [(here / one).as_posix() for one in sorted(names) if one.endswith((".py", ".sh"))]
        if looked > ENTRIES or len(found) >= SCRIPTS:
            break
    return {"workdir": str(folder), "scripts": found[:SCRIPTS]}


def _is_code(folder: str) -> bool:
    return not folder.startswith(".") and folder not in ("__pycache__", "node_modules", "venv")


def _parts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        try:
            yield key, yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True)
        except RecursionError:
            raise InputError(f"{key}: nested too deeply") from None


def _field(error: InputError, values: Mapping[str, Any]) -> str:
    """Return the key that an error is about: by its line in the file, or by its first word."""
    if isinstance(error, DocumentError) and error.line:
        line = 1
        for key, text in _parts(values):
            line += text.count("\n")
            if error.line < line:
                return key
    first = error.message.partition(":")[0].removeprefix("--").replace("-", "_").split(" ")[0]
    first = _FLAGS.get(first, first)
    if first in (*values, "gpus"):
        return first
    return next((key for key in ("framework", "hosts") if key in error.message), "run")
