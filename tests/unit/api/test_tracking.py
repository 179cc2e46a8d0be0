"""What of a run goes to an MLflow server; the server itself is in tests/frameworks/test_mlflow.py."""

from __future__ import annotations

import sys

import pytest

from launcher.api.tracking import Tracking, allowed_names, parameters, without_password
from launcher.spec.errors import InputError


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--lr 0.1 --wd=3 opt=adam", {"lr": "0.1", "wd": "3", "opt": "adam"}),
        ("--fast --lr -1", {"fast": "yes", "lr": "-1"}),
        ("-v 2 data.csv --last", {"v": "2", "argument 1": "data.csv", "last": "yes"}),
        ("a -1.5 b", {"argument 1": "a", "argument 2": "-1.5", "argument 3": "b"}),
        ("--eq= --no", {"eq": "", "no": "yes"}),
        ("--fast -v 2 -- x", {"fast": "yes", "v": "2", "--": "x"}),
        ("", {}),
    ],
)
def test_a_command_line_sets_parameters(words: str, found: dict[str, str]) -> None:
    assert parameters(words.split()) == found


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ("lr val/acc é@1", "lr val/acc é_1"),
        ("a@b a#b a_b", "a_b_e5913774 a_b_ab410f10 a_b"),
        ("/data//date/../x . //", "data/date/x _ __f81417cb"),
        ("x" * 300, "x" * 241 + "_"),
    ],
)
def test_names_are_those_that_mlflow_takes(names: str, allowed: str) -> None:
    """Each its own one."""
    found = allowed_names(names.split())
    assert len({*found.values()}) == len(found)
    assert all(len(name) <= 250 for name in found.values())
    wanted = dict(zip(names.split(), allowed.split(), strict=True))
    assert {one: name[:241] for one, name in found.items()} == {
        one: name[:241] for one, name in wanted.items()
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:p@ss@host:1/x is away", "http://host:1/x is away"),
        ("no http://host/x", "no http://host/x"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_mlflow_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match="launcher mlflow needs mlflow here") as caught:
        Tracking("http://127.0.0.1:9", "lab")
    assert caught.value.hint == "pip install mlflow-skinny"
