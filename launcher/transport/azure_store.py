"""Containers of Azure Blob Storage: what is listed, and shared access signatures for single blobs.

A signature is made with the key of the storage account:
https://learn.microsoft.com/rest/api/storageservices/create-service-sas
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..spec.errors import StoreError
from ..spec.frozen import frozen
from .object_store import (
    MAY_IT,
    NO_HEADERS,
    Bucket,
    Credentials,
    Missing,
    Object,
    all_of,
    ask,
    checked_endpoint,
    encoded,
    quoted,
    text_of,
    tree_of,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: The version of the interface: how signatures are made, and what answers have in them.
VERSION = "2021-12-02"
#: What a request may do, by its method; a list is one of the container.
_MAY = {"GET": "r", "PUT": "cw", "DELETE": "d"}
#: What a request has to say that writes a whole blob.
_WHOLE: Mapping[str, str] = {"x-ms-blob-type": "BlockBlob"}
#: Blobs in one page of a list.
MOST = 5000
#: What can be done where a credential cannot sign.
WHAT_SIGNS = (
    "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or AZURE_STORAGE_CONNECTION_STRING with a key"
)


@frozen
class Container(Bucket):
    """A container of a storage account; the key of its credentials is the account's name."""

    scheme = "az"
    put_headers = _WHOLE
    can_copy = False

    def sign(
        self,
        method: str,
        key: str | None,
        query: Mapping[str, str],
        seconds: int,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        """Return a URL that allows a request to anybody for so long: a secret."""
        path = self._path(key)
        whole = {**query, **self._sas(method, key, seconds)}
        return f"{self.endpoint}{path}?{encoded(whole)}".rstrip("?")

    def _sas(self, method: str, key: str | None, seconds: int) -> dict[str, str]:
        """Return the parameters of a signature; none without credentials."""
        if self.credentials is None:
            return {}
        may, kind = ("l", "c") if key is None else (_MAY[method], "b")
        until = time.gmtime(time.time() + self.skew + seconds)
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", until)
        by = "https" if self.endpoint.startswith("https:") else ""
        name = f"/blob/{self.credentials.key}/{self.name}" + ("" if key is None else f"/{key}")
        # permissions, start, end, resource, policy, addresses, protocol, version, kind, snapshot,
        # encryption scope, and five headers of answers
        fields = [may, "", end, name, "", "", by, VERSION, kind, "", "", "", "", "", "", ""]
        secret = base64.b64decode(self.credentials.secret)
        text = "\n".join(fields).encode(errors="surrogateescape")
        signature = base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()
        found = {"sv": VERSION, "sr": kind, "sp": may, "se": end, "spr": by, "sig": signature}
        return {name: value for name, value in found.items() if value}

    def short_list(self, prefix: str) -> Mapping[str, str]:
        """Return the parameters of the shortest list of a prefix."""
        query = {"restype": "container", "comp": "list", "maxresults": "1"}
        return {**query, **({"prefix": prefix} if prefix else {})}

    def objects(self, prefix: str) -> Iterator[Object]:
        """Yield the blobs whose names start with a prefix, as the store orders them.

        Raises StoreError.
        """
        # Where folders are real, they are blobs with a mark among their metadata.
        query = {"restype": "container", "comp": "list", "include": "metadata", "prefix": prefix}
        query["maxresults"] = str(MOST)
        while True:
            page = tree_of(self, ask(self, "GET", None, query))
            for blobs in all_of(page, "Blobs"):
                for one in all_of(blobs, "Blob"):
                    if not _is_folder(one):
                        yield _blob(one)
            marker = text_of(page, "NextMarker")
            if not marker or marker == query.get("marker"):
                return
            query["marker"] = marker

    # -- writing: a blob in parts is one of blocks, which have names

    def begin_upload(self, key: str) -> str:
        """Return a name for what the blocks of this try are called; the store need not know."""
        return secrets.token_hex(8)

    def part_url(self, key: str, upload: str, number: int, seconds: int) -> str:
        """Return a URL that writes a block for so long: a secret."""
        query = {"comp": "block", "blockid": _block(upload, number)}
        return self.sign("PUT", key, query, seconds)

    def parts(self, key: str, upload: str) -> dict[int, tuple[str, int]]:
        """Return the name and the size of each block of this try that is there, by number. Raises
        StoreError."""
        try:
            answer = ask(self, "GET", key, {"comp": "blocklist", "blocklisttype": "uncommitted"})
        except Missing:
            return {}
        found: dict[int, tuple[str, int]] = {}
        for blocks in all_of(tree_of(self, answer), "UncommittedBlocks"):
            for one in all_of(blocks, "Block"):
                name, size = text_of(one, "Name"), text_of(one, "Size")
                number = _number(upload, name)
                if number and size.isdecimal():
                    found[number] = name, int(size)
        return found

    def end_upload(self, key: str, upload: str, tags: Sequence[str]) -> None:
        """Make a blob of its blocks, which are as many as there are tags. Raises StoreError."""
        names = (_block(upload, number) for number in range(1, len(tags) + 1))
        blocks = "".join(f"<Latest>{name}</Latest>" for name in names)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'
        ask(self, "PUT", key, {"comp": "blocklist"}, body.encode())

    def abort_upload(self, key: str, upload: str) -> None:
        """Do nothing: blocks that are of no blob cannot be deleted, and are gone after a week."""

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return nothing: there is nothing to abort."""
        return []

    # -- what a refusal means

    def is_of_clock(self, status: int, code: str) -> bool:
        """Return whether a store refuses so where this machine's clock is wrong."""
        return status == 403

    def advice(self, status: int, code: str) -> str:
        """Return what to do about a refusal."""
        known = self.credentials
        if known is None and status in (401, 403, 404, 409):
            return (
                f"no key was found, and without one only a public container is read: {WHAT_SIGNS}"
            )
        if known is not None and code in ("AuthenticationFailed", "AuthorizationFailure"):
            which = f"credential {known.name}" if known.name else "AZURE_STORAGE_KEY"
            right = f"has {which} the key of the account {known.key}"
            if code == "AuthenticationFailed":
                return f"{right}?"
            return f"{right}, and does its firewall let this machine in?"
        if code == "KeyBasedAuthenticationNotPermitted":
            return "the account does not let its keys be used: allow shared key access, or copy the data"
        return MAY_IT.replace("bucket", "container")

    @property
    def elsewhere(self) -> str:
        """What to do where nothing answers at the endpoint."""
        return "is that the name of the storage account?"


def _block(upload: str, number: int) -> str:
    return base64.b64encode(f"{upload}-{number:06}".encode()).decode()


def _number(upload: str, name: str) -> int:
    """Return the number of a block of an upload by its name; 0 for one of another."""
    try:
        whole = base64.b64decode(name, validate=True).decode("ascii")
    except ValueError:
        return 0
    mine, _, number = whole.rpartition("-")
    return int(number) if mine == upload and number.isdecimal() else 0


def _is_folder(blob: Element) -> bool:
    kinds = [text_of(one, "ResourceType") for one in all_of(blob, "Properties")]
    marks = [text_of(one, "hdi_isfolder") for one in all_of(blob, "Metadata")]
    return "directory" in kinds or "true" in marks


def _blob(blob: Element) -> Object:
    name = next(all_of(blob, "Name"))
    key = name.text or ""
    if name.get("Encoded") == "true":  # it has characters that XML has not
        key = urllib.parse.unquote(key, errors="surrogateescape")
    about = next(all_of(blob, "Properties"), blob)
    size, tag = text_of(about, "Content-Length"), text_of(about, "Etag").strip('"')
    return Object(key, int(size) if size.isascii() and size.isdigit() else -1, tag)


# -- finding the account, and its key


def container(name: str, known: Credentials | None, endpoint: str) -> Container:
    """Return a container. Raises StoreError for a key that cannot sign."""
    if known is not None:
        try:
            base64.b64decode(known.secret, validate=True)
        except (ValueError, binascii.Error):
            raise StoreError(
                f"the key of the storage account {known.key} is damaged: it is not base64",
                WHAT_SIGNS,
            ) from None
    return Container(name, endpoint or endpoint_of(known.key if known else ""), "", known)


def endpoint_of(account: str) -> str:
    """Return where Azure has the blobs of an account."""
    return f"https://{quoted(account)}.blob.core.windows.net"


def find_bucket(
    name: str, environment: Mapping[str, str] = os.environ, is_anonymous: bool = False
) -> Container:
    """Return a container with the account and the key that Azure's tools use; without the key if it
    ``is_anonymous``. Raises StoreError."""
    if is_anonymous:  # no matter what a signature of the environment may do
        environment = {**environment, "AZURE_STORAGE_SAS_TOKEN": ""}
    known, endpoint = found_credentials(environment)
    return container(name, None if is_anonymous else known, endpoint)


def found_credentials(
    environment: Mapping[str, str] = os.environ,
) -> tuple[Credentials | None, str]:
    """Return the credentials that are found here, None without any, and the endpoint of the account.
    Raises StoreError."""
    if text := environment.get("AZURE_STORAGE_CONNECTION_STRING"):
        return of_connection_string(text)
    account = _first(environment, "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    key = _first(environment, "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
    if not account:
        raise StoreError("no storage account was found for az://", WHAT_SIGNS)
    if not key and environment.get("AZURE_STORAGE_SAS_TOKEN"):
        raise _sas_alone("AZURE_STORAGE_SAS_TOKEN")
    said = environment.get("AZURE_STORAGE_SERVICE_ENDPOINT", "")
    endpoint = checked_endpoint(said, "AZURE_STORAGE_SERVICE_ENDPOINT") if said else ""
    return (Credentials(account, key) if key else None), endpoint or endpoint_of(account)


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _sas_alone(what: str) -> StoreError:
    return StoreError(
        f"{what} is a signature, which hosts would get as it is: it cannot sign for single blobs",
        WHAT_SIGNS,
    )


def of_connection_string(text: str) -> tuple[Credentials, str]:
    """Return the credentials in a connection string, and the endpoint. Raises StoreError, whose words
    have nothing of what is in it."""
    what = "AZURE_STORAGE_CONNECTION_STRING"
    parts = {
        name.strip().lower(): value.strip()
        for name, _, value in (one.partition("=") for one in text.strip().split(";"))
    }
    account, key = parts.get("accountname", ""), parts.get("accountkey", "")
    if not key and "sharedaccesssignature" in parts:
        raise _sas_alone(what)
    if not account or not key:
        raise StoreError(f"{what} has no AccountName or no AccountKey", WHAT_SIGNS)
    kind, suffix = parts.get("defaultendpointsprotocol") or "https", parts.get("endpointsuffix")
    endpoint = f"{kind}://{quoted(account)}.blob.{suffix or 'core.windows.net'}"
    try:
        endpoint = checked_endpoint(parts.get("blobendpoint") or endpoint, what)
    except StoreError:
        raise StoreError(
            f"{what} names no address of a store", "BlobEndpoint=https://..."
        ) from None
    return Credentials(account, key), endpoint
