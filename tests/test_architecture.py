"""The shape of the program: which part every module belongs to, and what it may import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import launcher

ROOT = Path(launcher.__file__).parent

#: Every module and its part. ``x.*`` is a folder. This is the one place that says so.
PARTS = {
    "core": (
        "errors frozen model document nodeset inventory job planning frameworks.* events failure status logs "
        "names causes others receipt stall again elastic spare candidates "
        "bootstrap.plan bootstrap.recipes bootstrap.look "  # what a bare host lacks
        "findings.* rewrite "  # what a look at hosts means
        "scale.rates scale.compare "  # what trials tell
        "tokens filling lacking commands habits roles placement "  # what each process is given, and where
        "imports.* import_jobs.* export_jobs.* written exports origins "  # what others write, and for them
    ),
    "agent": "agent.*",
    "effects": (
        "sshlib ssh remote shipping rsync joint source sync outputs store record sandbox peers wanted "  # one thing each
        "ledger link connect meet start end collect handover stacks together reserve run "  # one run, step by step
        "attach runs visit adopt amend "  # a run that began elsewhere
        "check.* "  # before a run
        "scale.* "  # several short runs
        "effective "  # what holds for a host in the end
        "bootstrap.* "  # bare hosts, over Fabric
        "api __init__"  # what a program calls
    ),
    "shipped": "shipped.*",  # taken to hosts as they are
    "cli": "cli.* __main__",
}
MAY_IMPORT = {
    "core": {"core"},
    "agent": {"agent"},
    "effects": {"core", "effects"},
    "cli": {"core", "effects", "cli"},
}
#: Modules that may import the agent, and what of it.
KNOWS_THE_AGENT = {
    "remote": {"agent.protocol"},  # the one that talks to it
    "source": {"agent.protocol"},  # Fingerprint: both sides have to compute the same
}
#: What the core may import besides itself and the harmless part of the standard library.
LIBRARIES = {
    "document": {"yaml"},
    "import_jobs.dstack": {"yaml"},
    "import_jobs.node_task": {"yaml"},
    "import_jobs.osmo": {"yaml"},
    "import_jobs.polyaxon": {"yaml"},
    "import_jobs.polyaxon_run": {"yaml"},
    "import_jobs.shares": {"yaml"},
    "import_jobs.skypilot": {"yaml"},
    "imports.ansible_yaml": {"yaml"},
    "imports.clustershell": {"yaml"},
    "imports.mlx": {"yaml"},
    "imports.skypilot": {"yaml"},
    "imports.text": {"yaml"},
    "origins": {"yaml"},
    "inventory": {"yaml"},
    "job": {"yaml"},
    "commands": {"yaml"},
    "nodeset": {"ClusterShell"},
    "rewrite": {"yaml"},
}
IMPURE = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "io", "logging", "mmap", "os"),
    *("multiprocessing", "pathlib", "pty", "select", "selectors", "shutil", "socket", "ssl"),
    *("socketserver", "subprocess", "tempfile", "threading", "time", "urllib"),
}
SURFACE = [
    *("Host", "Inventory", "Job", "LauncherError", "Plan", "Receipt", "Resources", "Secret"),
    *("dry_run", "load_inventory", "load_job", "make_job", "run_job"),
]

PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")
}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}


def parts_of(module: str) -> list[str]:
    """Where it is named itself, or else its folder is."""
    for name in (module, f"{module.partition('.')[0]}.*"):
        if found := [part for part, listed in PARTS.items() if name in listed.split()]:
            return found
    return []


def part_of(module: str) -> str:
    return next(iter(parts_of(module)), "")


def imports(module: str, typing_too: bool = True) -> Iterator[str]:
    """What a module imports, anywhere in it: names of ours as in ``PARTS``, ``/name`` of others."""
    package = ["launcher", *module.split(".")][:-1]
    skipped: set[ast.AST] = set()
    for node in ast.walk(TREES[module]):
        if node in skipped:
            skipped |= set(ast.iter_child_nodes(node))
            continue
        if not typing_too and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= set(node.body)
        elif isinstance(node, ast.Import):
            yield from (whole_name(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                yield whole_name(".".join([*base, alias.name]))


def whole_name(dotted: str) -> str:
    """The module in which a dotted name is, or which it is."""
    first, _, rest = dotted.partition(".")
    if first != "launcher":
        return "/" + first
    words = rest.split(".") if rest else []
    for length in range(len(words), -1, -1):
        for name in (".".join(words[:length]), ".".join([*words[:length], "__init__"])):
            if name in PATHS:
                return name
    raise AssertionError(dotted)


@pytest.mark.parametrize("module", sorted(PATHS))
def test_every_module_is_in_one_part(module: str) -> None:
    assert len(parts_of(module)) == 1, "say in PARTS where it belongs"


def test_parts_name_modules_that_exist() -> None:
    known = {part for module in PATHS for part in (module, f"{module.partition('.')[0]}.*")}
    assert set(" ".join(PARTS.values()).split()) <= known


@pytest.mark.parametrize("module", sorted(PATHS))
def test_import_rule(module: str) -> None:
    part = part_of(module)
    for name in imports(module):
        if name.startswith("/") or part_of(name) in MAY_IMPORT.get(part, ()):
            continue
        assert name in KNOWS_THE_AGENT.get(module, ()), f"{module} ({part}) imports {name}"


@pytest.mark.parametrize("module", [name for name in sorted(PATHS) if part_of(name) == "core"])
def test_core_is_pure(module: str) -> None:
    libraries = {name[1:] for name in imports(module) if name.startswith("/")}
    allowed = (sys.stdlib_module_names - IMPURE) | LIBRARIES.get(module, set())
    assert libraries <= allowed
    used = {node.id for node in ast.walk(TREES[module]) if isinstance(node, ast.Name)}
    assert not used & {"open", "print", "input", "exec", "eval", "__import__"}


def test_nothing_imports_in_a_circle() -> None:
    graph = {
        name: {n for n in imports(name, typing_too=False) if n[0] != "/" and n != "__init__"}
        for name in PATHS
        if name != "__init__"  # which names what is public, and holds the version
    }
    for name in graph:  # a folder's own file stands for the folder
        graph[name].discard(name)
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", sorted(PATHS))
def test_size_and_docstring(module: str) -> None:
    lines = PATHS[module].read_text().count("\n")
    assert lines <= 400
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("name", SURFACE)
def test_public_names_are_explained(name: str) -> None:
    assert getattr(launcher, name).__doc__


def test_public_names_are_these() -> None:
    assert sorted(launcher.__all__) == sorted(SURFACE)
