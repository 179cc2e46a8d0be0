"""Data sets from an object store, and outputs to one: hosts never see a credential."""

from __future__ import annotations

import json
from pathlib import Path

from support import lab as labs
from support import leaks, object_store
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
    """A key, its secret and signatures are in no file here or on the hosts."""
    words = (object_store.KEY, object_store.SECRET, "X-Amz-Signature", "X-Amz-Credential")
    leaks.in_no_file(words, launcher.home, lab)


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


WRITER = """
outputs: {to: s3://lab/runs, pull: false, paths: [ckpt, /tmp/large.pt]}
num_nodes: 2
framework: env
run: |
  echo of $LAUNCHER_HOST >"$LAUNCHER_OUTPUT_DIR/same é.txt"
  if [ $RANK = 0 ]; then
    mkdir -p ckpt "$LAUNCHER_OUTPUT_DIR/deep er"
    head -c 70000000 /dev/zero >/tmp/large.pt
    echo near >ckpt/near
    : >"$LAUNCHER_OUTPUT_DIR/deep er/empty"
  fi
"""


def test_outputs_in_every_ending(
    launcher: Launcher, clean: labs.Lab, store: Store, tmp_path: Path
) -> None:
    """All of a run is in its store, a large file in parts; the manifest comes last, and says how it
    ended."""
    store.put("lab", {})
    launcher.env |= store.environment
    (launcher.work / "job.yaml").write_text(WRITER)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    folder = ran.folder
    name = folder.name
    assert f"stored   5 files, 70.0 MB in s3://lab/runs/{name}" in ran.err, ran.err
    assert not (folder / "outputs" / "ckpt").exists(), "pull: false"
    assert "nothing was written" not in ran.err
    bucket = store.bucket("lab")
    manifest = json.loads(bucket.get(f"runs/{name}/.launcher.json"))
    assert manifest["whole"] is True
    assert (manifest["status"], manifest["exit_code"]) == ("succeeded", 0)
    names = [one["path"] for one in manifest["files"]]
    assert [n for n in names if "same" not in n] == [
        "_root/tmp/large.pt",
        "ckpt/near",
        "deep er/empty",
    ]
    assert len(names) == 5
    assert bucket.get(f"runs/{name}/_root/tmp/large.pt") == bytes(70_000_000)
    assert b"<UploadId>" not in object_store.uploads(bucket)
    no_secrets(launcher, clean)

    dest = tmp_path / "back"
    pulled = launcher.call("pull", name, str(dest), "--from", "s3", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["files"] == 5
    said = sorted(path.read_text() for path in dest.glob("same*"))
    assert said == ["of lab1\n", "of lab2\n"]
    bucket.put(f"runs/{name}/deep er/empty", b"?")
    (dest / "deep er/empty").write_bytes(b"lost")
    bad = launcher.call("pull", name, str(dest), "--from", "s3")
    assert bad.returncode == 1
    assert "deep er/empty: the store has other bytes than were written" in bad.stderr

    words = ["--hosts", "lab1", "--framework", "env", "--output-to", "s3://lab/runs"]
    assert launcher.run(*words, 'echo x >"$LAUNCHER_OUTPUT_DIR/log"; exit 3').code == 3
    (failed,) = {*(launcher.home / "runs").iterdir()} - {folder}
    manifest = json.loads(bucket.get(f"runs/{failed.name}/.launcher.json"))
    assert (manifest["status"], manifest["reason"], manifest["whole"]) == ("failed", "exit-3", True)
    assert [one["path"] for one in manifest["files"]] == ["log"]


def test_what_could_not_be_stored_is_stored_later(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """One host does not reach the store: the receipt says so, and the next pull does the rest."""
    store.put("lab", {})
    launcher.env |= store.environment
    host, port = clean.hosts["lab2"], store.endpoint.rpartition(":")[2]
    rules = f"table ip store {{ chain out {{ type filter hook output priority 0; tcp dport {port} reject with tcp reset; }}; }}"
    host.run("nft", rules)
    try:
        words = ["--nodes", "2", "--framework", "env", "--output-to", "s3://lab/by/{{run}}/x"]
        ran = launcher.run(*words, 'echo $RANK >"$LAUNCHER_OUTPUT_DIR/of-$RANK"')
    finally:
        host.run("nft", "delete table ip store")
    name = ran.folder.name
    assert ran.code == 74, ran.err
    assert f"NOT all: 1 file, 2 B in s3://lab/by/{name}/x; launcher pull {name}" in ran.err
    assert "lab2: of-1 cannot be written to the store: Connection" in ran.err
    bucket = store.bucket("lab")
    manifest = json.loads(bucket.get(f"by/{name}/x/.launcher.json"))
    assert (manifest["whole"], list(manifest["missing"])) == (False, ["lab2"])
    assert (ran.folder / "outputs" / "of-1").exists(), "here they are all the same"
    later = launcher.call("pull", name)
    assert later.returncode == 0, later.stderr
    assert f"stored   2 files, 4 B in s3://lab/by/{name}/x" in later.stderr
    manifest = json.loads(bucket.get(f"by/{name}/x/.launcher.json"))
    assert (manifest["whole"], manifest["missing"]) == (True, {})
    assert "stored   2 files" in launcher.call("show", name).stdout


def test_a_store_that_takes_nothing(launcher: Launcher, store: Store) -> None:
    """Said before anything starts."""
    launcher.env |= store.environment
    ran = launcher.run(
        "--hosts", "lab1", "--output-to", "s3://nobody-made-it/x", launcher.script("")
    )
    assert ran.code == 125
    assert "s3://nobody-made-it at " in ran.err
    assert "NoSuchBucket" in ran.err
    assert launcher.run("--output-to", "/nfs/x", launcher.script("")).code == 2
