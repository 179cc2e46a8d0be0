"""Export a job for use without launcher: shell scripts for its hosts, or a batch file for Slurm.

Everything that cannot be carried over is noted.
"""

from __future__ import annotations

from .script import scripts
from .slurm import sbatch

__all__ = ["sbatch", "scripts"]
