"""pytest: ``@pytest.mark.ranks(nodes=2, nproc_per_node=2)`` runs a test on every rank of a run.

A project asks for it in its conftest.py: ``pytest_plugins = ["launcher.integrations.pytest"]``. Hosts
are two embedded ones of this machine, or those of the inventory that ``ranks_inventory`` names. A test
fails if it fails on a rank; the run of a test that passes is removed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest

import launcher

SANDBOX = "sandbox: true\nhosts: ['local[1-2]']\n"
_CLIENT = pytest.StashKey[launcher.Client]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the key of the inventory."""
    parser.addini(
        "ranks_inventory", "inventory of launcher for tests marked with ranks", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers",
        "ranks(nodes=1, nproc_per_node=1, ...): run the test on every rank of a run of launcher; takes "
        "what launcher.FunctionJob has",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what an interrupted test has left running."""
    if client := config.stash.get(_CLIENT, None):
        client.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a marked test on every rank instead of here."""
    mark = pyfuncitem.get_closest_marker("ranks")
    if mark is None:
        return None
    if mark.args:
        pytest.fail("ranks takes nodes=... and nproc_per_node=..., by name", pytrace=False)
    wanted = {"nodes": 1, "nproc_per_node": 1, "workdir": str(pyfuncitem.config.rootpath)}
    job = cast(launcher.FunctionJob, {**wanted, **mark.kwargs})
    names = pyfuncitem._fixtureinfo.argnames
    given = {name: pyfuncitem.funcargs[name] for name in names}
    client = _client(pyfuncitem.config)
    try:
        run = _started(launcher.processes(client, **job), pyfuncitem, given)
        launcher.results(run)
    except launcher.LauncherError as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        text = "\n".join(part for part in (str(error), error.hint, notes) if part)
        pytest.fail(text, pytrace=False)
    run.rm(force=True)
    return True


def _started(
    ranks: launcher.Ranks, item: pytest.Function, given: dict[str, object]
) -> launcher.RunHandle:
    """Start a test with its module by value: hosts could not import it by the name it has here."""
    import cloudpickle

    module = sys.modules.get(item.module.__name__)
    if module is None:
        return ranks.start(item.obj, **given)
    cloudpickle.register_pickle_by_value(module)
    try:
        return ranks.start(item.obj, **given)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _client(config: pytest.Config) -> launcher.Client:
    if _CLIENT not in config.stash:
        named = config.getini("ranks_inventory")
        place = config.rootpath / named if named else _sandbox()
        config.stash[_CLIENT] = launcher.Client(place)
    return config.stash[_CLIENT]


def _sandbox() -> launcher.Inventory:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        file = Path(folder) / "inventory.yaml"
        file.write_text(SANDBOX)
        return launcher.load_inventory(file)
