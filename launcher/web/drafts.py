"""Jobs that are written in a page: planned as by ``--dry-run``, started as by ``launcher run -d``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..api import data, jobs, settings
from ..api.arguments import RunOptions
from ..api.client import AsyncClient
from ..spec import yaml_document
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
class Form:
    """What was typed: ``values`` as in a job file, and ``texts`` in YAML, by keys."""

    values: Mapping[str, Any]
    texts: Mapping[str, str]

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield each key with its lines of the job file. Raises DocumentError."""
        for key, value in self.values.items():
            try:
                yield key, yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True)
            except RecursionError:
                raise InputError(f"{key}: nested too deeply") from None
        for key, text in self.texts.items():
            try:
                yaml_document.parse(text, key)  # by itself: it must not reach beyond its key
            except DocumentError as error:
                line = min(error.line, text.count("\n") + 1)
                raise InputError(f"{key}: line {line}: {error.message}", error.hint) from None
            yield key, f"{key}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@frozen
class Draft:
    """A job file, and what it says."""

    content: str
    job: Job
    options: RunOptions


def fields() -> dict[str, Any]:
    """Return the JSON Schema of a job's keys that a page asks for, the names of frameworks, and the data
    sets that were added here."""
    known = jobs.schema()["properties"]
    return {
        "properties": {name: one for name, one in known.items() if name not in _ELSEWHERE},
        "frameworks": jobs.framework_names(),
        "workdir": os.getcwd(),
        "data": [{"name": one.name, "bytes": one.version.bytes} for one in data.known()],
    }


def read(form: Form) -> Draft:
    """Return the draft of a form, on top of what settings say. Raises Refused."""
    try:
        text = "".join(text for _, text in form.parts())
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
        raise Refused(error, _field(error, form)) from None
    return Draft(text, job, options)


def plan(form: Form, client: AsyncClient) -> dict[str, Any]:
    """Return the job file and its plan, as far as it is known without a connection. Raises Refused."""
    draft = read(form)
    try:
        planned = jobs.dry_run(draft.job, client.inventory)
    except InputError as error:
        raise Refused(error, _field(error, form)) from None
    return {
        "file": draft.content,
        "framework": planned.framework,
        "nodes": [
            {"host": node.host.name, "ranks": list(node.ranks), "gpus": list(node.gpu_labels)}
            for node in planned.layout.nodes
        ],
        "spares": jobs.spare_names(draft.job, client.inventory, planned),
    }


async def start(form: Form, client: AsyncClient) -> str:
    """Start a draft in the background, and return the name of the run. Raises Refused."""
    draft = read(form)
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
        raise Refused(error, _field(error, form)) from None


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


def _field(error: InputError, form: Form) -> str:
    """Return the key that an error is about, such as ``environment.conda``: its first word, or what its
    line in the file is of."""
    first = error.message.removeprefix("--").partition(":")[0].partition(" ")[0]
    top, _, rest = first.partition(".")
    top = _FLAGS.get(top, top).replace("-", "_")
    if top in (*form.values, *form.texts):
        return f"{top}.{rest}" if rest else top
    if isinstance(error, DocumentError) and error.line:
        line = 1
        for _, text in form.parts():
            if error.line < line + text.count("\n"):
                return _path(text, error.line - line)
            line += text.count("\n")
    for key, value in form.values.items():
        if isinstance(value, dict) and top in value:
            return f"{key}.{top}"
    if top == "gpus":
        return "resources.gpus"
    return next((key for key in ("framework", "hosts") if key in error.message), "run")


def _path(text: str, line: int) -> str:
    """Return the path of the key to which a line (from 0) of a mapping belongs."""
    node, path = yaml.compose(text, Loader=yaml.SafeLoader), []
    while isinstance(node, yaml.MappingNode):
        above = [pair for pair in node.value if pair[0].start_mark.line <= line]
        if not above:
            break
        key, node = above[-1]
        path.append(str(key.value))
    return ".".join(path)
