"""A study of Optuna's: which trial comes next, and which one falls behind. It asks and tells, in memory.

The sweep's folder is what is kept: a study is made anew from the trials that it holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..jobs.matrix import Choice, Matrix, Trial
from ..jobs.sweep_file import Settings
from ..records.sweep_folder import PRUNED, SUCCEEDED, TrialRecord
from ..spec.errors import InputError
from ..spec.version import installs

if TYPE_CHECKING:
    import optuna

#: How often a sampler may propose a trial that was there already before the values count as used up.
TRIES = 200
#: Hyperband draws the bracket of a trial from this name and its number: the same sweep, the same trials.
NAME = "launcher"


class Study:
    """What a sampler and a pruner know of the trials of one sweep. Raises InputError without Optuna."""

    def __init__(self, matrix: Matrix, settings: Settings, known: Iterable[TrialRecord]) -> None:
        self._optuna = _imported(settings)
        self._spaces = {name: self._space(space) for name, space in matrix.items()}
        self._study = self._optuna.create_study(
            study_name=NAME,
            direction="minimize" if settings.goal == "min" else "maximize",
            sampler=self._sampler(settings),
            pruner=self._pruner(settings),
        )
        self._live: dict[str, optuna.Trial] = {}
        self._steps: dict[str, int] = {}
        self._seen: dict[str, float | None] = {}
        for record in known:
            self._remember(matrix, record)

    def ask(self) -> Trial | None:
        """Return a trial that was not there yet; None when all values are used up."""
        for _ in range(TRIES):
            asked = self._study.ask(self._spaces)
            trial = Trial({name: _written(value) for name, value in asked.params.items()})
            if trial.id not in self._seen:
                self._take(trial, asked)
                return trial
            value = self._seen[trial.id]
            self._end(asked, value)
        return None

    def begin(self, trial: Trial) -> None:
        """Take note of a trial that was chosen elsewhere."""
        if trial.id not in self._live:
            spaces = self._spaces.items()
            params = {name: _read(space, trial.params[name]) for name, space in spaces}
            self._study.enqueue_trial(params)
            self._take(trial, self._study.ask(self._spaces))

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Take note of how well a trial does; return whether it falls behind and is to be stopped."""
        live = self._live[trial.id]
        if step <= self._steps.get(trial.id, -1):
            return False
        self._steps[trial.id] = step
        live.report(value, step)
        return live.should_prune()

    def tell(self, trial: Trial, status: str, value: float | None) -> None:
        """Take note of how a trial ended."""
        live = self._live.pop(trial.id, None)
        if live is None:
            return
        self._seen[trial.id] = value
        if status == PRUNED:
            self._study.tell(live, state=self._optuna.trial.TrialState.PRUNED)
        else:
            self._end(live, value if status == SUCCEEDED else None)

    # -- Optuna's own

    def _take(self, trial: Trial, asked: optuna.Trial) -> None:
        self._live[trial.id], self._seen[trial.id] = asked, None
        self._steps.pop(trial.id, None)

    def _end(self, live: optuna.Trial, value: float | None) -> None:
        if value is None:
            self._study.tell(live, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(live, value)

    def _remember(self, matrix: Matrix, record: TrialRecord) -> None:
        if record.status not in (SUCCEEDED, PRUNED) or set(record.params) != set(matrix):
            return
        self._seen[record.id] = record.value
        if record.value is None:
            return
        states = self._optuna.trial.TrialState
        pruned = record.status == PRUNED
        try:
            params = {name: _read(one, record.params[name]) for name, one in self._spaces.items()}
            told = self._optuna.trial.create_trial(
                params=params,
                distributions=self._spaces,
                state=states.PRUNED if pruned else states.COMPLETE,
                value=None if pruned else record.value,
                intermediate_values={0: record.value} if pruned else {},
            )
        except ValueError:  # the values that are allowed are others now
            return
        self._study.add_trial(told)

    def _space(self, space: Any) -> Any:
        kinds = self._optuna.distributions
        if isinstance(space, Choice):
            return kinds.CategoricalDistribution(space.values)
        return kinds.FloatDistribution(space.low, space.high, log=space.log)

    def _sampler(self, settings: Settings) -> Any:
        samplers = self._optuna.samplers
        if settings.sampler != "tpe":
            return samplers.RandomSampler(seed=settings.seed)
        return samplers.TPESampler(seed=settings.seed, constant_liar=True)

    def _pruner(self, settings: Settings) -> Any:
        pruners = self._optuna.pruners
        known = {
            "median": pruners.MedianPruner,
            "asha": pruners.SuccessiveHalvingPruner,
            "hyperband": pruners.HyperbandPruner,
        }
        return known.get(settings.pruner or "", pruners.NopPruner)()


def is_needed(settings: Settings) -> bool:
    """Return whether a sweep needs a study."""
    return settings.pruner is not None or settings.sampler == "tpe"


def _imported(settings: Settings) -> Any:
    try:
        import optuna
    except ImportError:
        what = f"pruner: {settings.pruner}" if settings.pruner else "sampler: tpe"
        raise InputError(
            f"{what} needs Optuna, which is not installed here",
            f"{installs('sweep')}, or 'optuna>=5,<6'",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _read(space: Any, text: str) -> Any:
    return text if hasattr(space, "choices") else float(text)
