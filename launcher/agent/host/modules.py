"""Checks that the host's Python will find the modules of a job, with its site-packages, folder and
variables; also programs on PATH, and libraries that the extensions of a package are linked with.

No module is imported: torch alone takes seconds. Packages are listed by the names of their folders.
"""

from __future__ import annotations

import json
import os
import sys

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..base.messages import ContainerSpec
    from ..processes.visitors import Visitor

#: Seconds for an interpreter to answer: a network file system may be slow.
PATIENCE = 15.0
#: Seconds for one that a container has to be started for.
STARTING = 45.0
#: Seconds for a script to find the Python of an environment.
LOOKING = 30.0
MARK = "launcher-missing "
#: What stands before our own words among those of an environment, and how many of them are passed on.
SAID, MOST_SAID = "launcher: ", 300
#: Packages that are listed.
MOST_PACKAGES = 2000

# argv[1] is the folder that comes first in sys.path of a script; the rest are modules, program:NAME
# or linked:PACKAGE:LIBRARY. An ELF file holds names of libraries between two zero bytes.
_FIND = r"""
import importlib.util, json, sys
sys.path[0] = sys.argv[1]
def there(name):
    kind, _, rest = name.rpartition(":")
    if kind == "program":
        import shutil
        return shutil.which(rest) is not None
    try:
        spec = importlib.util.find_spec(kind.partition(":")[2] if kind else name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and (not kind or linked(spec, rest))
def linked(spec, library):
    import glob, mmap, os
    for folder in spec.submodule_search_locations or ():
        for path in glob.iglob(os.path.join(glob.escape(folder), "**", "*.so"), recursive=True):
            if os.path.getsize(path) == 0:
                continue  # nothing that mmap takes
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                if text.find(b"\0" + library.encode()) >= 0:
                    return True
    return False
def packages():
    import os, re
    found = {}
    for folder in sys.path[1:]:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            match = re.match(r"([\w.]+?)-([^-/]+)(-py[\d.]+)?\.(dist|egg)-info$", entry)
            if match and len(found) < MOST:
                found.setdefault(match.group(1), match.group(2))
    try:
        names = os.listdir(os.path.join(sys.prefix, "conda-meta"))
    except OSError:
        names = []
    known = set(re.sub("[-_.]+", "-", name).lower() for name in found)
    for entry in names:  # what conda has put there beside packages of Python, as CUDA
        match = re.match(r"([\w.-]+)-([^-/]+)-[^-/]+\.json$", entry)
        if match and re.sub("[-_.]+", "-", match.group(1)).lower() not in known and len(found) < MOST:
            found.setdefault(match.group(1), match.group(2))
    return sorted("%s==%s" % one for one in found.items())
missing = [name for name in sys.argv[2:] if not there(name)]
print(MARK + json.dumps({"missing": missing, "packages": packages()}))
""".replace("MARK", repr(MARK)).replace("MOST", str(MOST_PACKAGES))


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
        argv = [*behind, python or sys.executable, "-c", _FIND, folder] + list(modules)
        self._inside: Visitor | None = None
        self._begun: tuple[int, int] | None = None
        if container:
            from ..processes.visitors import Visitor  # few runs are in an image

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
        lines = (self._output() or "").splitlines()
        for line in lines:
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line[len(MARK) :])
                return found
        answer: dict[str, Any] = {"missing": [], "packages": []}
        for line in lines:
            if line.startswith(SAID):
                answer["trouble"] = line[len(SAID) :][:MOST_SAID]
        return answer
