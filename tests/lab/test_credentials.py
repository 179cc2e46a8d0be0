"""Named credentials: two in one job, the same ones at each later contact, and nowhere but in their
files."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from support import lab as labs
from support import leaks
from support.command import Launcher, wait_for
from support.object_store import KEY, READER_KEY, READER_SECRET, SECRET, Store
from support.terminal import Terminal

SECRETS = (KEY, SECRET, READER_KEY, READER_SECRET, "X-Amz-Signature", "X-Amz-Credential")
JOB = """
data:
  one: {from: s3://sets/one, credential: reader}
  two: {from: s3://sets/two, credential: lab-s3}
outputs: {to: "s3://out/{{run}}", credential: lab-s3}
num_nodes: 2
framework: env
run: |
  cat "$LAUNCHER_DATA_ONE/a" "$LAUNCHER_DATA_TWO/b" >"$LAUNCHER_OUTPUT_DIR/of-$RANK"
  echo begun
  while [ ! -e /tmp/credentials-go ]; do sleep 0.1; done
"""


def test_two_in_one_job(launcher: Launcher, clean: labs.Lab, store: Store) -> None:
    """One is typed, one comes from the environment. What a host could not store is stored later, with
    the same one, which is gone and comes back; a rerun uses it, and so does what brings it back."""
    store.put("sets", {"one/a": b"A" * 1000, "two/b": b"B" * 1000})
    store.put("out", {})
    type_one(launcher, "reader", READER_KEY, READER_SECRET, store.endpoint)
    take_from_environment(launcher, store)
    (launcher.work / "job.yaml").write_text(JOB)
    host, port = clean.hosts["lab2"], store.endpoint.rpartition(":")[2]
    rules = f"table ip store {{ chain out {{ type filter hook output priority 0; tcp dport {port} reject with tcp reset; }}; }}"
    process = launcher.start("job.yaml")
    try:
        wait_for_log(launcher, process, "node-1.out")
        in_no_process(launcher, clean)
        host.run("nft", rules)
        for name in ("lab1", "lab2"):
            clean.hosts[name].run("touch", "/tmp/credentials-go")
        _, said = process.communicate(timeout=90)
    finally:
        host.run("nft", "delete table ip store", check=False)
        process.kill()
        process.wait()
    assert process.returncode == 74, said.decode()
    (folder,) = (launcher.home / "runs").iterdir()
    name, bucket = folder.name, store.bucket("out")
    request = json.loads((folder / "run.json").read_text())
    assert request["job"]["output_credential"] == "lab-s3"
    assert [one["credential"] for one in request["job"]["data"]] == ["reader", "lab-s3"]

    gone = launcher.call("credential", "rm", "lab-s3")
    assert gone.returncode == 0, gone.stderr
    later = launcher.call("pull", name)
    assert later.returncode == 1, later.stderr
    assert "no credential is called lab-s3 here" in later.stderr
    back = launcher.work / "back"
    pulled = launcher.call("pull", name, str(back), "--from", "s3")
    assert (pulled.returncode, back.exists()) == (2, False), pulled.stderr
    again = launcher.call("rerun", name)
    assert again.returncode == 2, again.stderr
    assert list((launcher.home / "runs").iterdir()) == [folder], "nothing was begun"

    take_from_environment(launcher, store)
    later = launcher.call("pull", name)
    assert later.returncode == 0, later.stderr
    assert json.loads(bucket.get(f"{name}/.launcher.json"))["whole"] is True
    pulled = launcher.call("pull", name, str(back), "--from", "s3")
    assert pulled.returncode == 0, pulled.stderr
    assert (back / "of-1").read_bytes() == b"A" * 1000 + b"B" * 1000
    again = launcher.call("rerun", name)
    assert again.returncode == 0, again.stderr
    (second,) = {*(launcher.home / "runs").iterdir()} - {folder}
    assert json.loads(bucket.get(f"{second.name}/.launcher.json"))["whole"] is True
    in_no_file(launcher, clean)
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-f", "/tmp/credentials-go")


def test_a_set_by_name_and_what_cannot_be_used(launcher: Launcher, store: Store) -> None:
    """``data add`` remembers it; a wrong one, one that others may read, and none are said at once."""
    store.put("sets", {"one/a": b"A" * 1000})
    store.put("out", {})
    take_from_environment(launcher, store)
    bare = launcher.call("data", "add", "one", "s3://sets/one")
    assert bare.returncode != 0
    added = launcher.call("data", "add", "one", "s3://sets/one", "--credential", "lab-s3", "--json")
    assert json.loads(added.stdout)["credential"] == "lab-s3", added.stderr
    where = ["-i", str(launcher.inventory), "--hosts", "lab1"]
    pushed = launcher.call("data", "push", "one", *where)
    assert pushed.returncode == 0, pushed.stderr
    words = ["--hosts", "lab1", "--framework", "env", "--data", "one"]
    ran = launcher.run(*words, 'cat "$LAUNCHER_DATA_ONE/a"')
    assert (ran.code, ran.log("node-0.out")) == (0, b"A" * 1000), ran.err
    words[-1:] = ["one=s3://sets/one", "--data-credential", "one=lab-s3"]
    ran = launcher.run(*words, 'cat "$LAUNCHER_DATA_ONE/a"')
    assert (ran.code, ran.out.count("A")) == (0, 1000), ran.err

    type_one(launcher, "reader", READER_KEY, READER_SECRET, store.endpoint)
    type_one(launcher, "wrong", KEY, READER_SECRET, store.endpoint)
    cases = {
        "reader": (125, "s3://out at", "with credential reader cannot be written: AccessDenied"),
        "wrong": (125, "SignatureDoesNotMatch", "launcher credential set wrong"),
        "lab-3s": (2, "--output-credential: no credential is called lab-3s here", '"lab-s3"'),
    }
    stored = ["--hosts", "lab1", "--output-to", "s3://out/x", "--output-credential"]
    for name, (code, *said) in cases.items():
        ran = launcher.run(*stored, name, launcher.script(""))
        assert ran.code == code, ran.err
        assert [words for words in said if words not in ran.err] == [], ran.err
        assert [word for word in SECRETS if word in ran.err + ran.out] == []
    file = launcher.home / "credentials" / "lab-s3.json"
    file.chmod(0o640)
    ran = launcher.run(*words, launcher.script(""))
    assert ran.code == 2
    assert f"{file} is open to other users (mode 0640)" in ran.err
    assert f"chmod 600 {file}" in ran.err


# -- keeping them


def type_one(launcher: Launcher, name: str, key: str, secret: str, endpoint: str) -> None:
    """Keep a credential that is typed at a terminal, which does not show it."""
    argv = [sys.executable, "-m", "launcher", "credential", "set", name]
    env = {**launcher.environment(), "TERM": "dumb"}
    with Terminal(argv, Path(launcher.work), env) as terminal:
        for asked, typed in (
            ("access key", key),
            ("secret", secret),
            ("session token", ""),
            ("endpoint", endpoint),
            ("region", ""),
        ):
            terminal.expect(f"{asked}")
            terminal.expect(": ")
            terminal.type(typed)
        assert terminal.end() == 0, terminal.seen
        assert key.encode() not in terminal.seen
        assert secret.encode() not in terminal.seen


def take_from_environment(launcher: Launcher, store: Store) -> None:
    """Keep lab-s3 as the variables of one shell have it; those of later ones lack them."""
    bare, launcher.env = launcher.env, {**launcher.env, **store.environment}
    done = launcher.call("credential", "set", "lab-s3", "--from-env")
    launcher.env = bare
    assert done.returncode == 0, done.stderr
    listed = launcher.call("credential", "ls", "--json").stdout
    assert '"lab-s3"' in listed
    assert [word for word in SECRETS if word in listed + done.stdout + done.stderr] == []


# -- looking for them


def wait_for_log(launcher: Launcher, process: object, name: str) -> None:
    """Wait until the only run has written to a log."""
    labs.wait_until(
        lambda: any((launcher.home / "runs").glob(f"*/logs/attempt-0/{name}")), name, 90
    )
    (log,) = (launcher.home / "runs").glob(f"*/logs/attempt-0/{name}")
    wait_for(log, b"begun", process)  # type: ignore[arg-type]


def in_no_process(launcher: Launcher, lab: labs.Lab) -> None:
    """Look into arguments and environments of what launcher has started, here and on hosts."""
    found = []
    mark = os.fsencode(f"LAUNCHER_HOME={launcher.home}")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            env = (process / "environ").read_bytes()
            if mark in env.split(b"\0"):
                found.append(env + (process / "cmdline").read_bytes())
    assert found
    for name in ("lab1", "lab2"):
        for there in lab.hosts[name].processes():
            found.append(repr((there.argv, there.environ)).encode())
    assert not [word for word in SECRETS for text in found if word.encode() in text]


def in_no_file(launcher: Launcher, lab: labs.Lab) -> None:
    """Look into all files here but those of the credentials, and on the hosts."""
    assert not [
        path
        for path in launcher.work.rglob("*")
        if path.is_file()
        if [word for word in SECRETS if word.encode() in path.read_bytes()]
    ]
    leaks.in_no_file(SECRETS, launcher.home, lab)
    for folder, mode in ((launcher.home / "credentials", 0o700),):
        assert folder.stat().st_mode & 0o777 == mode
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
