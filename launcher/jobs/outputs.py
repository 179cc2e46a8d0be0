"""Reads ``outputs:`` of a job file: paths, or where they go as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from ..spec import credentials, data
from ..spec.errors import InputError
from ..spec.model import Checkpoints, is_elsewhere
from ..spec.yaml_document import SCALAR, TEXT, TEXTS, Key, YamlNode, checked, read, texts, truth
from ..spec.yaml_document import schema as mapping_schema
from .durations import more_than_nothing
from .run_options import SETTINGS

#: Folders that hosts do not bring: what is there are no files, or all files.
_NO_FILES = ("/proc", "/sys", "/dev")
#: Seconds between two checkpoints where nothing is said.
EVERY = 600.0


def _paths(node: YamlNode) -> tuple[str, ...]:
    paths = texts(node)
    for path in paths:
        if why := _why_not(path):
            raise node.error(f"output {path!r} {why[0]}", why[1])
    return paths


def check(paths: Iterable[str]) -> None:
    """Raise InputError for a path of ``--output`` that no host could bring."""
    for path in paths:
        if why := _why_not(path):
            raise InputError(f"--output {path!r} {why[0]}", why[1])


def _why_not(path: str) -> tuple[str, str] | None:
    """Return why a path cannot be an output, and what to do; None for one that can be."""
    parts = path.split("/")
    if ".." in parts:
        return (
            "is outside the workdir",
            "write below the workdir, or to $LAUNCHER_OUTPUT_DIR, which is '{{outputs}}' in arguments",
        )
    if not is_elsewhere(path):
        return None
    if parts[0] not in ("", "~"):
        return ("names the home of a user", "write the whole path, or ~/ for your own home")
    below = [part for part in parts[1:] if part and part != "."]
    if not below or any(sign in below[0] for sign in "*?["):
        return ("is too much: all files of a host", "name the folder that the run writes to")
    if not parts[0] and f"/{below[0]}" in _NO_FILES:
        return (f"is in /{below[0]}, which has no files", "name a folder with files")
    return None


def check_credential(credential: str, store: str, layer: str) -> None:
    """Raise InputError for a credential for outputs that a job sends nowhere; settings may name one, as
    they hold for other runs, too."""
    if credential and not store and layer not in SETTINGS:
        where = "--output-credential" if layer == "flag" else "output_credential"
        message = f"{credential} is for a store, and outputs go to none"
        raise credentials.problem(
            credential, where, message, "--output-to s3://BUCKET/PATH, or outputs: {to: ...}"
        )


def _path(node: YamlNode) -> str:
    (path,) = _paths(node) or ("",)
    if not path.strip("./"):
        raise node.error("no path of checkpoints", "name a folder or a pattern: ckpt, '*.pt'")
    if is_elsewhere(path):
        raise node.error(
            f"checkpoints {path!r} are outside the workdir", "write them below it: ckpt, '*.pt'"
        )
    return path


_OF_CHECKPOINTS: Mapping[str, Key] = {
    "path": Key(_path, TEXT, "Path or pattern in the workdir or in LAUNCHER_OUTPUT_DIR"),
    "every": Key(checked(more_than_nothing), SCALAR, "How often they are kept (default: 10m)"),
}


def read_checkpoints(node: YamlNode) -> Checkpoints:
    """Return which checkpoints are kept, and how often."""
    found = read(node, _OF_CHECKPOINTS, "checkpoints")
    if "path" not in found:
        raise node.error("checkpoints: has no path", "such as {path: ckpt, every: 10m}")
    return Checkpoints(found["path"], found.get("every", EVERY))


CHECKPOINTS_SCHEMA = mapping_schema(_OF_CHECKPOINTS)
_KEYS: Mapping[str, Key] = {
    "paths": Key(
        _paths, TEXTS, "Paths of the workdir, /abs or ~/path, besides LAUNCHER_OUTPUT_DIR"
    ),
    "to": Key(
        checked(data.target),
        TEXT,
        "Store that gets them at the end: s3://bucket/path, gs:// or az://",
    ),
    "credential": Key(
        credentials.read_name,
        TEXT,
        "Name of the credential for this store, as `launcher credential` keeps it",
    ),
    "checkpoints": Key(
        read_checkpoints,
        CHECKPOINTS_SCHEMA,
        "Those that are kept every so often, all files or none",
    ),
    "unattended": Key(
        truth,
        {"type": "boolean"},
        "Whether hosts store them when no launcher is in touch at the end (default: true)",
    ),
    "pull": Key(truth, {"type": "boolean"}, "Whether they come back here, too (default: true)"),
}
SCHEMA: Mapping[str, Any] = {"oneOf": [*TEXTS["oneOf"], mapping_schema(_KEYS)]}


def read_outputs(node: YamlNode) -> tuple[str, ...] | dict[str, Any]:
    """Return paths, or what a mapping says of them."""
    if isinstance(node.yaml, yaml.MappingNode):
        return read(node, _KEYS, "outputs")
    return _paths(node)


def spread(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a layer, with a mapping of ``outputs`` as the keys that it stands for, and
    checkpoints among the outputs."""
    found = dict(values)
    if isinstance(given := found.get("outputs"), Mapping):
        del found["outputs"]
        if "paths" in given:
            found["outputs"] = given["paths"]
        if "to" in given:
            found["output_to"] = given["to"]
        if "credential" in given:
            found["output_credential"] = given["credential"]
        if "unattended" in given:
            found["output_unattended"] = given["unattended"]
        if "checkpoints" in given:
            found["checkpoints"] = given["checkpoints"]
        if given.get("pull") is False:
            found["keep_on_host"] = ("*",)
    kept = found.get("checkpoints")
    if isinstance(kept, Checkpoints):
        found["outputs"] = tuple(dict.fromkeys([*found.get("outputs", ()), kept.path]))
    return found
