"""Launchers are killed at moments of an upload: at the next contact the store has all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import pytest

from support import lab as labs
from support import object_store
from support.command import Launcher
from support.object_store import Store
from support.store_line import Moment, line_to

JOB = """
outputs: {to: s3://kills/runs}
num_nodes: 2
framework: env
run: |
  echo of $RANK >"$LAUNCHER_OUTPUT_DIR/of-$RANK"
  if [ $RANK = 0 ]; then head -c 70000000 /dev/zero >"$LAUNCHER_OUTPUT_DIR/large.pt"; fi
"""


class Victim:
    """Kills a process that is about to be started, and returns when it is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._known = threading.Event()

    def is_(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self._process = process
        self._known.set()
        return process

    def __call__(self) -> None:
        assert self._known.wait(60) and self._process
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()


#: Requests at which the launcher is killed, and how far they are by then.
MOMENTS = {
    "an upload was begun, and nobody has noted it": ((b"POST ", b"uploads="), Moment.ANSWERED),
    "the parts are there, and the object is not": (
        (b"POST ", b"uploadId="),
        Moment.ASKED,
    ),
    "the parts are one object, and nobody has noted it": (
        (b"POST ", b"uploadId="),
        Moment.ANSWERED,
    ),
    "all is there but the word that it is": ((b"PUT ", b"/.launcher.json"), Moment.ASKED),
}


@pytest.mark.timeout(300)
def test_a_launcher_is_killed_again_and_again(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """Each time the next one goes on; in the end the store has all, and nothing that was begun."""
    store.put("kills", {})
    (launcher.work / "job.yaml").write_text(JOB)
    with line_to(store, clean.address) as line:
        launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
        parts: list[int] = []  # requests that wrote one, before each moment
        for named, (words, moment) in MOMENTS.items():
            victim = Victim()
            asked = [request for _, request in line.seen]
            parts.append(sum(one.startswith("PUT ") and "/large.pt" in one for one in asked))
            line.when(victim, *words, moment=moment)  # before it can get as far as that
            names = [path.name for path in (launcher.home / "runs").glob("*")]
            running = victim.is_(
                launcher.start_command("attach", *names) if names else launcher.start("job.yaml")
            )
            try:
                assert line.done.wait(270), f"not reached: {named}"
            finally:
                running.kill()
                running.communicate()
        assert parts == [0, 0, 2, 2], "the next launcher had parts written again that were there"
        (folder,) = (launcher.home / "runs").iterdir()
        assert b"<UploadId>" in object_store.uploads(store.bucket("kills")), "one was forgotten"
        attached = launcher.call("attach", folder.name, timeout=90)
        unstored = folder / "unstored.json"  # of a run that has ended, the rest is stored behind it
        labs.wait_until(lambda: not unstored.exists(), "all in the store", 60)
    assert attached.returncode == 0, attached.stderr
    bucket = store.bucket("kills")
    manifest = json.loads(bucket.get(f"runs/{folder.name}/.launcher.json"))
    assert manifest["whole"] is True
    assert sorted(one["path"] for one in manifest["files"]) == ["large.pt", "of-0", "of-1"]
    assert bucket.get(f"runs/{folder.name}/large.pt") == bytes(70_000_000)
    assert b"<UploadId>" not in object_store.uploads(bucket)
    assert not (folder / "unstored.json").exists()


def test_ls_has_the_rest_stored(launcher: Launcher, clean: labs.Lab, store: Store) -> None:
    """A relay is killed while it writes: the receipt says what is missing, and `ls` sees to it."""
    store.put("kills", {})
    launcher.env |= store.environment
    host = clean.hosts["lab1"]

    def kill() -> None:
        for one in host.processes():
            if "relay" in one.argv:
                host.run("kill", "-9", str(one.pid), check=False)

    with line_to(store, clean.address) as line:
        launcher.env["AWS_ENDPOINT_URL"] = line.endpoint
        words = ["--hosts", "lab1", "--framework", "env", "--output-to", "s3://kills/relay"]
        line.when(kill, b"PUT ", b"/log", moment=Moment.ASKED)
        running = launcher.start(*words, 'echo x >"$LAUNCHER_OUTPUT_DIR/log"')
        _, err = running.communicate(timeout=90)
        assert line.done.is_set()
        assert running.returncode == 74, err
        (folder,) = (launcher.home / "runs").iterdir()
        receipt = json.loads((folder / "receipt.json").read_text())
        assert list(receipt["stored"]["missing"]) == ["lab1"], receipt
        assert launcher.call("ls").returncode == 0
        labs.wait_until(lambda: not (folder / "unstored.json").exists(), "all is stored", 60)
    manifest = json.loads(store.bucket("kills").get(f"relay/{folder.name}/.launcher.json"))
    assert manifest["whole"] is True
    assert "NOT all" not in launcher.call("show", folder.name).stdout


def test_a_supervisor_is_killed_while_its_host_stores(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """A checkpoint is on its way, with the launcher in touch: at the end of a run, there is none to kill.
    The run ends as it says; what the host wrote is in the store, and no upload is left."""
    store.put("kills", {})
    host = clean.hosts["lab1"]

    def kill() -> None:
        (run,) = (launcher.home / "runs").iterdir()
        journal = host.read(f"/root/.launcher/host/runs/{run.name}/journal.jsonl")
        host.run("kill", "-9", str(json.loads(journal.splitlines()[0])["pid"]))

    (launcher.work / "job.yaml").write_text("""
outputs: {to: s3://kills/supervisor, checkpoints: {path: ckpt, every: 1s}}
framework: env
run: |
  mkdir ckpt
  head -c 70000000 /dev/zero >ckpt/large.pt
  sleep 600
""")
    with line_to(store, clean.address) as line:
        launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
        line.when(kill, b"PUT ", b"large.pt", b"partNumber=1")
        running = launcher.start("--hosts", "lab1", "job.yaml")
        try:
            _, err = running.communicate(timeout=90)
        finally:
            running.kill()
    assert running.returncode == 125, err
    assert b"the supervisor of lab1 died" in err
    (folder,) = (launcher.home / "runs").iterdir()
    bucket = store.bucket("kills")
    manifest = json.loads(bucket.get(f"supervisor/{folder.name}/.launcher.json"))
    assert (manifest["whole"], manifest["reason"]) == (True, "supervisor-died")
    assert [(one["path"], one["size"]) for one in manifest["files"]] == [
        ("ckpt/large.pt", 70_000_000)
    ]
    assert bucket.get(f"supervisor/{folder.name}/ckpt/large.pt") == bytes(70_000_000)
    assert b"<UploadId>" not in object_store.uploads(bucket)
