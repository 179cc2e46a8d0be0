"""From bytes to lines: nothing is lost however they arrive, and nothing in them can do harm."""

from __future__ import annotations

import re
import time
from collections import Counter, deque

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.cli.render import log_lines

FEW = settings(max_examples=40)
SMALL = 64

#: Bytes in which everything that matters is frequent.
PIECES = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"\r", b"\r\n", b"\t", b"a", b"m", b"[", b"loss 0.5", b"x" * 40),
            *(b"\x1b[31m", b"\x1b[0m", b"\x1b]0;x\x07", b"\x1b", b"\x00", b"\x7f"),
            *(b"\xff", b"\xc2", b"\x9b", *(letter.encode() for letter in "é€🚀\x9b")),
        ]
    ),
    max_size=40,
)
BYTES = PIECES.map(b"".join)


@pytest.fixture(autouse=True, scope="module")
def short_lines() -> object:
    """Endless lines are tried with short ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_lines, "LONGEST", SMALL)
        yield


def split(data: bytes, sizes: list[int]) -> bytes:
    """All lines of a stream that arrives in pieces of these sizes, over and over."""
    splitter = log_lines.Splitter()
    shown, position, turn = b"", 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        shown += splitter.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    return shown + splitter.finish()


CHUNKS = st.lists(st.integers(1, 50), min_size=1, max_size=5)


@FEW
@given(BYTES, CHUNKS)
def test_chunks_make_no_difference(data: bytes, sizes: list[int]) -> None:
    lines = [line[: SMALL - 1] for line in data.split(b"\n")]
    data = b"\n".join(lines)
    ended = data if data.endswith(b"\n") or not data else data + b"\n"
    assert split(data, sizes) == ended


@FEW
@given(BYTES, CHUNKS)
def test_endless_lines_lose_nothing(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"\r", b"")
    assert split(data, sizes).replace(b"\n", b"") == data.replace(b"\n", b"")


@FEW
@given(BYTES, CHUNKS)
def test_memory_is_bounded(data: bytes, sizes: list[int]) -> None:
    splitter = log_lines.Splitter()
    for size in sizes * 4:
        lines = splitter.feed(data[:size])
        assert not lines or lines.endswith(b"\n")
        assert len(splitter.current()) <= SMALL
    assert len(splitter.finish()) <= SMALL + 1


@FEW
@given(st.text("aé€🚀", min_size=SMALL, max_size=3 * SMALL), CHUNKS)
def test_characters_are_never_cut(text: str, sizes: list[int]) -> None:
    for chunks in (sizes, [1 << 20]):
        for line in split(text.encode(), chunks).split(b"\n"):
            line.decode("utf-8")


def test_an_endless_progress_bar_shows_its_last_state() -> None:
    splitter = log_lines.Splitter()
    for percent in range(1000):
        assert splitter.feed(b"\rsaving %d%%" % percent) == b""
    assert splitter.current() == b"saving 999%"
    assert log_lines.readable(splitter.feed(b"\n")) == b"saving 999%\n"


def test_unfinished_line() -> None:
    splitter = log_lines.Splitter()
    assert splitter.feed(b"one\ntwo") == b"one\n"
    assert splitter.current() == b"two"
    assert splitter.finish() == b"two\n"
    assert splitter.finish() == b""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"", b""),
        (b"plain", b"plain"),
        (b"1%\r2%\r3%", b"3%"),
        (b"from windows\r", b"from windows"),
        (b"1%\r2%\r\r", b"2%"),
        (b"\r", b""),
    ],
)
def test_carriage_returns(line: bytes, shown: bytes) -> None:
    assert log_lines.returned(line) == shown


# -- what control characters can do


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@FEW
@given(BYTES)
def test_nothing_readable_can_do_harm(data: bytes) -> None:
    lines = data + b"\n"
    shown = log_lines.readable(lines)
    assert not CONTROL.search(shown.decode("utf-8"))
    assert shown.count(b"\n") == lines.count(b"\n")
    assert log_lines.is_plain(shown)
    assert log_lines.readable(shown) == shown


@FEW
@given(BYTES)
def test_harmless_is_valid_text_without_controls(data: bytes) -> None:
    assert not CONTROL.search(log_lines.harmless(data).decode("utf-8"))


def test_a_binary_file_is_shown_at_once() -> None:
    """A microsecond and a half for each byte kept the screen busy for minutes."""
    begin = time.monotonic()
    shown = log_lines.harmless(bytes(12_000_000))
    assert time.monotonic() - begin < 60
    assert len(shown) == 3 * 12_000_000


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b[38:2::255:0:0mred\x1b[m", "red"),
        (b"a\tb", "a\tb"),
        (b"\x1b]0;title\x07", "␛]0;title␇"),
        (b"\x1b[2J", "␛[2J"),
        (b"\x1b\x1b[m[31m", "␛[31m"),
        (b"\x7f\x00", "␡␀"),
        ("\x9b2J".encode(), "␛2J"),
        (b"\xc2\x1b[m\x9b2J", "␛2J"),
        (b"\x9b2J", "\ufffd2J"),
        ("größe 学习 🚀".encode(), "größe 学习 🚀"),
        (b"cut \xe2\x82", "cut \ufffd"),
    ],
)
def test_harmless(line: bytes, shown: str) -> None:
    assert log_lines.harmless(line).decode() == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        (b"a \x1b[32mgreen", "a \x1b[32mgreen\x1b[0m"),
        (b"\x1b[mplain", "\x1b[0mplain\x1b[0m"),
        (b"\x1b[8mhidden\x1b[30mblack\x1b[7;40mback", "hiddenblackback"),
        (
            b"\x1b[38;5;0mby number\x1b[48;2;1;31;3;32mand\x1b[38:2::255:0:0m",
            "by number\x1b[32mand\x1b[0m",
        ),
        (b"\x1b[2K\x1b[31mred", "␛[2K\x1b[31mred\x1b[0m"),
        (b"\x1b\x1b[m[31m", "␛\x1b[0m[31m\x1b[0m"),
        (b"\x1b]0;title\x07", "␛]0;title␇"),
        (b"\xc2\x1b[m\x9b2J", "\ufffd\x1b[0m\ufffd2J\x1b[0m"),
        (b"\xc2\x1b[8m\x9b2J", "\ufffd\ufffd2J"),  # nor what a colour that goes leaves behind
        (b"\xe2\x80\x1b[8m\xaegpj", "\ufffd\ufffdgpj"),
    ],
)
def test_a_terminal_gets_colours_that_hide_nothing(line: bytes, shown: str) -> None:
    assert log_lines.harmless(line, colours=True).decode() == shown


@FEW
@given(BYTES)
def test_colours_are_all_that_a_terminal_gets(data: bytes) -> None:
    shown = log_lines.readable(data + b"\n", colours=True).decode("utf-8")
    assert not CONTROL.search(re.sub("\x1b\\[[0-9;]+m", "", shown))
    for line in shown.split("\n"):
        assert "\x1b" not in line or line.endswith("\x1b[0m")


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        (b"a\tb\n", True),
        ("größe\n".encode(), True),
        (b"\r\n", False),
        (b"\x1b[0m", False),
        ("\x85".encode(), False),
        (b"\xff", False),
    ],
)
def test_is_plain(lines: bytes, plain: bool) -> None:
    assert log_lines.is_plain(lines) is plain


def test_a_warning_that_means_nothing_is_not_shown() -> None:
    noise = (
        b"[W1121 07:23:26.8 socket.cpp:207] [c10d] The hostname of the client socket cannot be "
        b"retrieved. err=-3\n"
    )
    assert log_lines.readable(b"a\n" + noise + b"b\n") == b"a\nb\n"
    assert log_lines.readable(noise) == b""
    assert log_lines.readable(noise, raw=True) == noise
    mine = b"see: hostname of the client socket cannot be retrieved\n"
    assert log_lines.readable(mine) == mine


def test_raw_leaves_everything_but_carriage_returns() -> None:
    lines = b"\x1b[31mred\x1b[0m\n\xff\n1%\r2%\n"
    assert log_lines.readable(lines, raw=True) == b"\x1b[31mred\x1b[0m\n\xff\n2%\n"


# -- equal lines of several ranks


QUEUES = st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=5), max_size=3)


@FEW
@given(QUEUES)
@example([[b"a", b"b"], [b"b", b"a"]])
def test_folding_keeps_every_line_in_order(lines: list[list[bytes]]) -> None:
    queues = {rank: deque(own) for rank, own in enumerate(lines)}
    shown = list(log_lines.fold(queues))
    for rank, own in enumerate(lines):
        assert [line.text for line in shown if rank in line.sources] == own
    assert not any(queues.values())
    assert all(line.sources == tuple(sorted(set(line.sources))) for line in shown)


@FEW
@given(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=8), st.integers(1, 5))
def test_equal_ranks_are_shown_once(lines: list[bytes], ranks: int) -> None:
    shown = list(log_lines.fold({rank: deque(lines) for rank in range(ranks)}))
    assert [line.text for line in shown] == lines
    assert {line.sources for line in shown} <= {tuple(range(ranks))}


def test_another_beginning_does_not_part_the_rest() -> None:
    common = [b"epoch 0", b"epoch 1", b"done"]
    queues = {rank: deque(common) for rank in range(4)}
    queues[2].appendleft(b"warning: slow disk")
    shown = Counter({line.text: len(line.sources) for line in log_lines.fold(queues)})
    assert shown == Counter({b"warning: slow disk": 1, b"epoch 0": 4, b"epoch 1": 4, b"done": 4})
