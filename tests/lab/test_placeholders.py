"""Tokens in arguments: what each process is given, what is passed on, and what is said about others."""

from __future__ import annotations

from pathlib import Path

from support import lab as labs
from support.command import Launcher


def test_torchruns_ranks_fill_in_their_own(launcher: Launcher, clean: labs.Lab) -> None:
    name = launcher.script("import os, sys; print(sys.argv[1:], os.environ['WHO'])")
    given = ["{{rank}}/{{world_size}}", "{{local_rank}}@{{node_rank}}", "\\{{rank}}", "{{outputs}}"]
    ran = launcher.run("-e", "WHO={{rank}}of{{world_size}}", "--nproc-per-node", "2", name, *given)
    assert ran.code == 0, ran.err
    outputs = f"/root/.launcher/host/runs/{ran.receipt['run']}/outputs"
    for rank in range(2):
        wanted = [f"{rank}/2", f"{rank}@0", "{{rank}}", outputs]
        assert ran.log(f"rank-{rank}.out").decode().strip() == f"{wanted} {rank}of2"


def test_an_unknown_token_is_said_before_anything_starts(
    launcher: Launcher, tmp_path: Path
) -> None:
    name = launcher.script("")
    ran = launcher.run(name, "--rank={{rnk}}")
    assert ran.code == 2
    assert "run, word 2: unknown placeholder {{rnk}}" in ran.err
    assert 'did you mean "rank"?' in ran.err
    assert not (launcher.home / "runs").exists()
