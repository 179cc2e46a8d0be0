"""The house: what stands in it, and which rooms are pure. import-linter keeps the arrows (pyproject)."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import launcher

PACKAGE = Path(launcher.__file__).parent
ROOT = PACKAGE.parent
OVERVIEW = ROOT / "docs" / "internals" / "overview.md"

#: Rooms and modules without effects: the same answer for the same values, and nothing else.
PURE = (
    "spec",
    "frameworks",
    "jobs",
    "interop",
    "records",
    "runner.policy",
    "fleet.findings",
    "fleet.discovery",
    "fleet.bootstrap.plan",
    "fleet.bootstrap.recipes",
    "fleet.bootstrap.inspection",
    "runner.scaling.rates",
    "runner.scaling.compare",
    "cli.render.log_lines",
)
#: Modules in those rooms that read or write files, or look at this machine.
EFFECTS = {
    "spec.files",
    "spec.home",
    "spec.startup",
    "records.log_file",
    "records.record_files",
    "records.run_folder",
    "records.run_lock",
    "records.stored_files",
    "records.metric",
    "records.metric_curves",
    "records.metric_files",
    "records.last_line",
    "records.live_files",
    "records.losses",
    "records.run_reader",
    "records.scalars",
    "records.trial_values",
    "records.sweep_folder",
    "records.catalog",
}
#: What pure modules may import besides themselves and the harmless part of the standard library.
LIBRARIES = {
    "yaml": ("spec", "jobs", "interop"),
    "ClusterShell": ("spec.nodeset",),
    "urllib": ("spec.web_url", "runner.policy.wheels"),  # urllib.parse
    "threading": ("spec.frozen",),  # a lock around what is done once
    "packaging": ("runner.policy.wheels", "runner.wheel_tools"),
}
IMPURE = {
    "asyncio",
    "concurrent",
    "ctypes",
    "fcntl",
    "glob",
    "http",
    "io",
    "logging",
    "mmap",
    "os",
    "multiprocessing",
    "pathlib",
    "pty",
    "select",
    "selectors",
    "shutil",
    "socket",
    "ssl",
    "socketserver",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
SURFACE = [
    "can_wait",
    "need_inventory",
    "parse_options",
    "AuthenticationFailed",
    "CheckFailed",
    "ConnectError",
    "ConnectionLost",
    "DocumentError",
    "GpusInUse",
    "HostError",
    "HostKeyMismatch",
    "LauncherDied",
    "NewerRecord",
    "PlanError",
    "RecordError",
    "RunKept",
    "StoreError",
    "UnknownHostKey",
    "UnknownRun",
    "Unreachable",
    "UnreadableRecord",
    "LogLine",
    "events",
    "AsyncClient",
    "AsyncRunHandle",
    "Client",
    "ExecResult",
    "Executor",
    "FunctionFailed",
    "FunctionJob",
    "GpuSample",
    "GpuUse",
    "Ranks",
    "RunArguments",
    "RunFuture",
    "processes",
    "results",
    "LogPiece",
    "Pulled",
    "RunHandle",
    "RunOptions",
    "RunReader",
    "RerunOptions",
    "Wanted",
    "RunState",
    "Sample",
    "Summary",
    "Host",
    "HostUse",
    "InputError",
    "Inventory",
    "Job",
    "LauncherError",
    "Plan",
    "Receipt",
    "Resources",
    "Secret",
    "__version__",
    "dry_run",
    "load_inventory",
    "load_job",
    "load_options",
    "make_job",
    "run_job",
]

PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    # Scripts for hosts, which need what hosts have, and what goes into a namespace of Hydra's.
    if path.parent.name not in ("allreduce", "hydra_plugins", "schedulers")
}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}


def below(module: str, places: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{place}.") for place in places)


PURE_MODULES = [name for name in sorted(PATHS) if below(name, PURE) and name not in EFFECTS]


def imports(module: str) -> Iterator[str]:
    """What a module imports, anywhere in it: names of ours as in ``PATHS``, ``/name`` of others."""
    package = ["launcher", *module.split(".")][:-1]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
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


def rooms() -> dict[str, set[str]]:
    """The arrows between rooms, as the imports draw them."""
    arrows: dict[str, set[str]] = {}
    for module in PATHS:
        here = module.partition(".")[0]
        if here.startswith("__"):
            continue
        there = {name.partition(".")[0] for name in imports(module) if name[0] != "/"}
        arrows.setdefault(here, set()).update(there - {here, "__init__"})
    return arrows


def entries_of_the_house() -> list[Path]:
    """Not what a checkout of an older version leaves behind: folders with nothing but caches."""
    return sorted(
        path for path in PACKAGE.iterdir() if path.is_file() or next(path.rglob("*.py"), None)
    )


def test_the_house_is_small() -> None:
    names = [path.name for path in entries_of_the_house()]
    rooms = [name for name in names if name not in ("__init__.py", "__main__.py", "py.typed")]
    assert len(rooms) <= 14, rooms


@pytest.mark.thorough
def test_the_overview_draws_what_the_imports_draw() -> None:
    block = re.search(r"```rooms\n(.*?)```", OVERVIEW.read_text(), re.S)
    assert block
    drawn = dict(line.split(" -> ") for line in block.group(1).splitlines() if " -> " in line)
    assert {room: set(to.split()) for room, to in drawn.items()} == {
        room: to for room, to in rooms().items() if to
    }


def test_the_overview_has_a_sentence_for_every_entry() -> None:
    text = OVERVIEW.read_text()
    for path in entries_of_the_house():
        assert re.search(rf"^\| `{re.escape(path.name)}/?` \|", text, re.M), path.name


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_have_no_effects(module: str) -> None:
    libraries = {name[1:] for name in imports(module) if name.startswith("/")}
    allowed = {name for name, places in LIBRARIES.items() if below(module, places)}
    assert libraries <= (sys.stdlib_module_names - IMPURE) | allowed
    used = {node.id for node in ast.walk(TREES[module]) if isinstance(node, ast.Name)}
    assert not used & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_import_pure_modules(module: str) -> None:
    ours = {name for name in imports(module) if name[0] != "/"}
    assert not ours - {*PURE_MODULES, *PATHS} and not ours & EFFECTS


@pytest.mark.thorough
@pytest.mark.parametrize("module", sorted(PATHS))
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("name", [name for name in SURFACE if name != "__version__"])
def test_public_names_are_explained(name: str) -> None:
    assert getattr(launcher, name).__doc__


def test_public_names_are_these() -> None:
    assert sorted(launcher.__all__) == sorted(SURFACE)
