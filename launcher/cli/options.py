"""Options that several commands share, with the same words, variables and completion.

Not responsible for where an inventory is looked for when nobody names one.
"""

from __future__ import annotations

import click

from . import complete

inventory = click.option(
    "-i",
    "--inventory",
    envvar="LAUNCHER_INVENTORY",
    help="Inventory file.",
    shell_complete=complete.files,
)
hosts = click.option(
    "--hosts",
    envvar="LAUNCHER_HOSTS",
    help="Names, nodeset, groups or labels.",
    shell_complete=complete.hosts,
)
nproc_per_node = click.option(
    "--nproc-per-node", type=click.IntRange(1), help="Processes on each host."
)
framework = click.option(
    "--framework",
    envvar="LAUNCHER_FRAMEWORK",
    help="torchrun (default), torch, env, and others.",
    shell_complete=complete.frameworks,
)
as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
force = click.option("--force", is_flag=True, help="Overwrite what is there.")
