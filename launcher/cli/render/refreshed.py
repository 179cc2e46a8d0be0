"""What became of runs that nobody followed, in lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...api.client import Summary
from ...api.following import News, Refreshed, What
from ...spec import nodeset
from .tables import counted

#: So many names are listed; of more, the number.
FEW = 8


def refreshed_lines(refreshed: Refreshed, runs: Mapping[str, Summary]) -> Iterator[str]:
    """Yield what happened to runs that nobody followed; ``runs`` are as they are recorded now."""
    if refreshed.ended:
        known = [runs[name] for name in refreshed.ended if name in runs]
        yield f"ended meanwhile: {', '.join(map(_ended, known))}"
    if refreshed.followed:
        yield f"followed again: {_names(refreshed.followed)}"
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, silent in refreshed.unknown.items():
        if name not in refreshed.followed:
            alike.setdefault(tuple(sorted(silent.items())), []).append(name)
    for reasons, names in alike.items():
        why = _silent(dict(reasons)) or "no answer yet"
        yield f"{why}; not followed, as last known: {_names(names)}"


def news_line(news: News) -> str:
    """Return what became of a run that ``launcher follow --all`` looked at."""
    if news.what is What.FOLLOWED:
        return f"{news.run}: followed again"
    if news.what is What.ENDED and news.receipt is not None:
        receipt = news.receipt
        reason = "" if receipt.status == "succeeded" else f" ({receipt.reason})"
        return f"{news.run}: {receipt.status}{reason}"
    return f"{news.run}: not followed: {news.problem or _silent(news.silent)}"


def _ended(run: Summary) -> str:
    reason = "" if run.status == "succeeded" else f" ({run.reason})"
    return f"{run.run} {run.status}{reason}"


def _silent(silent: Mapping[str, str]) -> str:
    """Return why hosts count as silent; those with one reason are one."""
    reasons: dict[str, list[str]] = {}
    for host, why in silent.items():
        reasons.setdefault(why, []).append(host)
    parts = []
    for why, hosts in reasons.items():
        named = nodeset.fold(host for host in hosts if host)
        parts.append(f"{named}: {why}" if named else why)
    return "; ".join(parts)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= FEW else counted(len(names), "run")
