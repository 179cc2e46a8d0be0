"""Puts man pages and completions into sdist and wheel, if ``docs/share.py`` has written them.

They are made by importing launcher with all that it needs, which an environment for builds has not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHARE = "build/share"


class ShareHook(BuildHookInterface):  # type: ignore[misc]  # hatchling is there during builds only
    """Adds the folder as data of a wheel, which ``share`` of the environment gets."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add what is there: ``pip install .`` of a clone needs none of it."""
        folder = Path(self.root, SHARE)
        if not folder.is_dir():
            return
        if self.target_name == "wheel":
            build_data["shared_data"][str(folder)] = "share"
        else:
            build_data["force_include"][str(folder)] = SHARE
