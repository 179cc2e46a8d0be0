"""What values a sweep takes, and which trials that makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.jobs import matrix
from launcher.jobs.matrix import Choice, Trial, Uniform
from launcher.spec.errors import InputError


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("[0.1, 0.01]", Choice(("0.1", "0.01"))),
        ("['a b', \"c,d\"]", Choice(("a b", "c,d"))),
        ("[[1, 2], [3]]", Choice(("[1, 2]", "[3]"))),
        ("range(3)", Choice(("0", "1", "2"))),
        ("range(1, 2, 0.25)", Choice(("1", "1.25", "1.5", "1.75"))),
        ("range(5, 1, -2)", Choice(("5", "3"))),
        ("choice(adam, sgd)", Choice(("adam", "sgd"))),
        ("uniform(0, 1)", Uniform(0.0, 1.0)),
        ("log_uniform(1e-5, 1e-1)", Uniform(1e-5, 1e-1, log=True)),
        ("0.1", None),
        ("a,b", None),
        ("random(3)", None),
    ],
)
def test_a_text(text: str, space: matrix.Space | None) -> None:
    assert matrix.space(text) == space


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "no value"),
        ("[1, 1]", "stands twice"),
        ("[1,,2]", "missing between two commas"),
        ("['a]", "not closed"),
        ("range(0)", "without a value"),
        ("range(1, 5, 0)", "without a value"),
        ("range(10000000)", "at most 100,000"),
        ("range(a)", "not a number"),
        ("uniform(1, nan)", "not a number"),
        ("uniform(1)", "least and the greatest"),
        ("uniform(2, 1)", "least and the greatest"),
        ("log_uniform(0, 1)", "above 0"),
    ],
)
def test_what_cannot_be_used(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        matrix.space(text)


def test_hydras_commas() -> None:
    assert matrix.override("0.1,0.01") == Choice(("0.1", "0.01"))
    assert matrix.override("choice(a,b)") == Choice(("a", "b"))
    assert matrix.override("[1,2],[3]") == Choice(("[1,2]", "[3]"))
    assert matrix.override("0.1") is None
    assert matrix.override("{a: 1, b: 2}") is None


TWO = {"lr": Choice(("0.1", "0.01")), "bs": Choice(("32", "64"))}


def test_a_grid_varies_the_last_parameter_fastest() -> None:
    found = [tuple(trial.params.values()) for trial in matrix.trials(TWO, "grid", None, 0)]
    assert found == [("0.1", "32"), ("0.1", "64"), ("0.01", "32"), ("0.01", "64")]
    assert len(matrix.trials(TWO, "grid", 3, 0)) == 3


def test_the_same_seed_draws_the_same_trials_none_twice() -> None:
    free = {**TWO, "x": Uniform(1e-5, 1.0, log=True)}
    one, again = (matrix.trials(free, "random", 30, 7) for _ in range(2))
    assert one == again != matrix.trials(free, "random", 30, 8)
    assert len({trial.id for trial in one}) == 30
    assert all(1e-5 <= float(trial.params["x"]) <= 1.0 for trial in one)
    assert len(matrix.trials(TWO, "random", 100, 0)) == 4, "a finite matrix has no more"


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 81), st.integers(0, 9))
def test_random_trials_of_a_finite_matrix(a: int, b: int, most: int, seed: int) -> None:
    values = {"a": matrix.choice([str(n) for n in range(a)])}
    values["b"] = matrix.choice([str(n) for n in range(b)])
    found = matrix.trials(values, "random", most, seed)
    assert len({trial.id for trial in found}) == len(found) == min(most, a * b)


@pytest.mark.parametrize(
    ("sampler", "most", "problem"),
    [("grid", None, "x may be any number"), ("random", None, "how many trials")],
)
def test_a_matrix_without_an_end(sampler: str, most: int | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        matrix.trials({"x": Uniform(0, 1)}, sampler, most, 0)


def test_a_matrix_of_ten_million_is_refused_at_once() -> None:
    large = {name: matrix.called("range", ["10"]) for name in "abcdefg"}
    for sampler in ("grid", "random"):
        with pytest.raises(InputError, match="10,000,000 trials; a sweep has at most 10,000"):
            matrix.trials(large, sampler, None, 0)
    assert len(matrix.trials(large, "grid", 5, 0)) == 5
    assert len(matrix.trials(large, "random", 5, 0)) == 5


def test_a_trial_has_one_id_whatever_the_order() -> None:
    assert Trial({"a": "1", "b": "2"}).id == Trial({"b": "2", "a": "1"}).id
    assert Trial({"a": "1"}).id != Trial({"a": "1.0"}).id


def test_placeholders_and_variables() -> None:
    params = {"optimizer.lr": "0.1", "bs": "32"}
    text = r"--lr {{params.optimizer.lr}} {{ params.bs }} \{{params.bs}} {{rank}}"
    assert matrix.filled(text, params) == r"--lr 0.1 32 \{{params.bs}} {{rank}}"
    assert matrix.used([text]) == {"optimizer.lr", "bs"}
    assert matrix.variables(params) == {
        "LAUNCHER_PARAM_OPTIMIZER_LR": "0.1",
        "LAUNCHER_PARAM_BS": "32",
    }
