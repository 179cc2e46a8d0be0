"""Values of a job as a program gives them, where a file has text of which the reader is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..spec import given
from ..spec.errors import InputError
from ..spec.inventory import VARIABLE
from ..spec.model import Job, Resources

#: Fields that are read from mappings, or are not given.
_OTHERS = frozenset(
    {"resources", "environment", "checkpoints", "data", "roles", "output_credential", "sources"}
)
#: The least that a number may be, as a file says it in ``job_file``.
_LEAST = {"gpus": 0, "nproc_per_node": 1, "max_restarts": 0, "min_nodes": 1, "grace": 0}


def read(name: str, value: Any) -> Any:
    """Return the value of a field of a job. Raises InputError."""
    if name == "run":
        return given.command(value)
    if name == "envs":
        return _variables(value)
    if name == "secrets":
        return given.secrets(name, value)
    if name in _OTHERS:
        return value
    found = given.value(name, _kinds()[name], value)
    if name in _LEAST:
        given.require(name, found, _LEAST[name])
    return found


def resources(values: Mapping[str, Any]) -> Resources:
    """Return resources, whose names and types a program may have wrong. Raises ValueError."""
    try:
        found = given.values(Resources, values)
        for name in found.keys() & _LEAST.keys():
            given.require(name, found[name], _LEAST[name])
        return Resources(**found)
    except InputError as error:
        raise ValueError(error.message) from None


@cache
def _kinds() -> Mapping[str, Any]:
    return {**given.hints(Job), "num_nodes": int | str | None}


def _variables(value: Any) -> dict[str, str]:
    found = given.variables("envs", value)
    for name in found:
        if not VARIABLE.match(name):
            raise InputError(f"envs: {name!r} cannot be the name of an environment variable")
    return found
