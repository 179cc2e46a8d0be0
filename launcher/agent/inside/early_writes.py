"""Finds what a script changes before it imports a module: what that module reads of it, such as
``OMP_NUM_THREADS``, must be there before the import. Pure, but for the files that it reads.
"""

from __future__ import annotations

import ast
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

#: What changes the environment: methods of os.environ, and functions.
METHODS = (
    "setdefault",
    "update",
    "pop",
    "popitem",
    "clear",
    "__setitem__",
    "__delitem__",
    "__ior__",
)
FUNCTIONS = ("putenv", "unsetenv", "load_dotenv")
#: Most files that are read.
FILES = 200


def first_write(
    script: str, folders: Sequence[str], modules: Collection[str], free: Collection[str]
) -> str:
    """Return the first place, ``file:line NAME``, that may change the environment before ``script``, or
    what it imports from ``folders``, imports one of ``modules``; "" for none.

    Variables in ``free`` may change. What a function does counts where it is defined.
    """
    return _Search(folders, frozenset(modules), frozenset(free)).look(script) or ""


class _Search:
    def __init__(
        self, folders: Sequence[str], modules: frozenset[str], free: frozenset[str]
    ) -> None:
        self._folders, self._modules, self._free = folders, modules, free
        self._seen: set[str] = set()

    def look(self, path: str) -> str | None:
        """Return the first place in a file; None for none, "" where the import comes first."""
        path = os.path.abspath(path)
        if path in self._seen or len(self._seen) >= FILES:
            return None
        self._seen.add(path)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None
        for node, inside in _in_order(tree, False):
            name = written(node)
            if name is not None and name not in self._free:
                line = getattr(node, "lineno", 0)
                return "%s:%d %s" % (os.path.basename(path), line, name or "os.environ")
            for imported in _imported(node):
                if not inside and imported.split(".")[0] in self._modules:
                    return ""
                for file_of in self._files_of(imported, os.path.dirname(path)):
                    found = self.look(file_of)
                    if found or (found == "" and not inside):
                        return found
        return None

    def _files_of(self, module: str, beside: str) -> Iterator[str]:
        """Yield the files that an import of a module of the run's own executes."""
        for folder in dict.fromkeys([*self._folders, beside]):
            place, found = folder, False
            for part in module.split("."):
                place = os.path.join(place, part)
                for candidate in (os.path.join(place, "__init__.py"), place + ".py"):
                    if os.path.isfile(candidate):
                        found = True
                        yield candidate
            if found:
                return


def _in_order(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield all nodes in the order of the text, with whether they are inside of a function."""
    yield node, inside
    function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child, inside or function)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        own = [node.module] if node.module else []
        prefix = node.module + "." if node.module else ""
        return own + [prefix + alias.name for alias in node.names if alias.name != "*"]
    return []


def written(node: ast.AST) -> str | None:
    """Return the variable of the environment that a statement changes, "" for one that has no name
    there; None where it changes none."""
    targets: list[ast.AST] = []
    if isinstance(node, (ast.Assign, ast.Delete)):
        targets = list(node.targets)
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Subscript) and _is_environment(target.value):
            return _constant(target.slice)
        if isinstance(node, ast.AugAssign) and _is_environment(target):
            return ""
    if not isinstance(node, ast.Call):
        return None
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    first = _constant(node.args[0]) if node.args else ""
    if isinstance(called, ast.Attribute) and _is_environment(called.value) and name in METHODS:
        return first
    return first if name in FUNCTIONS else None


def _is_environment(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in ("environ", "environb")


def _constant(node: ast.AST) -> str:
    if type(node).__name__ == "Index":  # Python 3.8
        node = node.value  # type: ignore[attr-defined]
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""
