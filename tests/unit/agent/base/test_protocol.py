"""Messages between launcher and agent, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.base import protocol

FEW = settings(max_examples=40)


MESSAGES = st.lists(
    st.tuples(
        st.fixed_dictionaries({"log": st.sampled_from(["", "ä\n", "\udcff"])}),
        st.sampled_from([b"", b"\n", b"{}\n", bytes(range(256))]),
    ),
    max_size=5,
)


@FEW
@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_messages_survive_any_cutting(
    messages: list[tuple[dict[str, str], bytes]], sizes: list[int]
) -> None:
    data = b"".join(protocol.encode(message, payload) for message, payload in messages)
    decoder = protocol.Decoder()
    found, position, turn = [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        found += decoder.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert [payload for _, payload in found] == [payload for _, payload in messages]
    assert [message["log"] for message, _ in found] == [message["log"] for message, _ in messages]


@pytest.mark.parametrize(
    "line", [b"hello\n", b"\xff\n", b"5\n", b"[]\n", b'{"size":-5}\n', b'{"size":"x"}\n']
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        protocol.Decoder().feed(line)


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_LINE", 100)
    with pytest.raises(ValueError, match="too long"):
        protocol.Decoder().feed(b"x" * 101)
    decoder = protocol.Decoder()
    payload = b"x" * 1000
    assert decoder.feed(protocol.encode({}, payload)) == [({"size": 1000}, payload)]
