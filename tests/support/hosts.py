"""The three hosts that most tests share."""

from __future__ import annotations

import pytest

from support import lab as labs

SPECS = (
    labs.HostSpec("lab1", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("lab2", interface="enp3s0", own_name="127.0.0.1"),
    labs.HostSpec("lab3", interface="ib0", port=2222, behind="lab1"),
)


def need_lab() -> None:
    """Skip the test if no lab can be made."""
    if reason := labs.missing():
        pytest.skip(f"no lab of real hosts here: {reason}")
