"""launcher in somebody else's process: it changes no library there and nothing of the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import ROOT

#: What a program could miss: of the process, and of libraries that launcher uses.
STATE = """
import ctypes.util, gc, json, logging, os, shlex, signal, sys, threading, warnings

def process():
    handlers = {n.name: str(signal.getsignal(n)) for n in signal.Signals}
    hooks = [sys.unraisablehook, sys.excepthook, threading.excepthook, warnings.showwarning]
    umask = os.umask(0o77)
    os.umask(umask)
    return {
        "handlers": handlers,
        "hooks": [str(hook) for hook in (*hooks, *sys.meta_path, ctypes.util.find_library)],
        "gc": [gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()],
        "logging": [str(logging.root), str(logging.root.handlers)],
        "filters": [str(one) for one in warnings.filters],
        "where": [os.getcwd(), dict(os.environ), umask],
    }

def asyncssh_has():
    return {
        name: {key: str(type(value)) for key, value in vars(module).items()}
        for name, module in sys.modules.items()
        if name.split(".")[0] == "asyncssh"
    }

def asyncssh_is():
    return {
        f"{name}.{key}": id(value)
        for name, module in sys.modules.items()
        if name.split(".")[0] == "asyncssh"
        for key, value in vars(module).items()
    }
"""
EVERYTHING = """
import importlib, pkgutil, launcher
for module in pkgutil.walk_packages(launcher.__path__, "launcher."):
    if not module.name.startswith(("launcher.agent", "launcher.runner.allreduce", "launcher.integrations.", "launcher.__main__")):
        importlib.import_module(module.name)
"""
RUN = """
import launcher
inventory = launcher.load_inventory("inventory.yaml")
receipt = launcher.run_job(launcher.make_job(run="true", framework="env"), inventory)
assert receipt.status == "succeeded", receipt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inventory.yaml").write_text("sandbox: true\nhosts: [local1]\n")
    return tmp_path


def fresh(folder: Path, code: str) -> Any:
    """What a fresh interpreter prints, as JSON."""
    env = {**os.environ, "LAUNCHER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", STATE + code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.thorough
@pytest.mark.parametrize("use", [EVERYTHING, RUN], ids=["imported", "a run"])
def test_asyncssh_is_as_it_is_without_launcher(folder: Path, use: str) -> None:
    show = "\nimport asyncssh, asyncssh.config\nprint(json.dumps(asyncssh_has()))"
    assert fresh(folder, use + show) == fresh(folder, show)


@pytest.mark.thorough
@pytest.mark.parametrize("use", [EVERYTHING, RUN], ids=["imported", "a run"])
def test_nothing_is_changed(folder: Path, use: str) -> None:
    before, after = fresh(
        folder,
        f"""
import asyncssh, asyncssh.config
before = process(), asyncssh_is()
{use}
print(json.dumps([before, (process(), asyncssh_is())]))
""",
    )
    assert after == before


def test_the_command_line_imports_asyncssh_without_its_search(folder: Path) -> None:
    code = """
from launcher.cli.process import prepare
before = process()["hooks"]
prepare()
import asyncssh
assert not hasattr(asyncssh.crypto.umac, "umac64"), "no library was found"
assert process()["hooks"][-1] == before[-1], "find_library"
assert set(process()["hooks"][4:]) == set(before[4:]), "meta_path"
print("null")
"""
    fresh(folder, code)


def test_a_run_imports_nothing_for_stores() -> None:
    """http.client and XML take as long as a host's login; only runs with data or a store pay for it."""
    program = (
        "import sys\nfrom launcher.runner import attach, run\n"
        "print(*sorted({'http.client', 'xml.etree.ElementTree'} & sys.modules.keys()))"
    )
    words = [sys.executable, "-c", program]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"


@pytest.mark.thorough
def test_a_dry_run_and_a_list_import_no_ssh(tmp_path: Path) -> None:
    """asyncssh takes a third of a second; only what goes to hosts pays for it."""
    (tmp_path / "lab.yaml").write_text("hosts: {a: {}}\n")
    for words in (["run", "-i", "lab.yaml", "--dry-run", "true"], ["ls"], ["show", "x"]):
        program = (
            "import sys\nfrom launcher.cli import main\n"
            f"sys.argv[1:] = {words!r}\n"
            "try: main()\nexcept SystemExit: pass\n"
            "assert 'asyncssh' not in sys.modules and 'cryptography' not in sys.modules\n"
        )
        env = {**os.environ, "LAUNCHER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-c", program]
        ran = subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (words, ran.stderr)


IMPORTED = """
import sys
before = set(sys.modules)
import launcher
print(*sorted(set(sys.modules) - before))
launcher.Client
launcher.make_job
print(*sorted(set(sys.modules) - before))
"""
#: Modules that `import launcher` brings, its own included: `import typing` alone would bring ten more, and
#: take most of the time.
FEW = 3


@pytest.mark.thorough
def test_importing_it_costs_little(tmp_path: Path) -> None:
    """Counted, since times depend on the machine: no other package, and few modules of Python's own.
    benchmarks/imports.py measures it."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{IMPORTED}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    first = set(done.stdout.split("\n")[0].split())
    ours = {name for name in first if name.split(".")[0] == "launcher"}
    assert ours == {"launcher", "launcher.spec", "launcher.spec.version"}, done.stderr
    others = {name for name in first - ours if name.split(".")[0] not in sys.stdlib_module_names}
    assert not others - {"typing.io", "typing.re"}, others
    assert len(first) <= FEW, sorted(first)
    more = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    used = {name.split(".")[0] for name in more.stdout.split("\n")[1].split()}
    plugged = {"asyncssh", "click", "IPython", "hydra", "submitit", "torchx", "torch", "starlette"}
    assert not used & {*plugged, "cloudpickle", "uvicorn", "cryptography"}, used
