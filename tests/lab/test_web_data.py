"""A file of a web server as a data set: every host has all of it, or nobody starts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator

import pytest

from support import lab as labs
from support.command import Launcher
from support.web_server import Web

STORE = "/root/.launcher/host/data"
SIZE = 17 << 20
JOB = """
data:
  corpus: {from: '%s', to: data/corpus}
num_nodes: 2
framework: env
run: sha256sum data/corpus/*
"""


@pytest.fixture
def web(clean: labs.Lab) -> Iterator[Web]:
    """A server that the hosts of the lab reach."""
    with Web(clean.address).running() as web:
        yield web


def test_a_file_of_a_web_server(launcher: Launcher, clean: labs.Lab, web: Web) -> None:
    """It is read once here and once by the hosts together, behind a redirection, by a server that is
    busy and cuts answers off. The next run reads nothing; a change is a new version."""
    content = os.urandom(SIZE)
    web.files["/files/the%20corpus.bin"] = content
    web.moved["/corpus.bin"] = "/files/the%20corpus.bin"
    web.refusals, web.cuts = [503], [3_000_000, -1, 100_000, 0]
    (launcher.work / "job.yaml").write_text(JOB % f"{web.url}/corpus.bin")
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    first = ran.folder
    line = f"{hashlib.sha256(content).hexdigest()}  data/corpus/corpus.bin\n".encode()
    assert ran.log("node-0.out") == ran.log("node-1.out") == line
    assert 2 * SIZE <= web.sent < 2.5 * SIZE, "once here, and once there"
    assert any(part.startswith("bytes=3000000-") for _, part in web.requests)

    before = web.sent
    assert launcher.run("job.yaml").code == 0
    assert web.sent - before < 10, "only whether it is the same"
    (second,) = {*(launcher.home / "runs").iterdir()} - {first}
    web.files["/files/the%20corpus.bin"] = content[::-1]
    assert launcher.run("job.yaml").code == 0
    (third,) = {*(launcher.home / "runs").iterdir()} - {first, second}
    versions = [json.loads((f / "data.json").read_text())[0]["version"] for f in (first, third)]
    assert versions[0] != versions[1]

    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    assert launcher.call("data", "add", "corpus", f"{web.url}/corpus.bin").returncode == 0
    file = f"{STORE}/{versions[1]}/files/corpus.bin"
    clean.hosts["lab1"].run("sh", "-c", f"printf x | dd of={file} bs=1 seek=9 conv=notrunc")
    bad = launcher.call("data", "verify", "corpus", *where)
    assert "lab1: 1 file differs: corpus.bin has another sum" in bad.stdout
    again = launcher.call("data", "push", "corpus", *where)
    assert again.returncode == 0, again.stderr
    assert launcher.call("data", "verify", "corpus", *where).returncode == 0
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-rf", STORE)


def test_a_server_that_says_little(launcher: Launcher, clean: labs.Lab, web: Web) -> None:
    """Without ranges, lengths and tags, each host reads all of it; what changes without a word is found
    by its sum, and read again."""
    content = os.urandom(SIZE)
    web.files["/x"] = content
    web.has_ranges = web.has_length = False
    web.tag = lambda data: ""
    where = ["-i", str(launcher.inventory), "--hosts", "lab[1-2]"]
    assert launcher.call("data", "add", "x", f"{web.url}/x").returncode == 0
    web.files["/x"] = content[::-1]
    pushed = launcher.call("data", "push", "x", *where)
    assert pushed.returncode == 1
    assert "x: x: it arrived with another sum than was listed" in pushed.stderr
    web.cuts, before = [-1, 1_000_000], web.sent
    pushed = launcher.call("data", "push", "x", *where, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert web.sent - before < 5 * SIZE, "here, the two, and what was cut off, more or less"
    version = json.loads(pushed.stdout)["version"]
    for name in ("lab1", "lab2"):
        assert clean.hosts[name].read(f"{STORE}/{version}/files/x") == content[::-1]
        clean.hosts[name].run("rm", "-rf", STORE)


def test_what_a_web_server_refuses(launcher: Launcher, web: Web) -> None:
    """Said before a host is asked; a secret in a URL is not even shown."""
    script = launcher.script("")
    ran = launcher.run("--hosts", "lab1", "--data", f"x={web.url}/none", script)
    assert ran.code == 125
    assert f"{web.url}/none cannot be read: the server answers 404" in ran.err
    bad = web.url.replace("://", "://me:hunter2@") + "/x"
    for words in (["run", "--data", f"x={bad}", script], ["data", "add", "x", bad]):
        called = launcher.call(*words)
        assert called.returncode == 2
        assert "has a password" in called.stderr
        assert "hunter2" not in called.stdout + called.stderr


def test_a_server_that_stalls_does_not_hold_ctrl_c(
    launcher: Launcher, clean: labs.Lab, web: Web
) -> None:
    web.files["/x"] = bytes(SIZE)
    web.stalls.set()
    words = ["--hosts", "lab1", "--data", f"x={web.url}/x", launcher.script("")]
    running = launcher.start(*words)
    try:
        assert web.stalled.wait(60)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130, "long before the server says anything"
    finally:
        running.kill()
        running.wait()
