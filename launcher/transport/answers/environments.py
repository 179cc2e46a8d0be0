"""What a host says of environments, Pythons and modules."""

from __future__ import annotations

import re

from ...spec.frozen import frozen
from .reading import LONGEST_MESSAGE, LONGEST_PATH, MOST, require

#: How far an environment is that a host builds.
BUILD_STATES = ("there", "busy", "building", "failed", "no-builder", "no-wheels")

_PACKAGE = re.compile(r"[\w.-]{1,200}==[\w.+!~-]{1,100}\Z", re.A)


@frozen
class Missing:
    """The modules that the host's Python does not find, and the packages that it has."""

    missing: tuple[str, ...]
    packages: tuple[str, ...] = ()
    trouble: str = ""  # why the job's environment cannot be activated there

    def __post_init__(self) -> None:
        require(len(self.trouble) <= LONGEST_MESSAGE, "trouble", "is too long")
        require(len(self.packages) <= MOST, "packages", "more than a Python has")
        for one in self.packages:
            require(_PACKAGE.match(one) is not None, "packages", f"not a package: {one[:80]!r}")


@frozen
class Pythons:
    """What was said of the Pythons of environments, in the order in which they were asked for."""

    said: tuple[str, ...]

    def __post_init__(self) -> None:
        for one in self.said:
            require(len(one) <= LONGEST_PATH, "said", "is too long")


_PYTHON_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(?:(?:a|b|rc)\d{1,4})?\Z", re.A)
_ABI = re.compile(r"[a-z]{1,8}\d{1,8}[a-z]{0,4}\Z", re.A)
_MACHINE = re.compile(r"[A-Za-z0-9_]{1,32}\Z")
_LIBC = re.compile(r"(?:glibc \d{1,4}\.\d{1,4}[\w.+-]{0,32})?\Z", re.A)
_SUM = re.compile(r"[0-9a-f]{32}\Z")
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


@frozen
class WantedWheels:
    """What decides which wheels a host needs: its Python, machine and C library ("": not glibc); and the
    ``files`` of the code that say it, with their ``sum``, and packages that are ``folders`` there."""

    python: str
    implementation: str
    abi: str
    machine: str
    libc: str
    files: tuple[str, ...]
    sum: str
    is_lock: bool
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(_PYTHON_VERSION.match(self.python) is not None, "python", "not a version")
        require(_MACHINE.match(self.implementation) is not None, "implementation", "not a name")
        require(_ABI.match(self.abi) is not None, "abi", "not an ABI of Python")
        require(_MACHINE.match(self.machine) is not None, "machine", "not a kind of machine")
        require(_LIBC.match(self.libc) is not None, "libc", "not a C library")
        require(_SUM.match(self.sum) is not None, "sum", "not a sum")
        require(0 < len(self.files) <= 200, "files", "none, or too many")
        for path in self.files:
            fits = not path.startswith("/") and ".." not in path.split("/") and "\0" not in path
            require(fits and 0 < len(path) <= LONGEST_PATH, "files", "not a path in the code")
        require(len(self.folders) <= MOST, "folders", "too many")
        for name in self.folders:
            require(_PACKAGE_NAME.match(name) is not None, "folders", "not a package")


@frozen
class Environment:
    """How far a host is with an environment that a run wants; ``python`` is there, once it is there.

    ``said`` is the last line of what builds it, the program ``tool``, and ``log`` the end of it all.
    Without one, a host says which it could be given: for its ``machine`` and ``libc``, below ``tools``.
    Without wheels, it says which are ``wanted``.
    """

    state: str
    python: str = ""
    said: str = ""
    log: str = ""
    machine: str = ""
    libc: str = ""
    tools: str = ""
    tool: str = ""
    wanted: WantedWheels | None = None

    def __post_init__(self) -> None:
        require((self.state == "no-wheels") == (self.wanted is not None), "wanted", "out of place")
        require(len(self.tool) <= 100, "tool", "is too long")
        require(self.state in BUILD_STATES, "state", f"unknown: {self.state[:80]!r}")
        for name in ("python", "tools"):
            path = getattr(self, name)
            require(len(path) <= LONGEST_PATH, name, "is too long")
            require(not path or path.startswith("/"), name, "is no path")
        require(len(self.said) + len(self.log) <= LONGEST_MESSAGE, "log", "is too long")
