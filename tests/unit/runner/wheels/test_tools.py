"""What this machine lacks that fetches wheels."""

from __future__ import annotations

import sys

import packaging
import pytest

from launcher.fleet import builders
from launcher.runner.wheels import tools
from launcher.spec.errors import InputError


def test_what_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    tools.require_tools()
    from packaging.pylock import Pylock

    assert Pylock.select, "what the version is asked for"
    monkeypatch.setattr(builders, "own", lambda kind: "")
    with pytest.raises(InputError, match="wheels: fetch needs uv on this machine") as raised:
        tools.require_tools()
    assert "launcher-ssh[wheels]" in raised.value.hint
    monkeypatch.undo()
    needs = "wheels: fetch needs packaging>=26.1 on this machine"
    for version in ("25.0", "26.0.post1", "9"):
        monkeypatch.setattr(packaging, "__version__", version)
        with pytest.raises(InputError, match=f"{needs}, and it has {version}") as raised:
            tools.require_tools()
        assert "launcher-ssh[wheels]" in raised.value.hint
    monkeypatch.setitem(sys.modules, "packaging", None)
    with pytest.raises(InputError, match=f"{needs}$"):
        tools.require_tools()
