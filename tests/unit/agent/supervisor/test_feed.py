"""What rank 0 reads: no byte twice, none too many, and the end when it is due."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.supervisor import feed as feeds
from launcher.agent.supervisor.feed import Feed


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.chdir(tmp_path)
    made = Feed()
    made.open(60.0)
    yield made
    made.close()


def reader() -> int:
    return os.open("stdin", os.O_RDONLY | os.O_NONBLOCK)


def all_of(fd: int, feed: Feed) -> bytes:
    found = b""
    while True:
        feed.write()
        try:
            piece = os.read(fd, 1 << 16)
        except BlockingIOError:
            return found
        if not piece:
            os.close(fd)
            return found + b"<end>"
        found += piece


def test_a_piece_that_comes_again_counts_once(feed: Feed) -> None:
    assert feed.take(0, b"abc", False) == {"taken": 3, "over": False}
    assert feed.take(0, b"abcde", False)["taken"] == 5
    assert feed.take(2, b"cd", False)["taken"] == 5
    fd = reader()
    feed.begin()
    feed.take(5, b"", True)
    assert all_of(fd, feed) == b"abcde<end>"
    assert feed.take(5, b"f", False)["over"]


def test_it_takes_no_more_than_there_is_room_for(feed: Feed) -> None:
    much = bytes(range(256)) * 4096
    first = feed.take(0, much, True)["taken"]
    assert feeds.MOST <= first <= feeds.MOST + (1 << 16)
    fd = reader()
    feed.begin()
    found, taken = b"", first
    while taken < len(much):
        found += all_of(fd, feed)
        taken = feed.take(taken, much[taken:], True)["taken"]
    assert found + all_of(fd, feed) == much + b"<end>"


def test_the_end_waits_for_a_reader_that_comes_late(feed: Feed) -> None:
    feed.take(0, b"short", True)
    fd = reader()
    assert all_of(fd, feed) == b"short"
    feed.begin()
    assert all_of(fd, feed) == b"<end>"


def test_the_end_comes_when_nobody_speaks_of_it_any_more(feed: Feed) -> None:
    fd = reader()
    feed.begin()
    feed.take(0, b"a", False)
    feed.look(feed.next_look - 1)
    assert all_of(fd, feed) == b"a"
    feed.look(feed.next_look + 1)
    assert all_of(fd, feed) == b"<end>"


def test_nothing_is_left_in_the_folder(feed: Feed) -> None:
    feed.close()
    assert not os.path.exists("stdin")
    assert feed.take(0, b"a", False)["over"]
    assert feed.writable == []
