"""The question for the passphrase of a key file."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import pytest

from launcher.cli import run_argument


class Terminal:
    """Stands for a terminal."""

    def isatty(self) -> bool:
        return True


def test_who_gives_no_passphrase_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """`launcher gpus --watch` visits the hosts every few seconds."""
    asked, answers = list[str](), iter(["", "open sesame"])

    def prompt(text: str, **how: Any) -> str:
        asked.append(text)
        return next(answers)

    monkeypatch.setattr(click, "prompt", prompt)
    monkeypatch.setattr(run_argument, "_declined", set())
    monkeypatch.setattr("sys.stdin", Terminal())
    ask = run_argument.passphrases()
    assert ask is not None
    for file, answer in (("one", ""), ("one", ""), ("other", "open sesame")):
        assert asyncio.run(_answer(ask, file)) == answer
    assert asked == ["passphrase for one", "passphrase for other"]


async def _answer(ask: Any, file: str) -> str | None:
    answer: str | None = await ask(file)
    return answer
