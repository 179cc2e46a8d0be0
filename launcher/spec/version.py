"""The version of launcher."""

__version__ = "0.1.0"
