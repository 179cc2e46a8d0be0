"""A process that wrote a traceback and goes on is told of once, when it has written nothing since."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

from launcher.cli.render.event_lines import line_of
from launcher.records import events as ev
from launcher.records import postmortem
from launcher.records.run_folder import RunFolder
from launcher.records.state import ProcessState
from launcher.runner import traceback_watch
from launcher.runner.event_log import EventLog

TRACE = b'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n'
WAITS = TRACE + b"ValueError: bad sample 17\n"
RANKS = [ProcessState("gpu1", "rank-0", 0), ProcessState("gpu2", "rank-1", 1)]


def test_only_processes_that_have_not_ended() -> None:
    ended = ProcessState("gpu2", "rank-2", 2, code=1)
    found = postmortem.unended([(RANKS[0], b"epoch 1\n"), (RANKS[1], WAITS), (ended, WAITS)])
    assert found == {RANKS[1]: "ValueError: bad sample 17"}


def looks(log: EventLog, *said: bytes) -> list[ev.Event]:
    """Return what is told when rank 1 has said this at each look."""
    told: list[ev.Event] = []

    async def watch() -> None:
        outputs = [[(RANKS[0], b""), (RANKS[1], text)] for text in said]
        with (
            mock.patch.object(traceback_watch, "PAUSE", 0),
            mock.patch.object(log, "last_words_of_all", side_effect=[*outputs, KeyboardInterrupt]),
        ):
            await traceback_watch.watch(log, told.append)

    try:
        asyncio.run(watch())
    except KeyboardInterrupt:
        return told
    raise AssertionError("it never ends by itself")


def test_a_rank_that_goes_on_after_a_traceback_is_told_of_once(tmp_path: Path) -> None:
    log = EventLog(RunFolder(tmp_path), lambda event: None)
    (told,) = looks(log, WAITS, WAITS, WAITS)
    assert isinstance(told, ev.TracebackSeen)
    assert (told.host, told.key, told.rank) == ("gpu2", "rank-1", 1)
    line = line_of(told)
    assert line is not None
    assert line.text == (
        "gpu2 [1] has not ended, but its last lines are a traceback: ValueError: bad sample 17"
    )
    log.events.append(told)
    assert looks(log, WAITS, WAITS) == [], "another follower has told of it"


def test_a_traceback_with_something_behind_it_was_caught(tmp_path: Path) -> None:
    log = EventLog(RunFolder(tmp_path), lambda event: None)
    assert looks(log, WAITS, WAITS + b"going on without it\n", WAITS + b"epoch 2\n") == []
    assert looks(log, b"", WAITS, TRACE + b"KeyError: 'x'\n") == []
