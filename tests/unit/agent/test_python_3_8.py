"""The agent is Python 3.8 and imports the standard library alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import launcher.agent

AGENT = Path(launcher.agent.__file__).parent
MODULES = sorted(AGENT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_agent_parses_as_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_agent_imports_the_standard_library_and_itself(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(AGENT).parts)
            first = str(node.module).split(".")[0]
            assert 1 <= node.level <= depth or (not node.level and first in sys.stdlib_module_names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_agent_calls_no_type_with_parameters(path: Path) -> None:
    """Python 3.8 has no frozenset[str]()."""
    kinds = {"dict", "frozenset", "list", "set", "tuple", "type"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            called = node.func.value
            assert not (isinstance(called, ast.Name) and called.id in kinds), f"line {node.lineno}"
