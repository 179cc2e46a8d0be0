"""What a host prints during bootstrap is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import invoke
import pytest

from launcher.fleet.bootstrap import scripts
from launcher.spec.errors import BadAnswer


class _Local(invoke.Local):
    """Leaves its pipes to the garbage collector: they are closed here."""

    all: ClassVar[list[_Local]] = []

    def start(self, *words: Any, **more: Any) -> None:
        super().start(*words, **more)
        self.all.append(self)


@pytest.fixture
def here() -> Iterator[Any]:
    """This machine in place of a host: its run() takes what that of a Fabric connection takes."""
    yield invoke.Context(invoke.Config(overrides={"runners": {"local": _Local}}))
    for runner in _Local.all:
        for pipe in (runner.process.stdin, runner.process.stdout, runner.process.stderr):
            pipe.close()
    _Local.all.clear()


def test_a_script_that_prints_without_end_is_given_up(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "MOST_SAID", 100_000)
    with pytest.raises(BadAnswer, match="prints without end"):
        scripts.run("far", here, "exec head -c 3000000 /dev/zero | tr '\\0' x", 30)


def test_the_last_line_of_an_error_is_the_message(here: Any) -> None:
    assert scripts.run("far", here, "echo first; echo last >&2; exit 3", 30).message == "last"
