"""A job for those who go on without launcher: plain shell scripts for its hosts, or a batch file for
Slurm.

What it cannot carry over is noted.
"""

from __future__ import annotations

from .script import scripts
from .slurm import sbatch

__all__ = ["sbatch", "scripts"]
