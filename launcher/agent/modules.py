"""Whether the host's Python finds modules, as a job's processes will: with its site-packages, the job's
folder and its variables. Nothing is imported there: torch alone takes seconds.

Not responsible for which modules those are.
"""

import json
import os
import sys

from . import processes

#: Seconds for an interpreter to answer: on a network file system it may have to look at many files.
PATIENCE = 15.0
MARK = "launcher-missing "

# argv[1] is the folder that stands first on the path of a script; the rest are modules.
_FIND = r"""
import importlib.util, json, sys
sys.path[0] = sys.argv[1]
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False
print(MARK + json.dumps([name for name in sys.argv[2:] if not there(name)]))
""".replace("MARK", repr(MARK))


class Search:
    """One that goes on by itself, in another process, until somebody wants to know."""

    def __init__(self, modules, env, folder):
        argv = [sys.executable, "-c", _FIND, folder] + list(modules)
        self.begun = processes.begin(argv, dict(os.environ, **env))

    def missing(self):
        """The modules that are not there; none when the interpreter does not answer, since whoever
        starts it next will tell."""
        told = processes.output(self.begun, PATIENCE) if self.begun else None
        for line in (told or "").splitlines():
            if line.startswith(MARK):
                return json.loads(line[len(MARK) :])
        return []
