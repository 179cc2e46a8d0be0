"""What ``launcher scale`` asks for before its first trial."""

from __future__ import annotations

from launcher.api import scaling
from launcher.spec.model import Host, Inventory, Job


def test_trials_have_the_options_that_matter_to_them() -> None:
    """A stall or a notification after a minute would not."""
    inventory = Inventory((Host("gpu1"), Host("gpu2")))
    found = scaling.requests_for(
        Job(("train.py",)), inventory, options={"check": False, "priority": 1, "wait": None}
    )
    assert [(one.job.num_nodes, one.check, one.priority) for one in found] == [
        (1, False, 1),
        (2, False, 1),
    ]
    assert {one.wait for one in found} == {0.0}
