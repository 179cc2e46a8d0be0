"""Checkpoints are kept every so often: here, in the store, and whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.object_store import Store

JOB = """
outputs: {%scheckpoints: {path: ckpt, every: 1s}}
num_nodes: 2
framework: env
run: |
  mkdir -p ckpt
  if [ -e ckpt/step-$RANK ]; then
    echo "found $(cat ckpt/step-$RANK) $(wc -c <ckpt/model)"; exit 0
  fi
  if [ $RANK = 0 ]; then head -c 300000 /dev/zero >model.new; mv model.new ckpt/model; fi
  echo 1 >ckpt/step-$RANK
  until [ -e /tmp/kept-one ]; do sleep 0.1; done
  echo 22 >ckpt/step-$RANK
  until [ -e /tmp/kept-two ]; do sleep 0.1; done
  echo half >ckpt/step-$RANK
  exit 3
"""


@pytest.mark.parametrize("where", ["here", "store"])
def test_a_rerun_takes_the_newest_whole_one(
    launcher: Launcher, clean: labs.Lab, store: Store, where: str
) -> None:
    """Not what the run had half-written when it failed; with all that came here deleted, the store's."""
    store.put("kept", {})
    launcher.env |= store.environment
    to = "to: s3://kept/runs, pull: false, " if where == "store" else ""
    (launcher.work / "job.yaml").write_text(JOB % to)
    running = launcher.start("--hosts", "lab[1-2]", "job.yaml")
    hosts = [clean.hosts[name] for name in ("lab1", "lab2")]
    try:
        for size, name in ((300_004, "kept-one"), (300_006, "kept-two")):
            labs.wait_until(
                lambda size=size: has_kept(launcher.home, size) or running.poll() is not None,
                f"a checkpoint of {size} bytes",
                60,
            )
            for host in hosts:
                host.write(f"/tmp/{name}", b"")
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        for host in hosts:
            host.run("rm", "-f", "/tmp/kept-one", "/tmp/kept-two")
    assert running.returncode == 3, err
    (folder,) = (launcher.home / "runs").iterdir()
    kept = folder / "checkpoints"
    if where == "store":
        assert not kept.exists(), "pull: false"
        names = [
            one.key for one in store.bucket("kept").objects(f"runs/{folder.name}/checkpoints/")
        ]
        assert sum("/ckpt/model" in name for name in names) == 1, "what is the same is written once"
        assert sum(name.endswith(".json") for name in names) >= 2
    else:
        model = "lab1/ckpt/model"
        first, *_, second = (one for one in sorted(kept.glob("[0-9]*")) if (one / model).exists())
        assert (first / model).samefile(second / model), "what is the same is there once"
        manifest = json.loads((second / "manifest.json").read_text())
        assert sorted(one["path"] for one in manifest["files"]) == [
            *("ckpt/model", "ckpt/step-0", "ckpt/step-1")
        ]
    again = launcher.call("rerun", folder.name, "--from-checkpoint", timeout=90)
    assert again.returncode == 0, again.stderr
    (rerun,) = {*(launcher.home / "runs").iterdir()} - {folder}
    for rank in range(2):
        said = (rerun / "logs" / "attempt-0" / f"node-{rank}.out").read_text()
        assert said == "found 22 300000\n"


def has_kept(home: Path, size: int) -> bool:
    """Return whether a run's record says that it has kept a checkpoint of so many bytes.

    There may be others, of a moment when one rank was ahead.
    """
    files = list((home / "runs").glob("*/events.jsonl"))
    lines = files[0].read_text().splitlines() if files else []
    return any('"CheckpointKept"' in line and f'"bytes":{size},' in line for line in lines)
