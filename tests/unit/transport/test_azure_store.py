"""Signing as Azure does, and finding what Azure's tools find."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from launcher.spec.errors import StoreError
from launcher.transport import azure_store, object_store
from launcher.transport.azure_store import find_bucket
from launcher.transport.object_store import Credentials
from support.http_server import store_with_answers

KNOWN = Credentials("acct", "c2VjcmV0LWtleQ==")


@pytest.mark.parametrize(
    ("endpoint", "key", "signature"),
    [
        ("https://s", "a b/é+%.txt", "tbK0CxG5up2KPp72B4XKD7YCgrqQuqJ6Ny9xNq63wqE="),
        ("http://s", None, "bj0fQwi8UbnQVBsRodzJorSUOPChuyTiIMemORkrU3U="),
    ],
)
def test_a_signature_is_that_of_azure(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str | None, signature: str
) -> None:
    """What azure-storage-blob 12.31.1 makes of the same by generate_blob_sas (for https alone) and
    generate_container_sas, for the same version and end."""
    then = time.struct_time((2030, 1, 2, 3, 4, 5, 2, 2, 0))
    monkeypatch.setattr(azure_store.time, "gmtime", lambda seconds: then)
    url = azure_store.container("cont", KNOWN, endpoint).sign("GET", key, {}, 3600)
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["sig"] == signature
    assert (query["sp"], query["sr"]) == (("r", "b") if key else ("l", "c"))


def test_blocks_of_two_tries_are_not_mixed() -> None:
    there = azure_store.container("c", KNOWN, "http://s")
    first, second = there.begin_upload("k"), there.begin_upload("k")
    urls = [there.part_url("k", one, 2, 60) for one in (first, second)]
    names = [dict(parse_qsl(urlsplit(url).query))["blockid"] for url in urls]
    assert names[0] != names[1]
    assert len(set(map(len, names))) == 1, "Azure wants names of one length"
    assert dict(parse_qsl(urlsplit(urls[0]).query))["sp"] == "cw"


def test_where_things_are_found() -> None:
    found = find_bucket("c", {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "c2Vj"})
    assert found.endpoint == "https://acct.blob.core.windows.net"
    assert "c2Vj" not in repr(found)
    names = {"AZURE_STORAGE_ACCOUNT_NAME": "acct", "AZURE_STORAGE_ACCOUNT_KEY": "c2Vj"}
    assert find_bucket("c", names) == found
    text = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=c2Vj;EndpointSuffix=core.windows.net"
    assert find_bucket("c", {**names, "AZURE_STORAGE_CONNECTION_STRING": text}) == found
    text = "AccountName=acct;AccountKey=c2Vj==;BlobEndpoint=http://h:1/acct/;"
    assert find_bucket("c", {"AZURE_STORAGE_CONNECTION_STRING": text}).endpoint == "http://h:1/acct"
    public = find_bucket("c", {"AZURE_STORAGE_ACCOUNT": "acct"})
    assert public.url("k é") == "https://acct.blob.core.windows.net/c/k%20%C3%A9"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "no storage account was found"),
        (
            {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_SAS_TOKEN": "hunter2"},
            "AZURE_STORAGE_SAS_TOKEN is a signature, which hosts would get",
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "BlobEndpoint=https://h;SharedAccessSignature=hunter2"
            },
            "AZURE_STORAGE_CONNECTION_STRING is a signature",
        ),
        ({"AZURE_STORAGE_CONNECTION_STRING": "hunter2"}, "has no AccountName or no AccountKey"),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=c2Vj;BlobEndpoint=hunter2"
            },
            "names no address of a store",
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "hunter2!"},
            "key of the storage account a is damaged",
        ),
    ],
)
def test_what_cannot_sign(environment: dict[str, str], words: str) -> None:
    with pytest.raises(StoreError, match=words) as error:
        find_bucket("c", environment)
    assert "hunter2" not in str(error.value) + error.value.hint


@pytest.fixture
def store() -> Iterator[tuple[str, list[dict[str, str]], list[Any]]]:
    """A server in the place of Azure's, with the answers of a test; it remembers the queries."""
    with store_with_answers() as (url, queries, answers):
        yield f"{url}/acct", queries, answers


PAGE = (
    b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs>"
    b"<Blob><Name>p/dir</Name><Properties><Content-Length>0</Content-Length><Etag>0x1</Etag>"
    b"</Properties><Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>"
    b"<Blob><Name%s</Name><Properties><Content-Length>7</Content-Length><Etag>0x8D</Etag>"
    b"</Properties><Metadata /></Blob></Blobs><NextMarker>%s</NextMarker></EnumerationResults>"
)


def test_a_list_comes_in_pages_without_folders(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy store is asked again."""
    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    endpoint, queries, answers = store
    answers += [
        (503, b""),
        (200, PAGE % (b">p/a+b%25", b"next")),
        (200, PAGE % (b" Encoded='true'>p/%EF%BF%BE", b"")),
    ]
    found = list(azure_store.container("c", KNOWN, endpoint).objects("p/"))
    assert [(one.key, one.size, one.tag) for one in found] == [
        ("p/a+b%25", 7, "0x8D"),
        ("p/\ufffe", 7, "0x8D"),
    ]
    assert queries[2]["marker"] == "next"
    assert queries[2]["prefix"] == "p/"


@pytest.mark.parametrize(
    ("known", "status", "code", "hint"),
    [
        (KNOWN, 403, "AuthenticationFailed", "has AZURE_STORAGE_KEY the key of the account acct?"),
        (
            Credentials("acct", "c2Vj", name="lab"),
            403,
            "AuthenticationFailed",
            "has credential lab the key of the account acct?",
        ),
        (KNOWN, 403, "KeyBasedAuthenticationNotPermitted", "does not let its keys be used"),
        (KNOWN, 404, "ContainerNotFound", "does the container exist"),
        (None, 409, "PublicAccessNotPermitted", "only a public container is read"),
    ],
)
def test_refusals_say_what_to_do(
    store: Any, known: Credentials | None, status: int, code: str, hint: str
) -> None:
    endpoint, _, answers = store
    answers.append((status, f"<Error><Code>{code}</Code></Error>".encode()))
    with pytest.raises(StoreError, match=f"az://c at .* cannot be listed: {code}") as error:
        azure_store.container("c", known, endpoint).in_step()
    assert hint in error.value.hint
    assert "sig=" not in str(error.value)
