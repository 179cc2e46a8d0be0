"""What is said of modules that a host does not have."""

from __future__ import annotations

import pytest

from launcher.frameworks.requirements import describe_missing
from launcher.spec.environments import Environment

ADDED = {
    Environment(uv="."): "uv add torch in ., or uv lock if its pyproject.toml has it",
    Environment(uv="sub"): "uv add torch in sub, or uv lock if its pyproject.toml has it",
    Environment(uv="reqs.txt"): "add torch to reqs.txt",
    Environment(pixi="."): "pixi add torch in .",
    Environment(conda="environment.yml"): "add torch to environment.yml",
}


@pytest.mark.parametrize("of", ADDED, ids=str)
def test_an_environment_that_hosts_build_gets_it_by_its_recipe(of: Environment) -> None:
    """By pip it would be gone with the next build, and in the meantime in other runs, too."""
    what, hint = describe_missing("torchrun", "/e/bin/python", "3.12.1", ["torch"], environment=of)
    assert what == f"framework torchrun needs torch, which the {of} does not have"
    assert hint == f"{ADDED[of]}: hosts build it anew then"


def test_an_environment_of_the_host_gets_it_there() -> None:
    for of in (None, Environment(venv="/e"), Environment(conda="train")):
        _, hint = describe_missing("torchrun", "/e/bin/python", "3.12.1", ["torch"], environment=of)
        assert hint.endswith("/e/bin/python -m pip install torch adds it there")
