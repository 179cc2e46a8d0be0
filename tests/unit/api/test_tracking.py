"""What of a run goes to an MLflow server; the server itself is in tests/frameworks/test_mlflow.py."""

from __future__ import annotations

import sys

import pytest

from launcher.api.tracking import Tracking, parameters
from launcher.spec.errors import InputError


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--lr 0.1 --wd=3 opt=adam", {"lr": "0.1", "wd": "3", "opt": "adam"}),
        ("--fast --lr -1", {"fast": "yes", "lr": "-1"}),
        ("-v 2 data.csv --last", {"v": "2", "argument 1": "data.csv", "last": "yes"}),
        ("a -1.5 b", {"argument 1": "a", "argument 2": "-1.5", "argument 3": "b"}),
        ("--eq= --no", {"eq": "", "no": "yes"}),
        ("", {}),
    ],
)
def test_a_command_line_sets_parameters(words: str, found: dict[str, str]) -> None:
    assert parameters(words.split()) == found


def test_mlflow_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="launcher mlflow needs mlflow here") as caught:
        Tracking("http://127.0.0.1:9", "lab")
    assert caught.value.hint == "pip install mlflow-skinny"
