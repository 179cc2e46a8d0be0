"""Hosts whose Python has the framework that a test is about."""

from support.framework_lab import lab, of

__all__ = ["lab", "of"]
