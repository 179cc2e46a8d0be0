"""Settings, said once for many runs: the keys of a job file that are not a job of its own. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from .. import frameworks
from ..spec.errors import DocumentError, InputError
from ..spec.frozen import frozen
from ..spec.model import is_elsewhere
from ..spec.toml_document import table
from ..spec.yaml_document import Key, YamlNode, parse, read
from ..spec.yaml_document import schema as mapping_schema
from . import foreign_terms
from .job_file import KEYS as JOB_KEYS
from .run_options import OPTIONS

#: A pyproject.toml without this has no table of ours, whatever else is wrong with it.
_MAY_HAVE_TABLE = re.compile(r"^\s*\[\s*tool\s*(\.\s*[\"']?launcher\b|\])|^\s*tool\b", re.MULTILINE)
#: Keys of a job file that say what a run is: settings have none of them.
_OF_ONE_JOB = ("run", "roles")
KEYS: Mapping[str, Key] = {
    name: key for name, key in {**JOB_KEYS, **OPTIONS}.items() if name not in _OF_ONE_JOB
}
#: Keys whose values in several files add up.
MERGED = ("envs", "secrets")
#: What holds where nothing is said.
DEFAULTS = {
    "framework": "torchrun",
    "master_port": "20000-32000",
    "grace": "10s",
    "max_restarts": "0",
    "pull_every": "30s",
    "lost_after": "5m",
    "stall_timeout": "10m",
    "on_stall": "report",
    "check": "true",
    "detach": "false",
    "raw": "false",
}
#: Keys by which a file that somebody else wrote could surprise its user: they decide what runs here or
#: on hosts (``LD_PRELOAD`` under ``envs``, too), send the user's files or values of the environment, or
#: let hosts control the terminal.
DELICATE = (
    "data",
    "environment",
    "envs",
    "notify",
    "output_credential",
    "output_to",
    "output_unattended",
    "outputs",
    "prepare",
    "python",
    "raw",
    "secrets",
    "setup",
    "stdin",
)
#: Those of a job file, which its user has named: only they have an effect on this machine.
DELICATE_IN_A_JOB = ("notify", "raw")


@frozen
class Setting:
    """A value in a file: as it is read and as it is written; the first of its lines, and their text."""

    value: Any
    written: Any
    line: int
    text: str


def load(content: str, source: str) -> dict[str, Setting]:
    """Return the settings in a file, by key. Raises DocumentError."""
    if not any(_says_something(line) for line in content.splitlines()):
        return {}
    root = parse(content, source)
    values, nodes = _read(root)
    return {name: _setting(content, values[name], *nodes[name]) for name in values}


def load_pyproject(content: str, source: str) -> dict[str, Setting] | None:
    """Return the settings below ``[tool.launcher]``, by key; None without it. Raises DocumentError."""
    if not _MAY_HAVE_TABLE.search(content):
        return None
    root = table(content, source, ("tool", "launcher"))
    if root is None:
        return None
    values, nodes = _read(root)
    return {name: _setting_in_toml(values[name], *nodes[name]) for name in values}


def _read(root: YamlNode) -> tuple[dict[str, Any], dict[str, tuple[YamlNode, YamlNode]]]:
    """Return values by key, and the nodes of key and value."""
    try:
        values = read(root, KEYS, "settings")
    except DocumentError as error:
        raise _explained(error) from None
    nodes = {name: (key, value) for name, key, value in root.items()}
    if "framework" in values:
        _check_framework(values["framework"], nodes["framework"][1])
    return values, nodes


def in_a_job(content: str, source: str) -> dict[str, Setting]:
    """Return the options of a run that a job file holds, by key; the file is known to be valid."""
    root = parse(content, source)
    return {
        name: _setting(content, OPTIONS[name].read(value), key, value)
        for name, key, value in root.items()
        if name in OPTIONS
    }


def is_delicate(name: str, value: Any, names: tuple[str, ...] = DELICATE) -> bool:
    """Return whether a setting needs its user's word if the file may be somebody else's."""
    if name == "notify":
        return name in names and any(one not in ("desktop", "bell") for one in value)
    if name == "outputs":  # where they go elsewhere, or bring what is not the run's
        far = isinstance(value, Mapping) or any(map(is_elsewhere, value))
        return name in names and far
    return name in names and value is not False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of settings, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "launcher settings",
        **mapping_schema(KEYS),
    }


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _explained(error: DocumentError) -> DocumentError:
    """Return the error, with a hint for keys that people expect, and for those of one job."""
    for name in (*_OF_ONE_JOB, *foreign_terms.KEYS):
        if error.message.startswith(f'unknown key "{name}"'):
            one = f"{name}: belongs into a job file; settings hold for all runs"
            hint = one if name in _OF_ONE_JOB else foreign_terms.KEYS[name]
            return DocumentError(error.message, hint, error.source, error.line)
    return error


def _check_framework(name: str, node: YamlNode) -> None:
    try:
        frameworks.get(name)
    except InputError as error:
        raise node.error(error.message, error.hint) from None


def _setting(content: str, value: Any, key: YamlNode, node: YamlNode) -> Setting:
    return Setting(value, _written(node.yaml), key.line, _text(content, key, node))


def _setting_in_toml(value: Any, key: YamlNode, node: YamlNode) -> Setting:
    """Return a setting whose text is its whole value, however many lines it takes in the file."""
    written = _written(node.yaml)
    text = f"{key.yaml.value} = {json.dumps(written, ensure_ascii=False)}"
    return Setting(value, written, key.line, text)


def _written(node: yaml.Node) -> Any:
    """Return a value with all of its scalars as they are written."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _written(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_written(one) for one in node.value]
    return str(node.value)


def _text(content: str, key: YamlNode, value: YamlNode) -> str:
    """Return the lines of a file that a key and its value take."""
    end = value.yaml.end_mark
    last = end.line + (1 if end.column else 0)
    return "\n".join(content.splitlines()[key.line - 1 : max(last, key.line)]).rstrip()
