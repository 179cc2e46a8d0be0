"""Data sets from Google Cloud Storage: listed and signed for here, read by hosts."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

from support import lab as labs
from support.command import Launcher
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
    """Look for a line of the private key, and for signatures, in all files here and on the hosts; only
    the credential's own file has the key."""
    words = (line, ACCOUNT, "X-Goog-Signature", "X-Goog-Credential")
    for path in launcher.home.rglob("*"):
        if path.is_file() and path.parent.name != "credentials":
            data = path.read_bytes()
            assert not [word for word in words if word.encode() in data], path
    patterns = [part for word in words for part in ("-e", word)]
    for name in ("lab1", "lab2"):
        found = lab.hosts[name].run(
            *("grep", "-rlF", *patterns, "--exclude-dir=agent", "--exclude=uv"),
            *("/root/.launcher", "/tmp", "/var/tmp", "/run"),
            check=False,
        )
        assert found.stdout == b"", found.stdout


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
    ran = launcher.run("--hosts", "lab1", "--output-to", "gs://lab/runs", script)
    assert ran.code == 2
    assert "outputs cannot go there yet: say s3://BUCKET/PATH" in ran.err
