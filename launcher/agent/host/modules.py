"""Whether the host's Python finds modules, as a job's processes will: with its site-packages, the job's
folder and its variables. Nothing is imported there: torch alone takes seconds. Also whether programs
are there, and what the extensions of a package are linked with.
"""

from __future__ import annotations

import json
import os
import sys

from ..processes import processes

#: Seconds for an interpreter to answer: on a network file system it may have to look at many files.
PATIENCE = 15.0
MARK = "launcher-missing "

# argv[1] is the folder that stands first on the path of a script; the rest are modules, or
# program:NAME, or linked:PACKAGE:LIBRARY: names of libraries stand in an ELF file between two zeros.
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
print(MARK + json.dumps([name for name in sys.argv[2:] if not there(name)]))
""".replace("MARK", repr(MARK))


class Search:
    """One that goes on by itself, in another process, until somebody wants to know."""

    def __init__(self, modules: list[str], env: dict[str, str], folder: str) -> None:
        argv = [sys.executable, "-c", _FIND, folder] + list(modules)
        self.begun = processes.begin(argv, dict(os.environ, **env))

    def missing(self) -> list[str]:
        """What is not there; none when the interpreter does not answer, since whoever
        starts it next will tell."""
        told = processes.output(self.begun, PATIENCE) if self.begun else None
        for line in (told or "").splitlines():
            if line.startswith(MARK):
                names: list[str] = json.loads(line[len(MARK) :])
                return names
        return []
