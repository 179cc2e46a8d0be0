"""Find out from a job's files what every host must have."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ...frameworks import requirements
from ...spec.model import Job
from ..findings.script_imports import needed
from ..findings.survey import Questions

#: The most files of a job that are read for their imports.
MOST_FILES = 500


def questions_of(job: Job) -> Questions:
    """Return the modules that the job and its framework need from the host, and its paths."""
    framework = (*requirements.modules_of(job), *requirements.needs_of(job.framework))
    modules = sorted({*framework, *outside(job)})
    return Questions(tuple(modules), dict(job.envs), job.paths_needed)


def imported(job: Job) -> set[str]:
    """Return the top-level names that the job's script imports and that are not beside it."""
    names = {n.partition(".")[0] for path in _scripts(job) for n in _needed(path)}
    own = {entry.stem for path in _scripts(job) for entry in path.parent.iterdir()}
    return names - own


def outside(job: Job) -> set[str]:
    """Return the top-level names that the job imports and does not bring along."""
    queue = [(path, path.parent) for path in _scripts(job)]
    seen, found = {path for path, _ in queue}, _named_module(job)
    while queue and len(seen) < MOST_FILES:
        path, root = queue.pop()
        for name in _needed(path):
            files = list(_own_files(name, path, root))
            if not files and not name.startswith("."):
                found.add(name.partition(".")[0])
            queue += [(file, root) for file in files if file not in seen]
            seen |= set(files)
    own = {
        entry.stem for path in _scripts(job) for entry in path.parent.iterdir() if _is_code(entry)
    }
    return found - own


def _is_code(entry: Path) -> bool:
    return entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))


def _needed(path: Path) -> tuple[str, ...]:
    try:
        return needed(path.read_text("utf-8", "replace"))
    except (OSError, SyntaxError, ValueError):
        return ()  # it may be for another Python, or never imported


def _words(job: Job) -> list[str]:
    if not job.shell:
        return list(job.run)
    try:
        return shlex.split(job.run[0], comments=True)
    except ValueError:
        return job.run[0].split()


def _scripts(job: Job) -> list[Path]:
    """Return the Python files of the command that are in the job's folder."""
    base = Path(job.workdir)
    words = [word for word in _words(job) if word.endswith(".py")]
    named = _words(job)
    if "-m" in named[:-1]:
        module = named[named.index("-m") + 1].replace(".", "/")
        words += [f"{module}.py", f"{module}/__main__.py"]
    return [base / word for word in words if (base / word).is_file()]


def _named_module(job: Job) -> set[str]:
    """Return the package of ``-m package``, unless it is the job's own."""
    words = _words(job)
    if "-m" not in words[:-1] or _scripts(job):
        return set()
    name = words[words.index("-m") + 1].partition(".")[0]
    return {name} if name.isidentifier() else set()


def _own_files(name: str, importer: Path, root: Path) -> Iterator[Path]:
    """Yield the files of the job that a dotted name refers to."""
    dots = len(name) - len(name.lstrip("."))
    base = importer.parents[dots - 1] if dots and dots <= len(importer.parents) else root
    parts = [part for part in name.lstrip(".").split(".") if part]
    for length in range(1, len(parts) + 1):
        place = base.joinpath(*parts[:length])
        yield from (f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file())
