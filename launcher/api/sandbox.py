"""Embedded SSH hosts on this machine, to try things out."""

from ..fleet.sandbox import SandboxHost, down, hosts, inventory, ssh_config, up

__all__ = ["SandboxHost", "down", "hosts", "inventory", "ssh_config", "up"]
