"""What an environment of Python is made of: a lock of uv, or requirements, in the code of a run.

It is built once for all runs, so it holds nothing of one run's code: folders are left out of a lock, and
refused among requirements.
"""

from __future__ import annotations

import os
import re
import sys

from ..base.protocol import Refused, blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Most bytes of a file that says what is wanted, and most files.
MOST, MOST_FILES = 1 << 24, 100
LOCK = ("pyproject.toml", "uv.lock")
REQUIREMENTS = "requirements.txt"
#: A line of requirements that includes another file; and one that names a folder or file instead of a
#: package of an index. Wheels and archives are what their names say.
_INCLUDES = re.compile(r"(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")
_FOLDER = re.compile(r"-e\b|--editable\b|\.\.?(?:/|$)|/|file:|\S+\s*@\s*file:")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar\.\w+|tgz)(?:\s|$)")
#: In uv.lock: the name of a package, and that it comes from a folder.
_NAME = re.compile(r'^name = "([A-Za-z0-9._-]{1,200})"$', re.M)
_OF_FOLDER = re.compile(r"^source = \{ (?:editable|directory|virtual) = ", re.M)


class Wanted:
    """What a run wants: a lock of uv or requirements, in its code, and perhaps a folder of wheels.

    Raises Refused.
    """

    def __init__(self, code: str, where: str, wheels: str) -> None:
        place = _inside(code, where)
        self.folder, self.is_lock = place, False
        if os.path.isdir(place):
            self.is_lock = os.path.isfile(os.path.join(place, LOCK[1]))
            names = LOCK if self.is_lock else (REQUIREMENTS,)
            self.files = [os.path.join(place, name) for name in names]
        else:
            self.folder, self.files = os.path.dirname(place), [place]
        self._texts = [_text(path) for path in self.files]
        if not self.is_lock:
            self._include(code, self.files[0], self._texts[0])
        self.wheels = ""
        if wheels:
            self.wheels = wheels if wheels.startswith("/") else _inside(code, wheels)
            if not os.path.isdir(self.wheels):
                raise Refused("no-environment", "there is no folder of wheels %s" % wheels)

    def _include(self, code: str, path: str, text: str) -> None:
        """Take in the files that requirements include, and theirs."""
        for number, line in enumerate(text.splitlines(), start=1):
            words = re.sub(r"(^|\s)#.*", "", line).strip()
            included = _INCLUDES.match(words)
            if included and "://" not in included.group(1):
                inner = os.path.join(os.path.dirname(path), included.group(1))
                inner = _inside(code, os.path.relpath(inner, code))
                if inner not in self.files and len(self.files) < MOST_FILES:
                    inner_text = _text(inner)
                    self.files.append(inner)
                    self._texts.append(inner_text)
                    self._include(code, inner, inner_text)
            elif _FOLDER.match(words) and not _ARCHIVE.search(words):
                why = "%s, line %d: %.200s is a local path, and other runs use the environment, too"
                raise Refused("local-path", why % (os.path.basename(path), number, words))

    def key(self) -> str:
        """Return the name of the environment."""
        python = os.path.realpath(sys.executable)
        about = [sys.version, python, os.uname().machine, str(self.is_lock)]
        if self.wheels:
            about += sorted(os.listdir(self.wheels))
        made = blake2b("\0".join(about).encode("utf-8", "surrogateescape"), digest_size=10)
        for text in self._texts:
            data = text.encode("utf-8", "surrogateescape")
            made.update(b"%d\0" % len(data) + data)
        return str(made.hexdigest())

    def commands(self, place: str, uv: str) -> list[list[str]]:
        """Return what builds the environment in ``place``, one after the other."""
        python, offline = os.path.join(place, "bin", "python"), []
        if self.wheels:
            offline = ["--no-index", "--find-links", self.wheels]
        if not uv:
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
            return [[sys.executable, "-m", "venv", place], pip + offline + ["-r", self.files[0]]]
        venv = [uv, "venv", "--no-project", "--python", sys.executable, place]
        install = [uv, "pip", "install", "--python", python] + offline
        if not self.is_lock:
            return [venv, install + ["-r", self.files[0]]]
        if not offline:
            return [venv, [uv, "sync", "--frozen", *self._without("--no-install")]]
        listed = os.path.join(place, "locked.txt")
        export = [uv, "export", "--quiet", "--frozen", "--output-file", listed]
        export += self._without("--no-emit")
        return [venv, export, install + ["--no-deps", "-r", listed]]

    def _without(self, flag: str) -> list[str]:
        """Return the words that leave out the project, and packages that are folders of the code."""
        words = [flag + "-project"]
        for name in _of_folders(self._texts[1]):
            words += [flag + "-package", name]
        return words


def _of_folders(lock: str) -> Iterator[str]:
    """Yield the names of packages that a lock takes from folders."""
    for package in lock.split("[[package]]")[1:]:
        head = package.partition("\n[")[0]
        name = _NAME.search(head)
        if name and _OF_FOLDER.search(head):
            yield name.group(1)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MOST).decode("utf-8", "surrogateescape")
    except OSError:
        text = "the run's code has no %s; is it ignored, and so not copied?"
        raise Refused("no-environment", text % os.path.basename(path)) from None


def _inside(code: str, path: str) -> str:
    """Return a path in the run's code. Raises Refused for one that leads out of it."""
    found = os.path.normpath(os.path.join(code, path))
    if found != code and not found.startswith(code + os.sep):
        raise Refused("no-environment", "%.200s is outside of the workdir" % path)
    return found
