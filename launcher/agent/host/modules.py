"""Checks that the host's Python will find the modules of a job, with its site-packages, folder and
variables; also programs on PATH, and libraries that the extensions of a package are linked with.

No module is imported: torch alone takes seconds. Packages are listed by the names of their folders.
"""

from __future__ import annotations

import os
import sys

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..base.messages import ContainerSpec
    from ..processes.visitors import Visitor
    from .searched import Searched

#: Seconds for an interpreter to answer: a network file system may be slow.
PATIENCE = 15.0
#: Seconds for one that a container has to be started for.
STARTING = 45.0
#: Seconds for a script to find the Python of an environment.
LOOKING = 30.0
MARK, PLACES = "launcher-missing", "launcher-places"
#: What stands before our own words among those of an environment, and how many of them are passed on.
SAID, MOST_SAID = "launcher: ", 300
#: Packages that are listed.
MOST_PACKAGES = 2000

# argv[1] is the folder that comes first in sys.path of a script; the rest are modules, program:NAME
# or linked:PACKAGE:LIBRARY. An ELF file holds names of libraries between two zero bytes. Each run in an
# environment waits for this, so nothing is imported that takes as long as Python itself: no re, no json.
_FIND = r"""
import os, sys
sys.path[0] = sys.argv[1]
def there(name):
    kind, _, rest = name.rpartition(":")
    if kind == "program":
        import shutil
        origins.append(shutil.which(rest))
        return bool(origins[-1])
    import importlib.util
    try:
        spec = importlib.util.find_spec(kind.partition(":")[2] if kind else name)
    except (ImportError, ValueError, AttributeError):
        return False
    if spec is not None:
        origins.append(spec.has_location and spec.origin)
        origins.extend(spec.submodule_search_locations or ())
    return spec is not None and (not kind or linked(spec, rest))
def linked(spec, library):
    import glob, mmap
    for folder in spec.submodule_search_locations or ():
        for path in glob.iglob(os.path.join(glob.escape(folder), "**", "*.so"), recursive=True):
            if os.path.getsize(path) == 0:
                continue  # nothing that mmap takes
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                if text.find(b"\0" + library.encode()) >= 0:
                    return True
    return False
def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
def is_name(text, more=""):
    return text and all(one < "\x7f" and (one.isalnum() or one in "_." + more) for one in text)
def normal(name):
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))
def packages():
    found = {}
    def note(name, version):
        if len(found) < MOST and version and all(" " < one < "\x7f" for one in version):
            found.setdefault(name, version)
    for folder in sys.path[1:]:
        for entry in names_in(folder or "."):
            stem, _, ending = entry.rpartition(".")
            parts = stem.split("-")
            if ending in ("dist-info", "egg-info") and is_name(parts[0]):
                if len(parts) == 2 or (len(parts) == 3 and parts[2].startswith("py")):
                    note(*parts[:2])
    known = set(map(normal, found))
    # What conda has put there beside packages of Python, as CUDA.
    for entry in names_in(os.path.join(sys.prefix, "conda-meta")):
        parts = entry[:-5].rsplit("-", 2)
        if entry.endswith(".json") and len(parts) == 3 and is_name(parts[0], "-"):
            if normal(parts[0]) not in known:
                note(*parts[:2])
    return sorted("%s==%s" % one for one in found.items())
origins = []
missing = [str(number) for number, name in enumerate(sys.argv[2:]) if not there(name)]
print("\t".join([MARK, " ".join(missing)] + packages()))
print("\t".join([PLACES] + sys.path[1:] + list(filter(None, origins))))
"""
_FIND = _FIND.replace("MARK", repr(MARK)).replace("PLACES", repr(PLACES))
_FIND = _FIND.replace("MOST", str(MOST_PACKAGES))


class Search:
    """A search in a process of its own, which starts at once."""

    def __init__(
        self,
        modules: list[str],
        env: dict[str, str],
        folder: str,
        behind: Sequence[str] = (),
        python: str | None = None,
        container: ContainerSpec | None = None,
        root: str = "",
    ) -> None:
        """``behind`` are words in front of the interpreter: what activates the job's environment."""
        self._modules = modules
        argv = [*behind, python or sys.executable, "-c", _FIND, folder] + list(modules)
        self._inside: Visitor | None = None
        self._begun: tuple[int, int] | None = None
        self._searched: Searched | None = None
        self._known: dict[str, Any] | None = None
        if container:
            from ..processes.visitors import Visitor  # few runs are in an image
            from .searched import Searched

            if not behind:
                asked = [
                    python or "",
                    *modules,
                    "",
                    *("%s=%s" % one for one in sorted(env.items())),
                ]
                self._searched = Searched(root, container, asked)
                self._known = self._searched.found()
            if self._known is None:
                self._inside = Visitor(root, container, argv, env, os.environ)
        else:
            self._begun = processes.begin(argv, dict(os.environ, **env))

    def end(self) -> None:
        """Leave no container."""
        if self._inside:
            self._inside.end()
            self._inside = None

    def _output(self) -> str | None:
        if self._inside:
            inside = self._inside
            inside.wait(STARTING)
            self.end()
            return None if inside.code else inside.out
        return processes.output(self._begun, PATIENCE) if self._begun else None

    def result(self) -> dict[str, Any]:
        """Wait for the result, and return what is ``missing`` and which ``packages`` there are;
        ``trouble`` where the environment cannot be activated.

        Nothing when the interpreter does not answer: the start of the run will report that.
        """
        if self._known is not None:
            return self._known
        lines = (self._output() or "").splitlines()
        told = {mark: rest.split("\t") for mark, _, rest in (one.partition("\t") for one in lines)}
        if MARK in told:
            numbers, *packages = told[MARK]
            missing = [self._modules[int(one)] for one in numbers.split()]
            found = {"missing": missing, "packages": packages}
            if self._searched and PLACES in told:
                self._searched.keep(found, told[PLACES])
            return found
        answer: dict[str, Any] = {"missing": [], "packages": []}
        for line in lines:
            if line.startswith(SAID):
                answer["trouble"] = line[len(SAID) :][:MOST_SAID]
        return answer
