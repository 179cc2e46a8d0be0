"""Find where a Python script starts ranks of its own, by ``torch.multiprocessing.spawn`` or a ``launch``
as detectron2 has it. Pure.

Only what it is sure to reach counts: a call in an ``if`` may be for a user without a launcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast

_MODULE = "torch.multiprocessing"
_STARTERS = ("spawn", "start_processes")
#: What only such a ``launch`` takes: detectron2's, YOLOX's and those of projects that began as them.
_OF_LAUNCH = "machine_rank"
_MAY_START = re.compile(rf"\b(?:{'|'.join(_STARTERS)})\(|\b{_OF_LAUNCH}=")
#: A script that reads these knows that a launcher may have started it.
_KNOWS = re.compile(r"LOCAL_RANK|TORCHELASTIC_")
#: The option of PyTorch's own ImageNet example, and of many that began as it.
OPTION = "multiprocessing_distributed"


def line_of(text: str, arguments: Sequence[str] = ()) -> int:
    """Return the line at which a script that gets these arguments starts ranks; 0 for none."""
    if not _MAY_START.search(text) or _KNOWS.search(text):
        return 0
    import ast  # most scripts need none

    try:
        tree = ast.parse(text)
        given = {word.lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
        return _Reader(tree, OPTION in given).line
    except (SyntaxError, ValueError, RecursionError):
        return 0


def counts_machines(text: str) -> bool:
    """Return whether a script that starts ranks has to be told how many hosts there are."""
    return f"{_OF_LAUNCH}=" in text


class _Reader:
    """Follows a script from its first line into the functions that it calls."""

    def __init__(self, tree: ast.Module, is_asked: bool) -> None:
        import ast

        self._ast, self._is_asked = ast, is_asked
        self.line = 0
        self._starters = {f"{_MODULE}.{name}" for name in _STARTERS} | set(self._imported(tree))
        self._functions = {
            node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)
        }
        self._block(tree.body)

    def _imported(self, tree: ast.Module) -> Iterator[str]:
        """Yield how the script calls what starts ranks."""
        for node in self._ast.walk(tree):
            if isinstance(node, self._ast.Import):
                names = [(one.name, one.asname or one.name) for one in node.names]
            elif isinstance(node, self._ast.ImportFrom) and node.module and not node.level:
                names = [
                    (f"{node.module}.{one.name}", one.asname or one.name) for one in node.names
                ]
            else:
                continue
            for whole, called in names:
                if whole == _MODULE:
                    yield from (f"{called}.{name}" for name in _STARTERS)
                elif whole.rpartition(".")[0] == _MODULE and whole.rpartition(".")[2] in _STARTERS:
                    yield called

    def _block(self, body: Sequence[ast.stmt]) -> bool:
        """Follow statements in their order; return whether what comes behind them is sure to run."""
        return all(not self.line and self._statement(node) for node in body)

    def _statement(self, node: ast.stmt) -> bool:
        ast = self._ast
        if isinstance(node, ast.If):
            if self._holds(node.test):
                return self._block(node.body)
            return not any(self._leaves(inner) for inner in ast.walk(node))
        if isinstance(node, (ast.With, ast.Try, ast.For)):
            return self._block(node.body)
        if isinstance(node, (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call):
                    self._call(inner)
        return not self._leaves(node)

    def _holds(self, test: ast.expr) -> bool:
        """Return whether a condition is sure to hold: of the main module, or of what was asked for."""
        said = self._ast.unparse(test)
        return re.fullmatch(r"__name__ == '__main__'", said) is not None or (
            self._is_asked and re.fullmatch(rf"[\w.]*\b{OPTION}", said) is not None
        )

    def _leaves(self, node: ast.AST) -> bool:
        """Return whether a statement leaves the function or the program, other than by an error."""
        ast = self._ast
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return ast.unparse(node.value.func) in ("exit", "quit", "sys.exit", "os._exit")
        return isinstance(node, ast.Return)

    def _call(self, node: ast.Call) -> None:
        called = self._ast.unparse(node.func)
        is_launch = called.rpartition(".")[2] == "launch" and any(
            one.arg == _OF_LAUNCH for one in node.keywords
        )
        if called in self._starters or is_launch:
            self.line = self.line or node.lineno
        names = [one.id for one in (node.func, *node.args) if isinstance(one, self._ast.Name)]
        for name in names:
            if function := self._functions.pop(name, None):
                self._block(function.body)
