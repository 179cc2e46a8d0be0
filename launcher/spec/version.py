"""The version of launcher, and what it is called where it is installed from."""

__version__ = "0.2.0"
#: The distribution. On the package index, `launcher` is a program of somebody else's.
DISTRIBUTION = "launcher-ssh"
