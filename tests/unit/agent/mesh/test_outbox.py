"""What a host still has to tell another one."""

from __future__ import annotations

from launcher.agent.mesh.outbox import WINDOW, Outbox


def test_only_the_newest_state_of_a_path_is_sent_in_the_order_of_the_last_change() -> None:
    box = Outbox()
    box.add(["a", "b", "c"])
    box.add(["a"])
    assert [box.next() for _ in range(4)] == ["b", "c", "a", None]
    assert "c" in box, "until it is acknowledged"
    assert [box.acknowledged() for _ in range(3)] == ["b", "c", "a"]
    assert not box


def test_what_was_not_acknowledged_is_sent_again_first() -> None:
    box = Outbox()
    box.add(["a", "b", "c"])
    box.next(), box.next(), box.acknowledged()
    box.add(["a"])
    box.disconnected()
    assert [box.next() for _ in range(3)] == ["b", "c", "a"]
    box.add(["b"])  # changed again while it travels: sent once more
    box.disconnected()
    assert [box.next() for _ in range(4)] == ["c", "a", "b", None]


def test_few_changes_travel_at_once() -> None:
    box = Outbox()
    box.add(map(str, range(WINDOW + 1)))
    assert [box.next() is None for _ in range(WINDOW + 1)] == [False] * WINDOW + [True]
    box.drop(str(WINDOW))
    box.acknowledged()
    assert box.next() is None
