"""Launchers are killed at moments of an upload: at the next contact the store has all of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from support import lab as labs
from support import object_store
from support.command import Launcher
from support.object_store import Store

JOB = """
outputs: {to: s3://kills/runs}
num_nodes: 2
framework: env
run: |
  echo of $RANK >"$LAUNCHER_OUTPUT_DIR/of-$RANK"
  if [ $RANK = 0 ]; then head -c 70000000 /dev/zero >"$LAUNCHER_OUTPUT_DIR/large.pt"; fi
"""


class Gate:
    """A line to the store that does something when a request comes by, or its answer, and cuts it off."""

    def __init__(self, store: Store, address: str) -> None:
        host, _, port = store.endpoint.rpartition("/")[2].rpartition(":")
        self._far = (host, int(port))
        self._listener = socket.create_server((address, 0))
        self.endpoint = f"http://{address}:{self._listener.getsockname()[1]}"
        self.victim: Callable[[], None] | None = None
        self.words: tuple[bytes, bytes] = (b"", b"")
        self.when_answered = False
        self.killed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def arm(
        self, victim: Callable[[], None], words: tuple[bytes, bytes], when_answered: bool
    ) -> None:
        """Call ``victim`` at the next request that has both words in its first line."""
        self.killed.clear()
        self.words, self.when_answered, self.victim = words, when_answered, victim

    def close(self) -> None:
        """Take no more calls."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._far) as far:
            data = near.recv(1 << 16)
            line = data.partition(b"\r\n")[0]
            victim = self.victim
            hit = victim is not None and all(word in line for word in self.words)
            if hit and not self.when_answered:
                self._kill(victim)
                return
            back = threading.Thread(target=self._back, args=(far, near, victim if hit else None))
            back.start()
            with suppress(OSError):
                while data:
                    far.sendall(data)
                    data = near.recv(1 << 16)
                far.shutdown(socket.SHUT_WR)
            back.join()

    def _back(
        self, far: socket.socket, near: socket.socket, victim: Callable[[], None] | None
    ) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 16):
                if victim is not None:
                    self._kill(victim)
                    break
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)

    def _kill(self, victim: Callable[[], None] | None) -> None:
        assert victim is not None
        self.victim = None
        victim()
        self.killed.set()


@contextmanager
def gate(store: Store, address: str) -> Iterator[Gate]:
    """Open a line to the store."""
    there = Gate(store, address)
    try:
        yield there
    finally:
        there.close()


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


#: Requests at which the launcher is killed, and whether the store has done them by then.
MOMENTS = {
    "an upload was begun, and nobody has noted it": ((b"POST ", b"uploads="), True),
    "the parts are one object, and nobody has noted it": ((b"POST ", b"uploadId="), True),
    "all is there but the word that it is": ((b"PUT ", b"/.launcher.json"), False),
}


@pytest.mark.timeout(300)
def test_a_launcher_is_killed_again_and_again(
    launcher: Launcher, clean: labs.Lab, store: Store
) -> None:
    """Each time the next one goes on; in the end the store has all, and nothing that was begun."""
    store.put("kills", {})
    (launcher.work / "job.yaml").write_text(JOB)
    with gate(store, clean.address) as line:
        launcher.env |= {**store.environment, "AWS_ENDPOINT_URL": line.endpoint}
        for moment, (words, when_answered) in MOMENTS.items():
            victim = Victim()
            line.arm(victim, words, when_answered)  # before it can get as far as that
            names = [path.name for path in (launcher.home / "runs").glob("*")]
            running = victim.is_(
                launcher.start_command("attach", *names) if names else launcher.start("job.yaml")
            )
            try:
                assert line.killed.wait(270), f"not reached: {moment}"
            finally:
                running.kill()
                running.communicate()
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
                host.run("kill", "-9", str(one.pid))

    with gate(store, clean.address) as line:
        launcher.env["AWS_ENDPOINT_URL"] = line.endpoint
        words = ["--hosts", "lab1", "--framework", "env", "--output-to", "s3://kills/relay"]
        line.arm(kill, (b"PUT ", b"/log"), False)
        running = launcher.start(*words, 'echo x >"$LAUNCHER_OUTPUT_DIR/log"')
        _, err = running.communicate(timeout=90)
        assert line.killed.is_set()
        assert running.returncode == 74, err
        (folder,) = (launcher.home / "runs").iterdir()
        receipt = json.loads((folder / "receipt.json").read_text())
        assert list(receipt["stored"]["missing"]) == ["lab1"], receipt
        assert launcher.call("ls").returncode == 0
        labs.wait_until(lambda: not (folder / "unstored.json").exists(), "all is stored", 60)
    manifest = json.loads(store.bucket("kills").get(f"relay/{folder.name}/.launcher.json"))
    assert manifest["whole"] is True
    assert "NOT all" not in launcher.call("show", folder.name).stdout
