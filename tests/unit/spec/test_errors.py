"""The errors, and the tree that lists them for readers."""

from __future__ import annotations

import re

from launcher.spec import errors


def test_the_tree_names_every_error() -> None:
    types = [one for one in vars(errors).values() if isinstance(one, type)]
    known = {one.__name__ for one in types if issubclass(one, errors.LauncherError)}
    assert "UnsafeFolder" in known
    assert known - set(re.findall(r"\w+", errors.__doc__ or "")) == set()
