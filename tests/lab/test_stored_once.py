"""What a run hands over to its hosts is no output of theirs, and does not go to its store."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from launcher.records.run_lock import holder
from support import lab as labs
from support.command import Launcher
from support.object_store import Store
from support.unattended import has, stored_alone

JOB = """
outputs: {to: s3://once/runs, paths: [ckpt]}
num_nodes: 2
framework: env
run: |
  if [ -e ckpt/shared ]; then
    echo new >ckpt/new-$RANK
    if [ $RANK = 1 ]; then echo more >ckpt/changed; fi
    touch /tmp/written
    while [ ! -e /tmp/end ]; do sleep 0.05; done
  elif [ $RANK = 0 ]; then
    mkdir -p ckpt
    for name in shared changed; do echo first >"ckpt/$name"; done
  fi
"""


def test_what_was_handed_over_is_not_stored_again(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """The store gets what `outputs/` here has: what a host has changed, and what is new."""
    store.put("once", {})
    launcher.env |= store.environment
    (launcher.work / "job.yaml").write_text(JOB)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    first = ran.folder
    assert stored(store, first) == ["ckpt/changed", "ckpt/shared"]
    hosts = [clean.hosts[name] for name in ("lab1", "lab2")]
    for host in hosts:
        host.run("rm", "-f", "/tmp/end", "/tmp/written")
    again = launcher.call("run", "-d", "--from", first.name, "job.yaml", timeout=90)
    assert again.returncode == 0, again.stderr
    (second,) = {*(launcher.home / "runs").iterdir()} - {first}
    for host in hosts:
        labs.wait_until(lambda host=host: host.exists("/tmp/written"), "files", 60)  # type: ignore[misc]
        labs.wait_until(lambda host=host: has(host, second, "UrlsLeft"), "URLs", 60)  # type: ignore[misc]
    follower = holder(second)
    assert follower
    os.kill(follower, signal.SIGKILL)
    for host in hosts:
        host.run("touch", "/tmp/end")
    told = [stored_alone(host, second) for host in hosts]
    assert told == [(1, 0, ""), (2, 0, "")]
    attached = launcher.call("attach", second.name, timeout=90)
    assert attached.returncode == 0, attached.stderr
    expected = ["ckpt/changed", "ckpt/new-0", "ckpt/new-1"]
    here = [str(path.relative_to(second / "outputs")) for path in second.glob("outputs/ckpt/*")]
    assert stored(store, second) == sorted(here) == expected


def test_a_run_that_is_stopped_is_stored(launcher: Launcher, clean: labs.Lab, store: Store) -> None:
    """Ctrl-C ends it with its grace; the store has what it wrote until then, and how it ended."""
    store.put("once", {})
    launcher.env |= store.environment
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/written")
    script = (
        """trap 'echo last >"$LAUNCHER_OUTPUT_DIR/last"; exit 143' TERM; """
        'echo first >"$LAUNCHER_OUTPUT_DIR/first"; touch /tmp/written; while :; do sleep 0.05; done'
    )
    words = ["--hosts", "lab1", "--framework", "env", "--output-to", "s3://once/runs"]
    running = launcher.start(*words, script)
    try:
        labs.wait_until(lambda: host.exists("/tmp/written"), "the first file", 60)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=90)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130, err
    (folder,) = (launcher.home / "runs").iterdir()
    assert stored(store, folder) == ["first", "last"]
    manifest = json.loads(store.bucket("once").get(f"runs/{folder.name}/.launcher.json"))
    assert (manifest["status"], manifest["exit_code"]) == ("stopped", 130)


def stored(store: Store, folder: Path) -> list[str]:
    """Return the paths of the manifest in the store of a run."""
    manifest = json.loads(store.bucket("once").get(f"runs/{folder.name}/.launcher.json"))
    assert manifest["whole"] is True
    return sorted(one["path"] for one in manifest["files"])
