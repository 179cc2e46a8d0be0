"""Settings of this user and of a project: find them, and say what each key is and where it is said."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fleet import allowed
from ..jobs import settings
from ..jobs.run_options import NO_PROJECT, OPTIONS
from ..jobs.settings import DEFAULTS, DELICATE_IN_A_JOB, KEYS, MERGED, Setting, json_schema
from ..spec.errors import DocumentError, InputError
from ..spec.files import read_text
from ..spec.frozen import frozen

__all__ = [
    "DEFAULTS",
    "KEYS",
    "MERGED",
    "OPTIONS",
    "PROJECT",
    "Line",
    "Setting",
    "SettingsFile",
    "allow",
    "are_allowed",
    "delicate_lines",
    "found",
    "json_schema",
    "of_job",
    "project_of_runs",
    "require_allowed",
    "set_user_value",
    "user_file",
]

USER, PROJECT, JOB = "user", "project", "job"
#: Of a project, in its folder: a file of its own, or a table ``[tool.launcher]``.
IN_A_PROJECT, PYPROJECT = ".launcher.yaml", "pyproject.toml"
#: Where allowed lines are noted: a file of launcher's folder, with one digest a line.
ALLOWED = "allowed-settings"


@frozen
class SettingsFile:
    """A file of settings, and whose it is; ``others`` says that another user could have written it."""

    path: str
    whose: str
    settings: Mapping[str, Setting]
    others: bool = False

    def values(self) -> dict[str, Any]:
        """Return its values by key; paths are whole."""
        folder = Path(self.path).absolute().parent
        found = {name: setting.value for name, setting in self.settings.items()}
        for name in ("inventory", "workdir"):
            if name in found:
                found[name] = str(folder / Path(found[name]).expanduser())
        return found


@frozen
class Line:
    """A setting that its user has to know: file, number of its first line, text."""

    file: str
    number: int
    text: str


def user_file() -> Path:
    """Return the file of this user's settings, which need not exist."""
    place = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(place) / "launcher" / "config.yaml"


def set_user_value(name: str, value: str | None) -> Path:
    """Write a key into the file of this user's settings, or remove it; return the file. The other lines
    stay as they are. Raises DocumentError for a file that cannot be read, InputError for one that cannot
    be written."""
    file = user_file()
    content = ""
    if file.exists():
        content = _text(file)[0]
        known = settings.load(content, str(file))
        if name in known and len(known[name].text.splitlines()) != 1:
            raise InputError(f"{file} says {name} on several lines", "change it there by hand")
    lines = [line for line in content.splitlines() if not re.match(rf"{name}\s*:", line)]
    lines += [] if value is None else [f"{name}: {value}"]
    text = "".join(f"{line}\n" for line in lines)
    settings.load(text, str(file))  # a file in flow style has no lines of its own
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from None
    return file


def found(folder: Path | None = None) -> tuple[SettingsFile, ...]:
    """Return the settings that hold in a folder, the weaker first: the user's, then the project's.

    The project's are in ``.launcher.yaml``, or below ``[tool.launcher]`` in ``pyproject.toml``, in this
    folder or the first one above that has either. A file of another user's does not count. Raises
    InputError, DocumentError.
    """
    here = folder or Path.cwd()
    files = []
    if user_file().exists():
        files.append(_read(user_file(), USER))
    for place in (here, *here.parents):
        of_project = _in_folder(place)
        if of_project is not None:
            files.append(of_project)
            break
    return tuple(files)


def project_of_runs(files: Sequence[SettingsFile]) -> str | None:
    """Return the project that settings give to runs, those of the last file first; None without one."""
    named = next((one for file in reversed(files) if (one := file.values().get("project"))), None)
    return None if named == NO_PROJECT else named


def _in_folder(place: Path) -> SettingsFile | None:
    own, shared = place / IN_A_PROJECT, place / PYPROJECT
    table = settings.load_pyproject(*_text(shared)) if shared.is_file() else None
    if not own.exists():
        return None if table is None else _of_project(shared, table)
    if table is not None:
        raise InputError(
            f"{_shown(own)} and [tool.launcher] in {_shown(shared)} are both settings of this project",
            "move them into one of the two",
        )
    return _of_project(own)


def of_job(path: str | os.PathLike[str]) -> SettingsFile:
    """Return the options of a run that a job file holds. Raises DocumentError."""
    content = read_text(path, "job file")
    return SettingsFile(str(path), JOB, settings.in_a_job(content, str(path)))


def _of_project(file: Path, table: Mapping[str, Setting] | None = None) -> SettingsFile:
    if file.stat().st_uid not in (os.getuid(), 0):
        return SettingsFile(str(file), PROJECT, {}, others=True)
    read = _read(file, PROJECT) if table is None else SettingsFile(_shown(file), PROJECT, table)
    workdir = read.settings.get("workdir")
    if workdir and not Path(read.values()["workdir"]).resolve().is_relative_to(
        file.parent.resolve()
    ):
        raise DocumentError(
            f"workdir: {workdir.value} is outside of {file.parent}",
            "settings of a project may not copy other folders: --workdir, or the job file",
            str(file),
            workdir.line,
        )
    return read


def _read(file: Path, whose: str) -> SettingsFile:
    content, shown = _text(file)
    return SettingsFile(shown, whose, settings.load(content, shown))


def _text(file: Path) -> tuple[str, str]:
    return read_text(file, "settings"), _shown(file)


def _shown(file: Path) -> str:
    near = os.path.relpath(file)
    return near if not near.startswith("..") else str(file)


# -- what a file of somebody else's could do


def delicate_lines(files: Sequence[SettingsFile]) -> tuple[Line, ...]:
    """Return the settings of projects and jobs that run commands, send secrets, or let hosts control the
    terminal: the files may have come with somebody else's code."""
    return tuple(line for file in files for line in _delicate(file))


def _delicate(file: SettingsFile) -> Iterator[Line]:
    if file.whose == USER:
        return
    names = DELICATE_IN_A_JOB if file.whose == JOB else settings.DELICATE
    for name, setting in file.settings.items():
        if settings.is_delicate(name, setting.value, names):
            yield Line(file.path, setting.line, setting.text)


def are_allowed(lines: Sequence[Line]) -> bool:
    """Return whether the user has allowed just these lines before, or there are none."""
    return all(allowed.is_noted(ALLOWED, _digest(line)) for line in lines)


def allow(lines: Sequence[Line]) -> None:
    """Note that these lines may take effect. Raises OSError."""
    for line in lines:
        allowed.note(ALLOWED, _digest(line))


def require_allowed(lines: Sequence[Line]) -> None:
    """Raise InputError for lines that the user has not allowed."""
    first = next((line for line in lines if not are_allowed([line])), None)
    if first is not None:
        text = first.text.splitlines()[0].strip()
        of_project = Path(first.file).name in (IN_A_PROJECT, PYPROJECT)
        of_job = "" if of_project else f" {first.file}"
        raise InputError(
            f"{first.file}:{first.number} wants a say in what runs, and you have not allowed it: {text}",
            f"read it; then allow it once: launcher config allow{of_job}",
        )


def _digest(line: Line) -> str:
    return allowed.digest(str(Path(line.file).absolute()), line.text)
