"""Which hosts trials get, and when no other one starts."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.runner.policy.sweep import Slot, left_out, none_fits, slots, too_many

HOSTS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Ended:
    failed: bool
    hosts: tuple[str, ...] = ("a",)
    reason: str = "exit-1"


def test_trials_share_no_host_unless_asked() -> None:
    assert slots(HOSTS, 1, None) == tuple(Slot((host,)) for host in HOSTS)
    assert slots(HOSTS, 2, None) == (Slot(("a", "b")), Slot(("c", "d")))
    assert slots(HOSTS, 3, None) == (Slot(("a", "b", "c")),)
    assert slots(HOSTS, None, None) == (Slot(HOSTS),)
    assert slots(HOSTS, 1, 2) == (Slot(("a",)), Slot(("b",)))
    assert slots(("a", "b"), 1, 3) == (Slot(("a",)), Slot(("b",)), Slot(("a",)))


def test_a_host_whose_trials_fail_in_a_row_is_left_out() -> None:
    good = Ended(False, ("b",))
    bad = Ended(True, ("a",))
    assert left_out([bad, good, bad]) == frozenset()
    assert left_out([bad, good, bad, bad]) == {"a"}
    assert left_out([bad, bad, Ended(False, ("a",)), bad, good]) == frozenset()
    assert left_out([bad, bad, bad]) == frozenset(), "it may be the values"


def test_failures() -> None:
    failed = [Ended(True)] * 3
    assert not too_many(failed, 10, None)
    assert not too_many(failed, 10, 3.0)
    assert too_many(failed, 10, 2.0)
    assert too_many(failed, 10, 0.2)
    assert not too_many(failed, 10, 0.3)
    assert too_many(failed[:1], 10, 0.0)


def test_no_trial_fits_where_all_that_were_tried_do_not() -> None:
    large = Ended(True, (), "does-not-fit")
    assert none_fits([large, large])
    assert not none_fits([])
    assert not none_fits([large, Ended(True)])
