"""Find the modules that a Python script needs to start.

Optional imports are left out: in a function, in a ``try`` that catches the failure, and under
``TYPE_CHECKING`` or another condition.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

_CATCHES = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def needed(text: str) -> tuple[str, ...]:
    """Return the dotted names that a text always imports; ``from a import b`` is ``a`` and ``a.b``.

    Relative imports start with dots. Raises SyntaxError.
    """
    return tuple(dict.fromkeys(_in(ast.parse(text).body)))


def _in(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            base = "." * statement.level + (statement.module or "")
            yield base
            for alias in statement.names:
                yield f"{base}.{alias.name}" if statement.module else base + alias.name
        elif isinstance(statement, ast.Try):
            if not any(_catches(handler) for handler in statement.handlers):
                yield from _in(statement.body)
            yield from _in(statement.finalbody)
        elif isinstance(statement, ast.With | ast.ClassDef) or _is_main(statement):
            yield from _in(statement.body)


def _is_main(statement: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test)


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return bool(_CATCHES & {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)})
