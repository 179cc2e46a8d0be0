"""IP addresses as text: which version, and how one is written before a port."""

from __future__ import annotations

import ipaddress


def is_address(text: str) -> bool:
    """Return whether a text is an IP address that other hosts can use, so not ``fe80::1%eth0``."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_global(text: str) -> bool:
    """Return whether a text is an address that has the same meaning on every host."""
    return is_address(text) and not ipaddress.ip_address(text).is_link_local


def version(address: str) -> int:
    """Return 6 for an IPv6 address, else 4."""
    return 6 if ":" in address else 4


def endpoint(address: str, port: int | str) -> str:
    """Return ``10.0.0.1:22``, or ``[fd00::1]:22``: an IPv6 address has colons of its own."""
    return f"{bracketed(address)}:{port}"


def bracketed(address: str) -> str:
    """Return an address as it is written in front of a colon."""
    return f"[{address}]" if version(address) == 6 else address
