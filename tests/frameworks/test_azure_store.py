"""Data sets from Azure Blob Storage, at Azurite, which checks signatures."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.spec.errors import StoreError
from launcher.transport import azure_store
from launcher.transport.object_store import Credentials
from support import environments, leaks, other_stores
from support import lab as labs
from support.command import Launcher
from support.other_stores import AZURE_ACCOUNT, AZURE_KEY, AzureStore

JOB = """
data:
  corpus: {from: az://corpora/english, credential: lab-az}
num_nodes: 2
framework: env
run: |
  cd "$LAUNCHER_DATA_CORPUS"
  find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum
  env >"$LAUNCHER_OUTPUT_DIR/env-$LAUNCHER_HOST"
"""
STORE = "/root/.launcher/host/data"


@pytest.fixture(scope="module")
def azure(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureStore]:
    """A store like Azure's that the hosts of the lab reach."""
    if why := environments.missing("azurite"):
        pytest.skip(why)
    with other_stores.running_azure(tmp_path_factory.mktemp("az") / "az", lab.address) as up:
        yield up


def test_hosts_read_a_container(
    launcher: Launcher, clean: labs.Lab, azure: AzureStore, tmp_path: Path
) -> None:
    """Each host has all of it, and only what changed is read again; no key or signature is anywhere."""
    blobs = {f"english/part-{n}.bin": bytes([n]) * 300_000 for n in range(4)}
    blobs |= {"english/a b/é+%25.txt": b"e" * 18_000_000, "english/empty": b"", "other": b"no"}
    azure.put("corpora", blobs)
    text = tmp_path / "connection"
    text.write_text(azure.connection)
    with text.open() as file:
        kept = launcher.call("credential", "set", "lab-az", "--store", "az", "--stdin", stdin=file)
    assert kept.returncode == 0, kept.stderr
    text.unlink()
    (launcher.work / "job.yaml").write_text(JOB)
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    first = ran.folder
    said = ran.log("node-0.out").decode()
    assert said == ran.log("node-1.out").decode()
    assert len(said.splitlines()) == 6, said
    assert hashlib.sha256(blobs["english/a b/é+%25.txt"]).hexdigest() in said
    no_secrets(launcher, clean)

    azure.put("corpora", {"english/part-2.bin": b"changed" * 10})
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
    assert max(given) < 5_000_000, "the block with that blob"
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-rf", STORE)


def no_secrets(launcher: Launcher, lab: labs.Lab) -> None:
    """The key is in the credential's own file alone, and no signature is in any."""
    leaks.in_no_file((AZURE_KEY, "&sig=", "sr=b&"), launcher.home, lab)


WRITER = """
outputs: {to: az://lab-out/runs, pull: false, paths: [ckpt]}
num_nodes: 2
framework: env
run: |
  echo of $LAUNCHER_HOST >"$LAUNCHER_OUTPUT_DIR/same é.txt"
  if [ $RANK = 0 ]; then
    mkdir -p ckpt
    head -c 70000000 /dev/urandom >ckpt/large.pt
    : >"$LAUNCHER_OUTPUT_DIR/empty"
    sha256sum ckpt/large.pt
  fi
"""


def test_outputs_are_stored(
    launcher: Launcher, clean: labs.Lab, azure: AzureStore, tmp_path: Path
) -> None:
    """All of a run is there, a large file in blocks; it comes back, and no key is anywhere. What a host
    could not send is stored by the next pull."""
    azure.put("lab-out", {})
    launcher.env |= {"AZURE_STORAGE_CONNECTION_STRING": azure.connection}
    (launcher.work / "job.yaml").write_text(WRITER)
    host, port = clean.hosts["lab1"], azure.endpoint.rpartition(":")[2].partition("/")[0]
    rules = f"table ip store {{ chain out {{ type filter hook output priority 0; tcp dport {port} reject with tcp reset; }}; }}"
    host.run("nft", rules)
    try:
        ran = launcher.run("job.yaml")
    finally:
        host.run("nft", "delete table ip store")
    assert ran.code == 74, ran.err
    name = ran.folder.name
    known = Credentials(AZURE_ACCOUNT, AZURE_KEY)
    there = azure_store.container("lab-out", known, azure.endpoint)
    manifest = json.loads(there.get(f"runs/{name}/.launcher.json"))
    assert (manifest["whole"], list(manifest["missing"])) == (False, ["lab1"])
    later = launcher.call("pull", name)
    assert later.returncode == 0, later.stderr
    assert f"stored   4 files, 70.0 MB in az://lab-out/runs/{name}" in later.stderr
    manifest = json.loads(there.get(f"runs/{name}/.launcher.json"))
    assert (manifest["whole"], len(manifest["files"])) == (True, 4)
    no_secrets(launcher, clean)
    dest = tmp_path / "back"
    pulled = launcher.call("pull", name, str(dest), "--from", "store", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["files"] == 4
    found = hashlib.sha256((dest / "ckpt/large.pt").read_bytes()).hexdigest()
    assert found in ran.log("node-0.out").decode()


def test_what_it_refuses(launcher: Launcher, azure: AzureStore) -> None:
    """Said before a host is asked, with what to do, and never with a secret."""
    script = launcher.script("")
    other = azure.connection.replace(AZURE_KEY, "d3Jvbmcga2V5IG9mIG5vYm9keQ==")
    cases = {
        (other, "ready"): f"has AZURE_STORAGE_KEY the key of the account {AZURE_ACCOUNT}",
        (azure.connection, "nobody-made-it"): "does the container exist",
    }
    for (connection, container), words in cases.items():
        launcher.env = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        ran = launcher.run("--hosts", "lab1", "--data", f"x=az://{container}", script)
        assert ran.code == 125, ran.err
        assert f"az://{container} at " in ran.err
        assert words in ran.err, ran.err
        assert "sig=" not in ran.err


def test_what_a_signature_allows(azure: AzureStore) -> None:
    """To read one blob, for its time; a clock that is off by hours is put right."""
    azure.put("clocks", {"a": b"A", "b": b"B"})
    known = Credentials(AZURE_ACCOUNT, AZURE_KEY)
    there = azure_store.container("clocks", known, azure.endpoint)
    assert status_of(there.url("a")) == 200
    assert status_of(there.url("a").replace("/a?", "/b?")) == 403
    assert status_of(there.url("a"), "DELETE") == 403
    assert status_of(there.sign("PUT", "a", {}, 60)) == 403
    assert status_of(there.sign("GET", "a", {}, -60)) == 403
    late = replace(there, skew=-7 * 3600.0)
    with pytest.raises(StoreError, match=r"az://clocks at .* cannot be listed"):
        list(late.objects(""))
    put_right = late.in_step()
    assert abs(put_right.skew) < 60
    assert [one.key for one in put_right.objects("")] == ["a", "b"]
    assert status_of(put_right.url("b")) == 200


def test_blocks_of_a_try_are_known(azure: AzureStore) -> None:
    """A blob in parts is continued where it was; what another try wrote is not mixed in."""
    azure.put("tries", {"old": b"O"})
    known = Credentials(AZURE_ACCOUNT, AZURE_KEY)
    there = azure_store.container("tries", known, azure.endpoint)
    for key in ("new", "old"):
        mine, other = there.begin_upload(key), there.begin_upload(key)
        assert there.parts(key, mine) == {}
        for upload, number, data in ((mine, 1, b"abc"), (other, 1, b"?"), (mine, 3, b"e")):
            assert status_of(there.part_url(key, upload, number, 60), "PUT", data) == 201
        found = there.parts(key, mine)
        assert {number: size for number, (_, size) in found.items()} == {1: 3, 3: 1}
        assert status_of(there.part_url(key, mine, 2, 60), "PUT", b"d") == 201
        there.end_upload(key, mine, ["a", "b", "c"])
        assert there.get(key) == b"abcde"


def test_many_blobs_come_in_pages(azure: AzureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_store, "MOST", 3)
    names = [f"set/{n:05} é" for n in range(10)]
    azure.put("many", dict.fromkeys(names, b""))
    known = Credentials(AZURE_ACCOUNT, AZURE_KEY)
    there = azure_store.container("many", known, azure.endpoint)
    assert [one.key for one in there.objects("set/")] == names


def status_of(url: str, method: str = "GET", data: bytes | None = None) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data, method=method), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
