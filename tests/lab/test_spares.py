"""Which host may take the place of a lost one, who does what then, and whose outputs count."""

from __future__ import annotations

import json

from support.command import Launcher


def test_a_dry_run_names_the_spares(launcher: Launcher) -> None:
    launcher.inventory.write_text("hosts: ['gpu[1-4]']")
    launcher.script("pass")
    (launcher.work / "job.yaml").write_text(
        "run: train.py\nnum_nodes: 2\nmax_restarts: 1\nmin_nodes: 1\n"
    )
    assert "spares  gpu[3-4]" in launcher.run("--dry-run", "job.yaml").out
    assert (
        "spares"
        not in launcher.run("--dry-run", "--max-restarts", "1", "--nodes", "4", "train.py").out
    )
    told = json.loads(launcher.run("--dry-run", "--json", "job.yaml").out)
    assert told["spares"] == ["gpu3", "gpu4"]
    assert (told["job"]["max_restarts"], told["job"]["min_nodes"]) == (1, 1)
    refused = launcher.run("--min-nodes", "1", "train.py")
    assert (refused.code, "--max-restarts 1" in refused.err) == (2, True)
