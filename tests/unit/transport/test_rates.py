"""Copies together keep to one rate: their shares never add up to more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.spec.errors import LauncherError
from launcher.spec.rates import rate
from launcher.transport import rates, rsync
from launcher.transport.child_process import ChildProcess


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("50MB/s", 50_000_000),
        ("400Mbit/s", 50_000_000),
        ("1.5 GiB/s", 3 << 29),
        ("100Mbps", None),
        ("100Mbitps", 12_500_000),
        ("10kB/s", 10_000),
        ("none", 0),
        *(
            (bad, None)
            for bad in ("50", "50MB", "50Mb/s", "0MB/s", "9kB/s", "-1MB/s", "iB/s", "fast")
        ),
    ],
)
def test_rates(text: str, count: int | None) -> None:
    if count is None:
        with pytest.raises(ValueError, match=r"rate|less than"):
            rate(text)
    else:
        assert rate(text) == count


def test_shares_never_add_up_to_more() -> None:
    """Not of many at once, nor of those that come later, fail or are cancelled; one alone has it all."""
    given: list[int] = []
    most = 0

    async def copy(steps: int, fails: bool = False) -> int:
        nonlocal most
        async with rates.share() as mine:
            given.append(mine)
            most = max(most, sum(given))
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
                if fails:
                    raise LauncherError("lost")
                return mine
            finally:
                given.remove(mine)

    async def everything() -> None:
        with rates.limited(1001):
            with rates.limited(5):  # what is set already stays
                assert await copy(1) == 1001
            assert await asyncio.gather(copy(3), copy(9)) == [500, 501]
            many = [asyncio.ensure_future(copy(n % 7, n % 3 == 0)) for n in range(40)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            many[5].cancel()
            many[39].cancel()
            await asyncio.gather(*many, return_exceptions=True)
            assert await copy(1) == 1001, "all of it was given back"
        assert await copy(1) == 0, "without a limit"

    asyncio.run(everything())
    assert most == 1001


def test_rsync_gets_its_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    async def start(argv: list[str], **_: Any) -> None:
        seen.append(argv)
        for _ in range(3):
            await asyncio.sleep(0)
        raise LauncherError("enough")

    monkeypatch.setattr(ChildProcess, "start", start)

    async def copy() -> None:
        with pytest.raises(LauncherError, match="enough"):
            await rsync.copy(SimpleNamespace(), "h", ["--times", "a/", "x:b"], b"")  # type: ignore[arg-type]

    async def everything() -> None:
        await copy()
        with rates.limited(8 << 20):
            await asyncio.gather(copy(), copy())

    asyncio.run(everything())
    limits = [[word for word in argv if "bwlimit" in word] for argv in seen]
    assert limits == [[], ["--bwlimit=4096"], ["--bwlimit=4096"]]
