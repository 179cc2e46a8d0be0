"""Hand what runs have recorded to an MLflow server, from this machine: no host needs a way to it.

A run of ours is one run there, found again by its tag ``launcher.run``: what a server has is not sent
twice. See https://mlflow.org/docs/latest/ml/tracking/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..records.catalog import Summary
from ..records.run_folder import home
from ..records.scalars import Scalars
from ..spec.errors import InputError, LauncherError
from ..spec.frozen import frozen

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
#: What names of metrics and parameters may not have.
_ODD = re.compile(r"[^\w\-./ :]", re.ASCII)
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
        self._server, self._errors = without_password(server), (mlflow.MlflowException, OSError)
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=server)
        try:
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
                self._log_parameters(there.info.run_id, parameters(arguments))
            assert there
            key = there.info.run_id
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

    def _log_parameters(self, key: str, found: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [
            Param(_ODD.sub("_", name), value[:_LONGEST] or "''") for name, value in found.items()
        ]
        for batch in _batches(params, _PARAMS):
            self._client.log_batch(key, params=batch)

    def _missing(self, there: Run, run: Summary) -> Iterator[Metric]:
        """Yield the points of a run that its server lacks."""
        from mlflow.entities import Metric

        curves = Scalars(home() / "runs" / run.run)
        while not curves.look():
            pass
        sources = _sources(curves)
        for one, series in curves.series.items():
            name = one.tag if len(sources[one.tag]) == 1 else f"{one.tag}/{one.source or 'outputs'}"
            name = _ODD.sub("_", name)
            known = set()
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
            "does it answer? see its address, and MLFLOW_TRACKING_TOKEN",
        )


def without_password(server: str) -> str:
    """Return the address of a server, or a text with some, without who asks it."""
    return re.sub(r"//[^/@\s]*@", "//", server)


def parameters(words: Sequence[str]) -> dict[str, str]:
    """Return what a command line sets: ``--lr 0.1``, ``--lr=0.1`` and ``lr=0.1`` as ``lr``, an option
    without a value as ``yes``, other words by their place. The pages of the console read it alike
    (``parameters`` in compare.js)."""
    found: dict[str, str] = {}
    place, index = 1, 0
    while index < len(words):
        word = words[index]
        index += 1
        name, equals, value = word.partition("=")
        if equals:
            found[name.lstrip("-")] = value
        elif word.startswith("-") and not _is_number(word):
            takes = index < len(words) and not words[index].startswith("--")
            found[name.lstrip("-")] = words[index] if takes else "yes"
            index += takes
        else:
            found[f"argument {place}"] = word
            place += 1
    return found


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


def _sources(curves: Scalars) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in curves.series:
        found.setdefault(key.tag, set()).add(key.source)
    return found


def _batches(all_of_them: Iterable[T], most: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for one in all_of_them:
        batch.append(one)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
