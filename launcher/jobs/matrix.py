"""The parameters of a sweep: what values each may take, and which trials that makes. Pure."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from ..spec.errors import InputError
from ..spec.frozen import frozen

#: The most trials of a sweep: each is a run with a folder, and nobody reads a longer table.
MOST_TRIALS = 10_000
#: The most values of one parameter.
MOST_VALUES = 100_000

_PARAMETER = re.compile(r"[A-Za-z_][\w.-]*\Z")
_CALL = re.compile(r"(range|uniform|log_uniform|choice)\((.*)\)\Z", re.DOTALL)
_USE = re.compile(r"(\\?)\{\{\s*params\.([\w.-]+)\s*\}\}")


@frozen
class Choice:
    """One of these values, as they are written."""

    values: tuple[str, ...]

    def draw(self, dice: random.Random) -> str:
        """Return one of them at random."""
        return dice.choice(self.values)


@frozen
class Uniform:
    """Any number from ``low`` to ``high``; with ``log``, each order of magnitude is as likely."""

    low: float
    high: float
    log: bool = False

    def draw(self, dice: random.Random) -> str:
        """Return one of them at random, with six significant digits."""
        if self.log:
            value = math.exp(dice.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = dice.uniform(self.low, self.high)
        return f"{value:.6g}"


Space = Choice | Uniform
#: The spaces of all parameters by name, in the order in which they are written.
Matrix = Mapping[str, Space]
#: The values of one trial, by the names of their parameters.
Params = Mapping[str, str]


# -- reading


def space(text: str) -> Space | None:
    """Return what a text such as ``[0.1, 0.01]``, ``range(1, 5)`` or ``log_uniform(1e-5, 1e-1)`` names.

    None if it is a single value. Raises ValueError.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]") and len(_split(text)) == 1:
        return choice(_split(text[1:-1]))
    call = _CALL.match(text)
    return called(call[1], _split(call[2])) if call else None


def override(text: str) -> Space | None:
    """Return what the value of Hydra's ``name=0.1,0.01`` names; None if it is a single value.

    Raises ValueError.
    """
    found = space(text)
    parts = _split(text) if found is None and not text.startswith(("{", "'", '"')) else []
    return choice(parts) if len(parts) > 1 else found


def called(function: str, words: Sequence[str]) -> Space:
    """Return the space of ``range``, ``uniform``, ``log_uniform`` or ``choice``. Raises ValueError."""
    if function == "choice":
        return choice(words)
    numbers = [_number(word) for word in words]
    if function == "range":
        return _range(numbers)
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError(f"{function} takes the least and the greatest value")
    if function == "log_uniform" and numbers[0] <= 0:
        raise ValueError("log_uniform takes values above 0")
    return Uniform(numbers[0], numbers[1], log=function == "log_uniform")


def choice(values: Sequence[str]) -> Choice:
    """Return a choice of values. Raises ValueError for none, or one that stands twice."""
    if not values:
        raise ValueError("there is no value to choose")
    if len(values) > MOST_VALUES:
        raise ValueError(f"{len(values):,} values; at most {MOST_VALUES:,}")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{twice!r} stands twice")
    return Choice(tuple(values))


def check_name(name: str) -> None:
    """Raise ValueError unless ``name`` can be that of a parameter."""
    if not _PARAMETER.match(name):
        raise ValueError(f"{name!r} cannot be a parameter: use letters, digits, '_', '.' and '-'")


def _range(numbers: Sequence[float]) -> Choice:
    if not 1 <= len(numbers) <= 3:
        raise ValueError("range takes an end, or a start, an end and a step")
    start, end = (0.0, numbers[0]) if len(numbers) == 1 else numbers[:2]
    step = numbers[2] if len(numbers) == 3 else 1.0
    if step == 0 or (end - start) / step <= 0:
        raise ValueError("a range without a value")
    count = math.ceil((end - start) / step - 1e-9)
    if count > MOST_VALUES:
        raise ValueError(f"{count:,} values; at most {MOST_VALUES:,}")
    return Choice(tuple(f"{start + step * i:.10g}" for i in range(count)))


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{word!r} is not a number")
    return number


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets and quotes; quotes around a whole value are dropped."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    if quote or depth:
        raise ValueError("a bracket or a quote is not closed")
    stripped = [part.strip() for part in parts]
    if stripped == [""]:
        return []
    if "" in stripped:
        raise ValueError("a value is missing between two commas")
    return [part[1:-1] if _is_quoted(part) else part for part in stripped]


def _is_quoted(part: str) -> bool:
    return len(part) > 1 and part[0] in "'\"" and part[0] == part[-1]


# -- trials


@frozen
class Trial:
    """One set of values. Its ``id`` says which, whatever the order of the parameters."""

    params: Params

    @property
    def id(self) -> str:
        """Eight hexadecimal digits: a hash of the values."""
        text = json.dumps(dict(sorted(self.params.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def size(matrix: Matrix) -> int | None:
    """Return how many trials a grid has; None where a parameter takes any number."""
    count = 1
    for one in matrix.values():
        if isinstance(one, Uniform):
            return None
        count *= len(one.values)
    return count


def trials(matrix: Matrix, sampler: str, most: int | None, seed: int) -> list[Trial]:
    """Return the trials of a sweep, at most ``most``: all of a ``grid``, or so many at ``random``.

    The same seed draws the same trials, none of them twice. Raises InputError.
    """
    whole = size(matrix)
    if sampler == "grid":
        if whole is None:
            free = next(name for name, one in matrix.items() if isinstance(one, Uniform))
            raise InputError(
                f"{free} may be any number, and a grid takes each value once",
                "sampler: random and max_trials: 20, or list the values",
            )
        check_count(min(whole, most or whole))
        return list(itertools.islice(_grid(matrix), most))
    count = most or whole
    if count is None:
        raise InputError("nothing says how many trials there are", "set max_trials, such as 20")
    count = min(count, whole or count)
    check_count(count)
    return _drawn(matrix, count, random.Random(seed))


def _grid(matrix: Matrix) -> Iterator[Trial]:
    """Vary the last parameter fastest, as nested loops do."""
    values = [one.values for one in matrix.values() if isinstance(one, Choice)]
    for combination in itertools.product(*values):
        yield Trial(dict(zip(matrix, combination, strict=True)))


def _drawn(matrix: Matrix, count: int, dice: random.Random) -> list[Trial]:
    whole = size(matrix)
    if whole is not None and count * 2 > whole:  # drawing would meet the same again and again
        every = list(_grid(matrix)) if whole <= MOST_TRIALS * 2 else []
        return dice.sample(every, count)
    found: dict[str, Trial] = {}
    while len(found) < count:
        trial = Trial({name: one.draw(dice) for name, one in matrix.items()})
        found.setdefault(trial.id, trial)
    return list(found.values())


def check_count(count: int) -> None:
    """Raise InputError for more trials than a sweep has."""
    if count > MOST_TRIALS:
        raise InputError(
            f"{count:,} trials; a sweep has at most {MOST_TRIALS:,}",
            "give fewer values, or set max_trials",
        )


# -- using them


def used(texts: Sequence[str]) -> set[str]:
    """Return the parameters that texts name as ``{{params.NAME}}``."""
    return {match[2] for text in texts for match in _USE.finditer(text) if not match[1]}


def filled(text: str, params: Params) -> str:
    """Return a text with each ``{{params.NAME}}`` filled in. Raises KeyError for an unknown one."""
    return _USE.sub(lambda match: match[0] if match[1] else params[match[2]], text)


def variables(params: Params) -> dict[str, str]:
    """Return the environment variables of a trial: ``LAUNCHER_PARAM_LR`` for ``lr``."""
    return {
        f"LAUNCHER_PARAM_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}": value
        for name, value in params.items()
    }
