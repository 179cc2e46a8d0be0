"""What the agent and the rest of launcher both know: the agent imports nothing of the rest."""

from __future__ import annotations

from launcher.agent.base import protocol
from launcher.agent.host import reachability
from launcher.fleet.findings import pair
from launcher.records import state


def test_both_halves_wait_equally_long_for_a_primary_process() -> None:
    assert protocol.PRIMARY_PATIENCE == state.PRIMARY_PATIENCE


def test_both_halves_call_a_silent_port_the_same() -> None:
    assert reachability.SILENT == pair.SILENT
