"""A host's connection settings in the terms of ssh_config(5). Imports no YAML: hosts are dialled
without reading an inventory."""

from __future__ import annotations

from .model import Host

#: Who makes SSH connections: the library, or OpenSSH's own client.
ASYNCSSH, OPENSSH = TRANSPORTS = ("asyncssh", "openssh")


def ssh_values(host: Host) -> tuple[tuple[str, str], ...]:
    """Return the connection settings of a host as keywords and values of ssh_config(5).

    They go before all of the user's own settings, and the first value wins.
    """
    given = {
        "HostName": host.address,
        "User": host.user,
        "Port": host.port,
        "ProxyJump": host.proxy_jump,
        "IdentityFile": host.identity_file,
    }
    return tuple(
        (key, _quoted(key, str(value))) for key, value in given.items() if value is not None
    )


def _quoted(key: str, value: str) -> str:
    if key == "ProxyJump" and not any(map(str.isspace, value)):
        return value  # ssh(1) takes quotes as part of the name
    return f'"{value}"'


def ssh_config(host: Host) -> str:
    """Return the connection settings of a host as a block of ssh_config(5); empty without any."""
    lines = [f"  {key} {value}\n" for key, value in ssh_values(host)]
    return "".join([f"Host {host.name}\n", *lines]) if lines else ""
