"""Entry points of pyproject.toml for an environment in which launcher is not installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

from support import ROOT


def write(folder: Path) -> Path:
    """Write the metadata of an installed distribution into ``folder``, for PYTHONPATH; return it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = folder / f"{project['name'].replace('-', '_')}-0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (place / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
