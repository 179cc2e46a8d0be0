"""IP addresses as text."""

from __future__ import annotations

import pytest

from launcher.spec.addresses import endpoint, is_address, is_global


@pytest.mark.parametrize(
    ("text", "is_one", "is_everywhere"),
    [
        ("10.0.0.1", True, True),
        ("fd81::11", True, True),
        ("fe80::1", True, False),
        ("fe80::1%eth0", False, False),
        ("fe80::1%$(touch x)", False, False),
        ("gpu1.lab", False, False),
    ],
)
def test_what_is_an_address(text: str, is_one: bool, is_everywhere: bool) -> None:
    assert (is_address(text), is_global(text)) == (is_one, is_everywhere)


def test_an_ipv6_address_has_brackets_before_a_port() -> None:
    assert endpoint("fd81::11", 22) == "[fd81::11]:22"
    assert endpoint("gpu1.lab", 22) == "gpu1.lab:22"
