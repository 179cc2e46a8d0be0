"""The docstring of launcher.api, which programs are pointed to."""

from __future__ import annotations

import pkgutil

import pytest

import launcher
from launcher import api


@pytest.mark.parametrize("public", [launcher.Client, launcher.AsyncClient])
def test_it_names_what_a_client_does(public: type) -> None:
    names = {name for one in public.__mro__ for name in vars(one) if not name.startswith("_")}
    inner = {"aclose", "attach_here", "close", "follow", "hosts_up"}
    assert api.__doc__
    assert {name for name in names - inner if f"``{name}``" not in api.__doc__} == set()


def test_it_names_each_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(api.__path__)} - {
        "loop_thread",
        "progress",
    }
    assert api.__doc__
    assert {name for name in modules if f"``{name}``" not in api.__doc__} == set()
