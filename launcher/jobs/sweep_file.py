"""Read a sweep: a job file with ``matrix:`` and ``sweep:``, or words with several values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from ..spec.errors import DocumentError, InputError
from ..spec.frozen import frozen
from ..spec.model import Role
from ..spec.yaml_document import (
    SCALAR,
    TEXT,
    Key,
    YamlNode,
    checked,
    parse,
    read,
    text,
    texts,
    whole,
    whole_number,
)
from ..spec.yaml_document import schema as mapping_schema
from . import job_file, matrix
from .matrix import Matrix, Params, size

SAMPLERS = ("grid", "random", "tpe")
PRUNERS = ("median", "asha", "hyperband")
GOALS = ("min", "max")
#: How a metric begins that is a scalar of TensorBoard.
SCALAR_OF = "scalar:"
#: The functions that ``matrix:`` knows, also as ``{log_uniform: [1e-5, 1e-1]}``.
_FUNCTIONS = ("choice", "range", "uniform", "log_uniform")
#: Options of the script: ``--lr=[...]``; or, as Hydra has them, ``lr=0.1,0.01``.
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)\Z")
_ASSIGNED = re.compile(r"(--?)?([A-Za-z_][\w.-]*)=(.*)\Z", re.DOTALL)


@frozen
class Settings:
    """How a sweep goes through its trials.

    ``metric`` is a pattern with one group, whose last match in the logs is the value of a trial, or
    ``scalar:TAG``, a scalar of TensorBoard; ``goal`` is which values are better. ``sampler`` None takes
    a grid where there is one. A ``pruner`` stops trials that do worse than others at one step. After
    ``max_failures`` failed trials no other one starts: a number, or a part of all trials below 1.
    """

    sampler: str | None = None
    metric: str | None = None
    goal: str = "max"
    max_trials: int | None = None
    concurrency: int | None = None
    seed: int = 0
    max_failures: float | None = None
    pruner: str | None = None


@frozen
class Sweep:
    """A sweep as it is written: the values of its job, parameters and settings."""

    values: Mapping[str, Any]
    matrix: Matrix
    settings: Settings
    matrix_at: tuple[str, int] = ("", 0)
    """The file and line of the matrix, if it is from a file."""


# -- a file


def metric(value: str) -> str:
    """Return a pattern that has one group, or a scalar of TensorBoard. Raises ValueError."""
    if value.startswith(SCALAR_OF):
        if not value.removeprefix(SCALAR_OF):
            raise ValueError("which scalar? scalar:val/loss")
        return value
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    if groups != 1:
        raise ValueError(
            f"{value!r} needs one group for the number, such as 'loss: ([0-9.]+)'; or scalar:val/loss, "
            "a scalar of TensorBoard"
        )
    return value


def check(settings: Settings, matrix: Matrix) -> None:
    """Raise InputError for settings that contradict each other."""
    needs = settings.pruner or (settings.sampler if settings.sampler == "tpe" else None)
    if needs and settings.metric is None:
        raise InputError(
            f"{needs} needs a metric to compare trials by",
            "metric: 'loss: ([0-9.]+)', or metric: scalar:val/loss",
        )
    if settings.sampler == "tpe" and settings.max_trials is None and size(matrix) is None:
        raise InputError("nothing says how many trials there are", "set max_trials, such as 20")


def failures(value: str) -> float:
    """Return ``10`` as a number, and ``20%`` as a part of all trials. Raises ValueError."""
    number, percent, rest = value.partition("%")
    if rest or not number.isdecimal() or (percent and not 0 < int(number) < 100):
        raise ValueError(f"not a number of failures: {value!r} (3, or 20%)")
    return int(number) / 100 if percent else float(number)


def one_of(names: Sequence[str]) -> Any:
    """Return a reader of one of these words."""

    def convert(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is none of {', '.join(names)}")
        return value

    return checked(convert)


_SETTINGS: Mapping[str, Key] = {
    "sampler": Key(one_of(SAMPLERS), {"enum": list(SAMPLERS)}, "Which trials (default: grid)"),
    "pruner": Key(one_of(PRUNERS), {"enum": list(PRUNERS)}, "Stop trials that fall behind"),
    "metric": Key(
        checked(metric),
        TEXT,
        "Pattern of the value that a trial prints, 'loss: ([0-9.]+)', or scalar:TAG of TensorBoard",
    ),
    "goal": Key(one_of(GOALS), {"enum": list(GOALS)}, "Which values are better (default: max)"),
    "max_trials": Key(whole_number(1), whole(1), "At most so many trials"),
    "concurrency": Key(whole_number(1), whole(1), "Trials at the same time (default: as fit)"),
    "seed": Key(whole_number(0), whole(0), "Draws the same trials again (default: 0)"),
    "max_failures": Key(
        checked(failures), SCALAR, "Start no more trials after so many failed: 3, or 20%"
    ),
}
_SPACE = {"oneOf": [SCALAR, {"type": "array", "items": SCALAR}, {"type": "object"}]}
#: The keys that make a job file a sweep.
_KEYS: Mapping[str, Any] = {
    "matrix": {
        "type": "object",
        "additionalProperties": _SPACE,
        "description": "Parameters of a sweep and their values: `launcher sweep FILE`",
    },
    "sweep": {**mapping_schema(_SETTINGS), "description": "How a sweep goes through its trials"},
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, with the keys of a sweep, for editors."""
    job = job_file.json_schema()
    return {**job, "properties": {**job["properties"], **_KEYS}}


def load(content: str, source: str) -> Sweep:
    """Return the sweep of a job file. Raises DocumentError."""
    root = parse(content, source)
    items = {name: value for name, _, value in root.items("a mapping")}
    if "matrix" not in items:
        raise root.error('the job has no "matrix"', "matrix: {lr: [0.1, 0.01]}")
    job = [(key, value) for key, value in root.yaml.value if key.value not in _KEYS]
    rest = yaml.MappingNode(root.yaml.tag, job, root.yaml.start_mark, root.yaml.end_mark)
    values = job_file.load_root(replace(root, yaml=rest), source)
    settings = read(items["sweep"], _SETTINGS, "sweep") if "sweep" in items else {}
    where = items["matrix"]
    found = Sweep(values, _matrix(where), Settings(**settings), (source, where.line))
    for name in sorted(matrix.used(_texts(values)) - found.matrix.keys()):
        raise where.error(
            f"{{{{params.{name}}}}} is used, and matrix: has no {name!r}",
            f"its parameters: {', '.join(found.matrix)}",
        )
    return found


def _matrix(node: YamlNode) -> Matrix:
    found: dict[str, matrix.Space] = {}
    for name, key_node, value in node.items("a mapping of parameters to their values"):
        try:
            matrix.check_name(name)
            found[name] = _space(value)
        except DocumentError:
            raise
        except ValueError as error:
            raise key_node.error(f"{name}: {error}", "such as [0.1, 0.01]") from None
    if not found:
        raise node.expected("a parameter and its values")
    return found


def _space(node: YamlNode) -> matrix.Space:
    if isinstance(node.yaml, yaml.SequenceNode):
        return matrix.choice(texts(node))
    if isinstance(node.yaml, yaml.MappingNode):
        calls = [(name, value) for name, _, value in node.items()]
        if len(calls) != 1 or calls[0][0] not in _FUNCTIONS:
            raise ValueError(f"one of {', '.join(_FUNCTIONS)} is expected here")
        return matrix.called(calls[0][0], texts(calls[0][1]))
    written = text(node)
    return matrix.space(written) or matrix.choice([written])


# -- a command line


def from_words(words: Sequence[str], texts: Sequence[str] = ()) -> tuple[tuple[str, ...], Matrix]:
    """Return a command with placeholders in place of its lists of values, and these.

    ``--lr '[0.1, 0.01]'``, ``--lr=[...]``, Hydra's ``lr=0.1,0.01`` and all functions of ``matrix:``
    are lists of values. Where a word or one of the other ``texts`` of the job has a place for them, as
    ``{{params.lr}}``, they only stand there. Raises InputError.
    """
    found: dict[str, matrix.Space] = {}
    command: list[str] = []
    placed = matrix.used((*words, *texts))
    for number, word in enumerate(words):
        option = _OPTION.match(words[number - 1]) if number else None
        assigned = _ASSIGNED.match(word) if number else None
        try:
            if assigned:
                name, head = assigned[2], word[: assigned.start(3)]
                one = (matrix.space if assigned[1] else matrix.override)(assigned[3])
            else:
                name, head = option[1] if option else "", ""
                one = matrix.space(word) if option else None
        except ValueError as error:
            raise InputError(f"{word}: {error}", "such as --lr '[0.1, 0.01]'") from None
        if one is None:
            command.append(word)
            continue
        if name in found:
            raise InputError(f"{name} has values twice", "give each parameter once")
        found[name] = one
        if name not in placed:
            command.append(f"{head}{{{{params.{name}}}}}")
        elif not assigned:
            command.pop()
    if unknown := sorted(placed - found.keys()):
        raise InputError(
            f"{{{{params.{unknown[0]}}}}} is used, and has no values",
            f"--{unknown[0]} '[0.1, 0.01]'",
        )
    if not found:
        raise InputError(
            "nothing varies: no argument has several values",
            "launcher sweep train.py --lr '[0.1, 0.01]'",
        )
    return tuple(command), found


# -- the values of one trial


def values_of(sweep: Sweep, params: Params) -> dict[str, Any]:
    """Return the values of the job of one trial.

    Every ``{{params.NAME}}`` is filled in; where a script is started and nothing names a parameter,
    they are added as arguments ``--NAME VALUE``. The environment has all of them.
    """
    values = dict(sweep.values)
    run = tuple(values.get("run", ()))
    if run and not matrix.used(_texts(values)) and values.get("framework") != "env":
        added = [word for name, value in params.items() for word in (f"--{name}", value)]
        run = (*run, *added) if len(run) > 1 else (f"{run[0]} {shlex.join(added)}",)
    if run:
        values["run"] = _filled(run, params)
    if "roles" in values:
        values["roles"] = tuple(
            replace(role, run=_filled(role.run, params)) if role.run else role
            for role in values["roles"]
        )
    envs = {name: matrix.filled(value, params) for name, value in values.get("envs", {}).items()}
    values["envs"] = {**envs, **matrix.variables(params)}
    return values


def _filled(run: Sequence[str], params: Params) -> tuple[str, ...]:
    if len(run) == 1:  # a shell script, or a text that is split as one
        params = {name: shlex.quote(value) for name, value in params.items()}
    return tuple(matrix.filled(word, params) for word in run)


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Return all texts of a job that may name a parameter."""
    roles: Sequence[Role] = values.get("roles", ())
    commands = [word for role in roles for word in role.run or ()]
    return [*values.get("run", ()), *commands, *values.get("envs", {}).values()]
