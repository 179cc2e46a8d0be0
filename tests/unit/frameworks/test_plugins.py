"""Frameworks by name: loaded when used, and plug-ins of other packages that may be broken."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import frameworks
from launcher.api.jobs import dry_run, make_job
from launcher.frameworks import Framework, PluginWarning
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Inventory
from support import ROOT

WHOLE = """
from launcher.frameworks import Framework

class Mine(Framework):
    name = "{name}"
    computed = frozenset({{"MINE"}})

    def processes(self, place):
        return tuple(place.process(task, {{"MINE": str(task.rank)}}) for task in place.tasks())
"""
#: What was enough before there was a base class.
DUCK = """
class Mine:
    name = "{name}"
    about = "as before"
    computed = frozenset()
    shell = False

    def processes(self, place):
        return ()
"""
BROKEN = {
    "import": ("import not_installed_anywhere", "ModuleNotFoundError", "pip uninstall duck-pack"),
    "raises": ("class Mine:\n    def __init__(self): raise OSError('no licence')", "no licence", "repair it"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3", "repair it"),
    "no-class": ("", "Mine", "repair it"),
    "duck": (DUCK, "is not a launcher.frameworks.Framework", "derive its class from"),
    "abstract": (
        "from launcher.frameworks import Framework\nclass Mine(Framework):\n    name = 'abstract'",
        "processes",
        "repair it",
    ),
    "misnamed": (WHOLE.replace("{name}", "other"), 'has the name "other"', 'set name = "misnamed"'),
}  # fmt: skip
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package with one plug-in for as long as a test takes."""
    modules = []

    def made(name: str, source: str) -> None:
        module = f"plugin_{name.replace('-', '_')}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source.format(name=name))
        info = tmp_path / f"duck_pack_{len(modules)}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: duck-pack\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[launcher.frameworks]\n{name} = {module}:Mine\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    frameworks.get.cache_clear()
    yield made
    frameworks.get.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh interpreter that ran some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("\n"))


def test_the_names_load_no_framework_and_one_that_is_used_loads_itself() -> None:
    builtin = {f"launcher.frameworks.{row.split(':')[0]}" for row in frameworks.BUILTIN.values()}
    listed = loaded_after("from launcher import frameworks\nframeworks.names()")
    assert not builtin & listed
    one = loaded_after("from launcher import frameworks\nframeworks.get('jax')")
    assert builtin & one == {"launcher.frameworks.jax"}


@pytest.mark.parametrize("name", frameworks.BUILTIN)
def test_each_built_in_one_has_the_name_of_its_row(name: str) -> None:
    assert isinstance(frameworks.get(name), Framework)
    assert frameworks.get(name).name == name


def test_a_plug_in_starts_what_it_says(install: Install) -> None:
    install("whole", WHOLE)
    assert "whole" in frameworks.names()
    job = make_job(run=("true",), framework="whole", num_nodes=1)
    plan = dry_run(job, Inventory((Host("h"),)))
    (process,) = plan.nodes[0].processes
    assert process.env["MINE"] == "0"
    with pytest.raises(InputError, match="MINE: it is computed"):
        make_job(run=("true",), framework="whole", envs={"MINE": "1"})


@pytest.mark.parametrize("name", BROKEN)
def test_a_job_that_names_a_broken_plug_in_gets_an_error(install: Install, name: str) -> None:
    source, why, hint = BROKEN[name]
    install(name, source)
    with pytest.raises(InputError) as caught:
        make_job(run=("true",), framework=name)
    assert f'framework plug-in "{name}" of duck-pack 1.2 cannot be used' in str(caught.value)
    assert why in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_disturbs_no_other(install: Install, name: str) -> None:
    source, why, hint = BROKEN[name]
    install(name, source)
    install("whole", WHOLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody named it
        make_job(run=("true",), framework="torchrun")
        make_job(run=("true",), framework="whole")
    with pytest.warns(PluginWarning) as told, pytest.raises(InputError) as caught:
        make_job(run=("true",), framework="whale")
    assert caught.value.hint == 'did you mean "whole"?'
    (message,) = (str(one.message) for one in told)
    assert message.startswith(f'framework plug-in "{name}" of duck-pack 1.2 is skipped: ')
    assert why in message
    assert hint in message


def command(folder: Path, framework: str) -> str:
    """What the command line says of a job with that framework."""
    (folder / "inventory.yaml").write_text("hosts: [a]\n")
    words = ["run", "-i", "inventory.yaml", "--dry-run", "--framework", framework, "--", "true"]
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if framework == "torch" else InputError.exit_code)
    return done.stderr


@pytest.mark.thorough
def test_what_the_command_line_says(install: Install, tmp_path: Path) -> None:
    install("duck", DUCK)
    assert command(tmp_path, "torch") == ""
    assert command(tmp_path, "duck").startswith('error: framework plug-in "duck" of duck-pack 1.2')
    warning, error, _ = command(tmp_path, "dukc").split("\n", 2)
    assert warning.startswith('warning: framework plug-in "duck" of duck-pack 1.2 is skipped: ')
    assert error == 'error: unknown framework "dukc"'


def test_a_plug_in_does_not_take_the_place_of_a_built_in_one(install: Install) -> None:
    install("torch", WHOLE)
    assert frameworks.names().count("torch") == 1
    assert type(frameworks.get("torch")).__module__ == "launcher.frameworks.torch"
    with pytest.warns(PluginWarning, match="a built-in framework has that name"):
        frameworks.hint_for("torchh")
