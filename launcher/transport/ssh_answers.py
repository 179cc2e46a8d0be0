"""Keeps what ``ssh -G`` has answered, for later starts.

ssh(1) itself says which files it reads. They are searched for words by which an answer may depend on
something else, such as ``Match exec``; then nothing is kept.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from . import program_notes

#: The file of the notes.
FILE = "ssh-answers.json"
#: Most files of settings whose answers are kept, and hosts of each.
CONFIGS, HOSTS = 8, 1024
#: Seconds for ssh to say which files it reads.
PATIENCE = 20.0

_READS = re.compile(r"^debug1: Reading configuration data (.+?)\r?$", re.MULTILINE)
_INCLUDE = re.compile(r"^\s*include(?:\s*=\s*|\s+)(.*)$", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
#: By what an answer depends on more than files: programs, networks, names, variables; and what may hide
#: such a word, a keyword in quotes.
_UNSTEADY = re.compile(
    r"\b(?:exec|localnetwork|canonical\w*)\b|\$|^\s*\"", re.IGNORECASE | re.MULTILINE
)
#: Seconds by which the clock may be set back meanwhile.
_SET = 1.0
_WILD = re.compile(r"[*?\[]")

Values = Mapping[str, tuple[str, ...]]


class SshAnswers:
    """What ssh says with the settings of one file (None: those of the user and the system).

    May be asked by several threads.
    """

    def __init__(self, config: str | None) -> None:
        self._config = config and os.path.join(os.getcwd(), config)
        self._lock = threading.Lock()
        self._program: list[Any] | None = None
        self._usual: dict[str, list[str]] | None = None
        self._kept: dict[str, Any] = {}
        self._files: dict[str, Any] = {}  # by which the kept ones hold
        self._new: dict[str, dict[str, list[str]]] = {}
        self._began = self._ticks = 0.0  # by the clock of the machine, and by one that nobody sets

    def defaults(self) -> Values | None:
        """Return what ssh says without any file."""
        with self._lock:
            self._load()
            return _values(self._usual) if self._usual else None

    def known(self, options: list[str], name: str) -> Values | None:
        """Return what ssh said about a host."""
        with self._lock:
            self._load()
            found = self._kept.get(_key(options, name))
            if found is None or self._usual is None:
                return None
            return _values({**self._usual, **found})

    def note(self, options: list[str], name: str, values: Values, usual: Values) -> None:
        """Note what ssh has said about a host, and what it says without any file."""
        with self._lock:
            self._load()
            self._usual = {key: list(value) for key, value in usual.items()}
            if any("$" in option for option in options):
                return
            self._new[_key(options, name)] = {
                key: list(values.get(key, ()))
                for key in {**usual, **values}
                if values.get(key) != usual.get(key)
            }

    def save(self) -> None:
        """Keep what is new if it depends on files alone that have not changed meanwhile. Blocks."""
        with self._lock:
            new, self._new = self._new, {}
            if not new or self._program is None or self._program != program_notes.program("ssh"):
                return
            if time.time() - self._began < time.monotonic() - self._ticks - _SET:
                return  # an edit since may look older than it is
            paths = self._files or _read_by_ssh(self._config)
            files = program_notes.states_of(paths, self._began) if paths else None
            if files is None or (self._files and files != self._files):
                return
            self._files, self._kept = files, {**self._kept, **new}
            configs = self._configs()
            configs.pop(self._config or "", None)
            kept = dict(list(self._kept.items())[-HOSTS:])
            latest = dict(list(configs.items())[1 - CONFIGS :])
            latest[self._config or ""] = {"files": files, "hosts": kept}
            head = {"program": self._program, "usual": self._usual}
            program_notes.write(FILE, {**head, "configs": latest})

    def _load(self) -> None:
        if self._began:
            return
        self._began, self._ticks = time.time(), time.monotonic()
        self._program = program_notes.program("ssh")
        configs = self._configs()
        ours = configs.get(self._config or "")
        if ours and program_notes.are_as_they_were(ours["files"]):
            self._kept, self._files = ours["hosts"], ours["files"]

    def _configs(self) -> dict[str, Any]:
        """Return what is kept by this program, by file of settings."""
        noted = program_notes.read(FILE)
        if noted.get("program") != self._program or not self._program:
            return {}
        self._usual = self._usual or noted["usual"]
        configs: dict[str, Any] = noted["configs"]
        return configs


def _key(options: list[str], name: str) -> str:
    return shlex.join([*options, "--", name])


def _values(kept: Mapping[str, list[str]]) -> Values:
    return {key: tuple(value) for key, value in kept.items() if value}


def _read_by_ssh(config: str | None) -> set[str] | None:
    """Return the files and folders that an answer depends on; None where it may depend on more."""
    words = ["ssh", "-v", "-G", "-T", *(["-F", config] if config else []), "--", "host"]
    try:
        said = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
            env=os.environ | {"LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    read = _READS.findall(said.stderr.decode(errors="surrogateescape"))
    own = f"{program_notes.user_home()}/.ssh"
    user = f"{own}/config"
    if config is None and not [path for path in read if path != user]:
        return None  # where the file of the system would be, nobody knows
    found = {*read, *([] if config else [user])}
    for path in read:
        try:
            with open(path, errors="surrogateescape") as file:
                text = _COMMENT.sub("", file.read(program_notes.MOST))
        except OSError:
            return None
        if _UNSTEADY.search(text):
            return None
        for line in _INCLUDE.findall(text):
            included = _included(line, [own, os.path.dirname(path), "/etc/ssh"])
            if included is None:
                return None
            found |= included
    return found


def _included(line: str, folders: list[str]) -> set[str] | None:
    """Return what to watch for the words behind ``Include``: files, and folders where wildcards look."""
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    found = set()
    for word in words:
        if "%" in word or (word.startswith("~") and not word.startswith("~/")):
            return None
        if word.startswith("~/"):
            word = program_notes.user_home() + word[1:]
        for folder in folders if not word.startswith("/") else [""]:
            path = os.path.join(folder, word)
            if _WILD.search(os.path.dirname(path)):
                return None
            found |= _where_it_looks(os.path.dirname(path)) if _WILD.search(path) else {path}
    return found


def _where_it_looks(folder: str) -> set[str]:
    """Return a folder, and the links in it: what they lead to may be missing."""
    try:
        with os.scandir(folder) as entries:
            return {folder, *(entry.path for entry in entries if entry.is_symlink())}
    except OSError:
        return {folder}
