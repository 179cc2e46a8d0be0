"""The text of a process's name: what is written is read back, and the agent writes the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.base import protocol
from launcher.spec.process_key import RESERVED, ProcessKey, ProcessKind

KEYS = st.one_of(
    st.builds(ProcessKey.of_rank, st.integers(0, 9999)),
    st.builds(ProcessKey.of_node, st.integers(0, 9999)),
    st.builds(ProcessKey.of_setup, st.integers(0, 9999)),
    st.builds(
        ProcessKey.of_role,
        st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,9}", fullmatch=True).filter(
            lambda name: name not in RESERVED
        ),
        st.integers(0, 9999),
    ),
)


@given(KEYS)
def test_what_is_written_is_read_back(key: ProcessKey) -> None:
    assert ProcessKey.parse(str(key)) == key


@pytest.mark.parametrize(
    ("text", "kind", "role", "index"),
    [
        ("rank-3", ProcessKind.RANK, "", 3),
        ("node-0", ProcessKind.NODE, "", 0),
        ("setup-12", ProcessKind.SETUP, "", 12),
        ("worker-2", ProcessKind.ROLE, "worker", 2),
        ("my-rank-2", ProcessKind.ROLE, "my-rank", 2),
        ("role-1", ProcessKind.ROLE, "role", 1),
    ],
)
def test_text_on_disk_stays_as_it_is(text: str, kind: ProcessKind, role: str, index: int) -> None:
    key = ProcessKey.parse(text)
    assert (key.kind, key.role, key.index, str(key)) == (kind, role, index, text)


@pytest.mark.parametrize("text", ["", "rank", "rank-", "-1", "rank-x", "rank 1", "node 3-1"])
def test_anything_else_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="not the key of a process"):
        ProcessKey.parse(text)


def test_the_agent_writes_the_same() -> None:
    assert f"{protocol.RANK}3" == str(ProcessKey.of_rank(3))
    assert f"{protocol.SETUP}0" == str(ProcessKey.of_setup(0))
