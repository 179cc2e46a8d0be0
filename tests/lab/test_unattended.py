"""Runs end with no launcher in touch: their hosts store what they wrote, by URLs that one has left."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import attendance
from launcher.agent.relay import unattended
from launcher.records.run_lock import holder
from support import lab as labs
from support import leaks, object_store
from support.command import Launcher
from support.object_store import Store
from support.store_line import Line, line_to
from support.unattended import has, stored_alone

WORDS = (object_store.KEY, object_store.SECRET, "X-Amz-Signature", "X-Amz-Credential")
LARGE = b"".join(b"%d\n" % n for n in range(1, 9_000_001))[:70_000_000]
HOSTS = ("lab1", "lab2")

#: Two hosts write, and end when they are told to: one a large file, and files that need care.
JOB = """
outputs: {to: s3://alone/runs, paths: [ckpt, /tmp/kept/*.pt, auto]}
num_nodes: 2
framework: env
run: |
  echo of $RANK >"$LAUNCHER_OUTPUT_DIR/same é.txt"
  if [ $RANK = 0 ]; then
    mkdir -p ckpt "$LAUNCHER_OUTPUT_DIR/deep er"
    seq 9000000 | head -c 70000000 >ckpt/large.pt
    : >"$LAUNCHER_OUTPUT_DIR/deep er/empty"
    echo far >/tmp/kept/far.pt
    echo small >beside.txt
  fi
  touch /tmp/written
  while [ ! -e /tmp/end ]; do sleep 0.05; done
"""


def left_alone(launcher: Launcher, lab: labs.Lab, store: Store, line: Line, *words: str) -> Path:
    """Start a run in the background, kill what follows it, and let it end; return its folder. With
    ``words``, which say when, it ends by itself."""
    store.put("alone", {})
    launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
    (launcher.work / "job.yaml").write_text(JOB)
    hosts = [lab.hosts[name] for name in HOSTS]
    for host in hosts:
        host.run("sh", "-c", "rm -rf /tmp/end /tmp/written /tmp/kept; mkdir /tmp/kept")
    hosted = ("--hosts", ",".join(HOSTS))
    started = launcher.call("run", "-d", *hosted, *words, "job.yaml", timeout=90)
    assert started.returncode == 0, started.stderr
    (folder,) = (launcher.home / "runs").iterdir()
    for host in hosts:
        labs.wait_until(lambda host=host: has(host, folder, "UrlsLeft"), "URLs", 60)  # type: ignore[misc]
        labs.wait_until(lambda host=host: host.exists("/tmp/written"), "files", 60)  # type: ignore[misc]
    in_no_process(lab)
    follower = holder(folder)
    assert follower
    os.kill(follower, signal.SIGKILL)
    for host in hosts if not words else ():
        host.run("touch", "/tmp/end")
    return folder


def in_no_process(lab: labs.Lab) -> None:
    """No process of a host has a signature in its arguments or its environment."""
    script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
    for name in HOSTS:
        said = lab.hosts[name].run("sh", "-c", script, check=False).stdout
        assert b"relay" in said
        assert not [word for word in WORDS if word.encode() in said]


def archive(store: Store, folder: Path, host: str) -> tuple[str, dict[str, Any]]:
    """Return where the archive of a host is, and its manifest."""
    bucket = store.bucket("alone")
    prefix = f"runs/{folder.name}/.unattended/{host}/"
    (key,) = [one.key for one in bucket.objects(prefix) if one.key.endswith("/manifest.json")]
    return key.rpartition("/")[0], json.loads(bucket.get(key))


def manifest(store: Store, folder: Path) -> dict[str, Any]:
    """Return what the store says of the whole run."""
    found: dict[str, Any] = json.loads(
        store.bucket("alone").get(f"runs/{folder.name}/.launcher.json")
    )
    return found


def check_files(dest: Path) -> None:
    """All files of both hosts are there, and nothing else."""
    assert (dest / "ckpt/large.pt").read_bytes() == LARGE
    assert (dest / "deep er/empty").read_bytes() == b""
    assert (dest / "_root/tmp/kept/far.pt").read_text() == "far\n"
    assert sorted(path.read_text() for path in dest.glob("same*")) == ["of 0\n", "of 1\n"]
    assert (dest / "beside.txt").read_text() == "small\n"
    assert len([path for path in dest.rglob("*") if path.is_file()]) == 6


@pytest.mark.timeout(240)
def test_with_the_launcher_gone(
    launcher: Launcher, clean: labs.Lab, store: Store, tmp_path: Path
) -> None:
    """The store has all of it, as a tar archive for anybody; a third machine brings it; and whoever
    comes back has everything put in its place."""
    with line_to(store, clean.address) as line:
        folder = left_alone(launcher, clean, store, line)
        told = [stored_alone(clean.hosts[name], folder) for name in HOSTS]
        assert told == [(5, 0, ""), (1, 0, "")]
        leaks.in_no_file(WORDS, launcher.home, clean)

        assert manifest(store, folder)["whole"] is False
        place, about = archive(store, folder, "lab1")
        assert (about["whole"], about["hosts"]) == (True, ["lab1", "lab2"])
        assert about["ending"]["exit_codes"] == {"node-0": 0}
        bucket = store.bucket("alone")
        parts = b"".join(bucket.get(f"{place}/{one['name']}") for one in about["parts"])
        with tarfile.open(fileobj=io.BytesIO(parts)) as tar:
            large = tar.extractfile("ckpt/large.pt")
            assert large is not None and large.read() == LARGE
            names = ["_root/tmp/kept/far.pt", "beside.txt", "ckpt/large.pt", "deep er/empty"]
            assert sorted(tar.getnames()) == [*names, "same é.txt"]

        third, dest = replace(launcher, home=tmp_path / "third"), tmp_path / "back"
        words = ("pull", folder.name, str(dest), "--from", "store")
        assert "--trust-record" in third.call(*words).stderr
        pulled = third.call(*words, "--trust-record")
        assert pulled.returncode == 0, pulled.stderr
        check_files(dest)

        attached = launcher.call("attach", folder.name, timeout=90)
        assert attached.returncode == 0, attached.stderr
        assert f"stored   6 files, 70.0 MB in s3://alone/runs/{folder.name}" in attached.stderr
        assert "lab[1-2] stored 6 files, 70.0 MB with nobody in touch\n" in attached.stderr
        wrote = [path for peer, path in line.seen if peer != clean.address]
        assert not [path for path in wrote if path.endswith("/large.pt")], "the store copied it"
    assert (manifest(store, folder)["whole"], len(manifest(store, folder)["files"])) == (True, 6)
    assert bucket.get(f"runs/{folder.name}/ckpt/large.pt") == LARGE
    assert not list(bucket.objects(f"runs/{folder.name}/.unattended/"))
    assert b"<UploadId>" not in object_store.uploads(bucket)
    leaks.in_no_file(WORDS, launcher.home, clean)


@pytest.mark.timeout(240)
def test_a_busy_store_and_a_process_killed(
    launcher: Launcher, clean: labs.Lab, store: Store, tmp_path: Path
) -> None:
    """The hosts end the run themselves. 503 is asked again. What is killed in the middle leaves nothing
    that looks whole, and the next contact stores it."""
    host = clean.hosts["lab1"]

    def kill() -> None:
        for one in host.processes():
            if "relay" in one.argv:
                host.run("kill", "-9", str(one.pid), check=False)

    with line_to(store, clean.address) as line:
        line.busy(3, b"/.unattended/lab2/")
        line.when(kill, b"/.unattended/lab1/", b"/part-0001")
        folder = left_alone(launcher, clean, store, line, "--orphan-timeout", "30s")
        assert stored_alone(clean.hosts["lab2"], folder) == (1, 0, "")
        assert archive(store, folder, "lab2")[1]["ending"]["stopped"] == "orphan-timeout"
        assert line.done.wait(60), "lab1 has written nothing"
        assert archive(store, folder, "lab1")[1]["whole"] is False
        words = ("pull", folder.name, str(tmp_path / "back"), "--from", "store")
        pulled = launcher.call(*words)
        assert pulled.returncode == 1
        assert "lab1: it began to store its outputs, and did not finish" in pulled.stderr
        assert "1 file, 5 B in" in pulled.stderr
        assert "stored   6 files" in launcher.call("attach", folder.name, timeout=90).stderr
        assert not has(host, folder, "StoredAlone")
        pulled = launcher.call(*words)
        assert pulled.returncode == 0, pulled.stderr
        check_files(tmp_path / "back")
    assert not list(store.bucket("alone").objects(f"runs/{folder.name}/.unattended/"))


def test_with_a_launcher_in_touch(launcher: Launcher, clean: labs.Lab, store: Store) -> None:
    """It stores; the process that would have done so is told, and is gone. `unattended: false` leaves
    no URLs."""
    store.put("alone", {})
    launcher.env |= store.environment
    host = clean.hosts["lab1"]
    for more, left in (("", 1), (", unattended: false", 0)):
        (launcher.work / "job.yaml").write_text(
            f"outputs: {{to: s3://alone/runs{more}}}\nframework: env\n"
            'run: echo x >"$LAUNCHER_OUTPUT_DIR/log"; while [ ! -e /tmp/end ]; do sleep 0.05; done\n'
        )
        host.run("rm", "-f", "/tmp/end")
        before = set((launcher.home / "runs").glob("*"))
        started = launcher.call("run", "-d", "--hosts", "lab1", "job.yaml", timeout=90)
        assert started.returncode == 0, started.stderr
        (folder,) = {*(launcher.home / "runs").iterdir()} - before
        if left:
            labs.wait_until(lambda run=folder: has(host, run, "UrlsLeft"), "URLs", 60)  # type: ignore[misc]
        host.run("touch", "/tmp/end")
        attached = launcher.call("attach", folder.name, timeout=90)
        assert attached.returncode == 0, attached.stderr
        assert len(has(host, folder, "UrlsLeft")) == left
        assert manifest(store, folder)["whole"] is True
        assert not host.exists(f"/root/.launcher/host/runs/{folder.name}/upload")
        assert not list(store.bucket("alone").objects(f"runs/{folder.name}/.unattended/"))


@pytest.mark.timeout(240)
def test_a_launcher_is_killed_while_it_stores(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """The host hears nothing any more, and stores by itself; `ls` has the rest done."""
    store.put("alone", {})
    host = clean.hosts["lab1"]
    with line_to(store, clean.address) as line:
        launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
        (launcher.work / "job.yaml").write_text(JOB.replace("num_nodes: 2", "num_nodes: 1"))
        host.run("sh", "-c", "rm -rf /tmp/end /tmp/kept; mkdir /tmp/kept")
        running = launcher.start("--hosts", "lab1", "job.yaml")
        try:
            labs.wait_until(lambda: any((launcher.home / "runs").glob("*/run.json")), "a run", 60)
            (folder,) = (launcher.home / "runs").iterdir()
            labs.wait_until(lambda: bool(has(host, folder, "UrlsLeft")), "URLs", 60)
            line.when(running.kill, b"PUT /alone/runs/", b"/same")
            host.run("touch", "/tmp/end")
            assert line.done.wait(60), "nothing was stored"
        finally:
            running.kill()
            running.communicate()
        assert stored_alone(host, folder) == (5, 0, "")
        assert archive(store, folder, "lab1")[1]["whole"] is True
        labs.wait_until(lambda: launcher.call("ls").returncode == 0, "ls", 60)
        labs.wait_until(lambda: manifest(store, folder)["whole"], "all in its place", 60)
        prefix = f"runs/{folder.name}/.unattended/"
        labs.wait_until(lambda: not list(store.bucket("alone").objects(prefix)), "no archive", 60)


class Nobody(unattended.Watch):
    """Stands for the watch of a process: nobody is in touch."""

    def __init__(self) -> None:
        pass

    @property
    def is_alone(self) -> bool:
        """Nobody is."""
        return True


def test_urls_that_have_expired(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host says so, and what it has begun does not look whole."""
    store.put("alone", {})
    bucket = store.bucket("alone")
    long_ago = replace(bucket, skew=-3600.0)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/log").write_text("x")
    monkeypatch.chdir(tmp_path)
    supply = {
        "run": "calm-owl", "host": "lab1", "hosts": ["lab1"], "paths": [], "headers": {},
        "urls": [long_ago.sign("PUT", "expired/part-0001", {}, 60)],
        "manifest": bucket.sign("PUT", "expired/manifest.json", {}, 60), "seconds": 60,
    }  # fmt: skip
    unattended.Upload(supply, time.monotonic(), Nobody()).run()
    (record,) = map(json.loads, Path("journal.jsonl").read_text().splitlines())
    assert (record["files"], record["problem"]) == (0, "the server answers 403")
    assert json.loads(bucket.get("expired/manifest.json"))["whole"] is False
    unattended.Upload(supply, time.monotonic() - 61, Nobody()).run()
    assert "its URLs have expired" in Path("journal.jsonl").read_text()
    assert not [word for word in WORDS if word in Path("journal.jsonl").read_text()]
    assert not attendance.end(str(tmp_path))
