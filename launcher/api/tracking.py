"""Hand what runs have recorded to an MLflow server, from this machine: no host needs a way to it.

A run of ours is one run there, found again by its tag ``launcher.run``: what a server has is not sent
twice. See https://mlflow.org/docs/latest/ml/tracking/.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..records.catalog import Summary
from ..records.scalars import Key, Scalars
from ..spec.errors import InputError, LauncherError
from ..spec.frozen import frozen
from ..spec.home import home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

#: The tag with our name of a run.
TAG = "launcher.run"
#: What one request to a server may have: https://mlflow.org/docs/latest/api_reference/rest-api.html
_POINTS, _PARAMS, _LONGEST = 1000, 100, 6000
#: Characters of what MLflow complains of.
_COMPLAINT = 400
#: What names of metrics and parameters may not have, and how long they are.
_ODD, _NAME = re.compile(r"[^\w\-. :]"), 250
_ENDINGS = {"succeeded": "FINISHED", "stopped": "KILLED"}
#: MLflow tries a server that is gone for minutes, and prints addresses; what a user has set counts more.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@frozen
class Sent:
    """What a server got of a run: so many new points of curves. ``new`` says whether it knew nothing of
    the run before; ``where`` is the run's page there, or its id at a server without pages."""

    where: str
    new: bool
    points: int


class Tracking:
    """An experiment of an MLflow server, which is made if it is missing.

    Raises InputError without MLflow, and LauncherError if the server cannot be used.
    """

    def __init__(self, server: str, experiment: str) -> None:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow
        except ModuleNotFoundError as error:
            raise InputError(
                f"launcher mlflow needs {error.name} here", "pip install mlflow-skinny"
            ) from None
        self._server = without_password(server)
        self._errors = (mlflow.MlflowException, OSError, ValueError, ImportError)
        try:
            self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=server)
            known = self._client.get_experiment_by_name(experiment)
            if known is not None and known.lifecycle_stage != "active":
                raise InputError(
                    f"experiment {experiment} was deleted at {self._server}",
                    "restore it there, or name another one: --experiment NAME",
                )
            self._experiment: str = (
                known.experiment_id if known else self._client.create_experiment(experiment)
            )
        except self._errors as error:
            raise self._failed(error) from None

    def log(self, run: Summary, arguments: Sequence[str]) -> Sent:
        """Send a run's parameters, tags and curves as far as they have come here, and how it ended.

        ``arguments`` are its command's words after the script. Raises LauncherError.
        """
        try:
            there = self._known(run)
            if new := there is None:
                there = self._client.create_run(
                    self._experiment,
                    start_time=int(run.started * 1000),
                    tags=dict(_tags(run)),
                    run_name=run.run,
                )
            assert there
            key = there.info.run_id
            self._log_parameters(there, parameters(arguments))
            points = 0
            for batch in _batches(self._missing(there, run), _POINTS):
                self._client.log_batch(key, metrics=batch)
                points += len(batch)
            if run.seconds is not None and there.info.status == "RUNNING":
                self._client.set_tag(key, "launcher.reason", run.reason)
                end = int((run.started + run.seconds) * 1000)
                self._client.set_terminated(key, _ENDINGS.get(run.status, "FAILED"), end)
        except self._errors as error:
            raise self._failed(error) from None
        has_pages = self._server.startswith(("http://", "https://"))
        page = f"{self._server.rstrip('/')}/#/experiments/{self._experiment}/runs/{key}"
        return Sent(page if has_pages else key, new, points)

    def _known(self, run: Summary) -> Run | None:
        wanted = f"tags.`{TAG}` = '{run.run}'"
        found = self._client.search_runs([self._experiment], wanted, max_results=1)
        return found[0] if found else None

    def _log_parameters(self, there: Run, found: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        names = allowed_names(found)
        params = [
            Param(names[name], value[:_LONGEST] or "''")
            for name, value in found.items()
            if names[name] not in there.data.params
        ]
        for batch in _batches(params, _PARAMS):
            self._client.log_batch(there.info.run_id, params=batch)

    def _missing(self, there: Run, run: Summary) -> Iterator[Metric]:
        """Yield the points of a run that its server lacks."""
        from mlflow.entities import Metric

        curves = Scalars(home() / "runs" / run.run)
        while not curves.look():
            pass
        named = _named(curves)
        names = allowed_names(named.values())
        for one, series in curves.series.items():
            name, known = names[named[one]], set()
            if name in there.data.metrics:
                history = self._client.get_metric_history(there.info.run_id, name)
                known = {(point.step, point.timestamp) for point in history}
            for step, time, value in series.at_most(series.count):
                moment = int((time or run.started) * 1000)
                if (step, moment) not in known:
                    yield Metric(name, value, moment, step)

    def _failed(self, error: Exception) -> LauncherError:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return LauncherError(
            f"{self._server}: {without_password(first)[:_COMPLAINT]}",
            "check the address, and MLFLOW_TRACKING_TOKEN if the server wants one",
        )


def without_password(text: str) -> str:
    """Return a text with addresses in it without who asks them."""
    return re.sub(r"//\S*@", "//", text)


def allowed_names(found: Iterable[str]) -> dict[str, str]:
    """Return names as MLflow takes them, by what they were: of letters, digits and a few signs, with a
    slash between words only. One that would be the same as another gets a sum at its end."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for one in sorted(found, key=lambda one: (_allowed(one) != one, one)):
        name = _allowed(one)
        if name in used or len(name) > _NAME:
            name = f"{name[: _NAME - 9]}_{zlib.crc32(one.encode()):08x}"
        used.add(name)
        names[one] = name
    return names


def _allowed(name: str) -> str:
    parts = [_ODD.sub("_", part).strip() for part in name.split("/")]
    return "/".join(part for part in parts if part.strip(".")) or "_"


def parameters(words: Sequence[str]) -> dict[str, str]:
    """Return what a command line sets: ``--lr 0.1``, ``--lr=0.1`` and ``lr=0.1`` as ``lr``, an option
    without a value as ``yes``, other words by their place."""
    found: dict[str, str] = {}
    place, index = 1, 0
    while index < len(words):
        word = words[index]
        index += 1
        name, equals, value = word.partition("=")
        if equals:
            found[name.lstrip("-") or name] = value
        elif _is_option(word):
            takes = index < len(words) and not _is_option(words[index])
            found[word.lstrip("-") or word] = words[index] if takes else "yes"
            index += takes
        else:
            found[f"argument {place}"] = word
            place += 1
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and not _is_number(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _tags(run: Summary) -> Iterator[tuple[str, str]]:
    values: dict[str, Any] = {
        TAG: run.run,
        "launcher.command": run.command,
        "launcher.hosts": " ".join(run.hosts),
        "launcher.ranks": run.ranks,
        "launcher.tags": " ".join(run.tags),
        "launcher.project": run.project,
        "mlflow.note.content": run.note,
        "mlflow.source.git.commit": run.commit.removesuffix("+"),
    }
    for name, value in values.items():
        if value:
            yield name, str(value)[:_LONGEST]


def _named(curves: Scalars) -> Mapping[Key, str]:
    """Return what each curve is called: its tag, and its source, too, where several have the tag."""
    count = Counter(key.tag for key in curves.series)
    return {
        key: key.tag if count[key.tag] == 1 else f"{key.tag}/{key.source or 'outputs'}"
        for key in curves.series
    }


def _batches(all_of_them: Iterable[T], most: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for one in all_of_them:
        batch.append(one)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
