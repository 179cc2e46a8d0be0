"""Signing as AWS does, and finding what AWS's tools find."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.spec.errors import StoreError
from launcher.transport import object_store
from launcher.transport.aws_store import find_bucket
from launcher.transport.object_store import Bucket, Credentials
from support.http_server import store_with_answers

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def test_a_signature_is_that_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html."""
    then = time.struct_time((2013, 5, 24, 0, 0, 0, 4, 144, 0))
    monkeypatch.setattr(object_store.time, "gmtime", lambda seconds: then)
    bucket = Bucket("x", "https://examplebucket.s3.amazonaws.com", "us-east-1", KEYS)
    query = bucket._signed("GET", "/test.txt", {}, 86400)
    signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert query.endswith(f"&X-Amz-Signature={signature}")


def test_urls() -> None:
    """Keys are escaped; a public bucket needs no signature, and a session has its token."""
    public = Bucket("b", "http://s", "r")
    assert public.url("a b/é+%?#") == "http://s/b/a%20b/%C3%A9%2B%25%3F%23"
    session = Bucket("b", "http://s", "r", Credentials("k", "s", "to/ken"))
    assert "X-Amz-Security-Token=to%2Fken" in session.url("a")
    assert "wJalr" not in repr(Bucket("b", "http://s", "r", KEYS))


@pytest.mark.parametrize(
    ("environment", "region", "endpoint", "key"),
    [
        ({}, "eu-west-9", "http://of-profile:1", "DEFAULT"),
        ({"AWS_PROFILE": "lab"}, "us-east-1", "https://s3.us-east-1.amazonaws.com", "LAB"),
        ({"AWS_ENDPOINT_URL": "http://a:1/"}, "eu-west-9", "http://a:1", "DEFAULT"),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"},
            "eu-west-9",
            "http://b",
            "DEFAULT",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"},
            "r",
            "http://of-profile:1",
            "ENV",
        ),
    ],
)
def test_where_things_are_found(
    tmp_path: Path, environment: dict[str, str], region: str, endpoint: str, key: str
) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = a%b\n"
        "[lab]\naws_access_key_id = LAB\naws_secret_access_key = s\n"
    )
    (folder / "config").write_text(
        "[default]\nregion = eu-west-9\nendpoint_url = http://of-profile:1\n[profile lab]\n"
    )
    found = find_bucket("b", {"HOME": str(tmp_path), **environment})
    assert (found.region, found.endpoint) == (region, endpoint)
    assert found.credentials
    assert found.credentials.key == key


def test_nothing_is_found(tmp_path: Path) -> None:
    """No credentials make a bucket public; a profile that is named must have some."""
    home = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    assert find_bucket("b", home).credentials is None
    with pytest.raises(StoreError, match="profile gone \\(AWS_PROFILE\\) has no aws_access_key_id"):
        find_bucket("b", {**home, "AWS_PROFILE": "gone"})
    with pytest.raises(StoreError, match="not an address of a store"):
        find_bucket("b", {**home, "AWS_ENDPOINT_URL": "localhost:9000"})


LIST = b"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<IsTruncated>%s</IsTruncated><NextContinuationToken>%s</NextContinuationToken>
<Contents><Key>%s</Key><Size>7</Size><ETag>&quot;t&quot;</ETag></Contents></ListBucketResult>"""


@pytest.fixture
def store() -> Iterator[tuple[str, list[dict[str, str]], list[Any]]]:
    """A store that gives the answers of a test, and remembers the queries."""
    with store_with_answers() as made:
        yield made


def test_a_wrong_clock_is_put_right(store: Any) -> None:
    """That of the store counts, also for what hosts read."""
    endpoint, queries, answers = store
    skewed = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    answers += [
        (403, skewed, "Fri, 02 Jan 2026 03:04:05 GMT"),
        (200, LIST % (b"false", b"", b"k"), ""),
    ]
    bucket = Bucket("b", endpoint, "r", KEYS).in_step()
    assert queries[1]["X-Amz-Date"].startswith("20260102T0304")
    assert "X-Amz-Date=20260102T0304" in bucket.url("k")


WRONG_REGION = b"""<Error><Code>AuthorizationQueryParametersError</Code>
<Region>ap-northeast-2</Region></Error>"""


def test_a_bucket_in_another_region_is_found_there(store: Any) -> None:
    """As AWS says it; hosts read it there, too."""
    endpoint, queries, answers = store
    answers += [(400, WRONG_REGION, ""), (200, LIST % (b"false", b"", b"p/k"), "")]
    bucket = Bucket("b", endpoint, "us-east-1", KEYS).in_step("p/")
    assert "/ap-northeast-2/s3/" in queries[1]["X-Amz-Credential"]
    assert [query["prefix"] for query in queries] == ["p/", "p/"], "that alone may be allowed"
    assert "%2Fap-northeast-2%2Fs3" in bucket.url("k")
    assert bucket.endpoint == endpoint
    moved = Bucket("b", "https://s3.us-east-1.amazonaws.com", "us-east-1").in_region("eu-west-3")
    assert moved.endpoint == "https://s3.eu-west-3.amazonaws.com"


@pytest.mark.parametrize("region", [b"evil.example/", b"EU", b""])
def test_a_region_that_is_none_is_not_followed(store: Any, region: bytes) -> None:
    endpoint, queries, answers = store
    answers.append((400, WRONG_REGION.replace(b"ap-northeast-2", region), ""))
    with pytest.raises(StoreError, match="AuthorizationQueryParametersError"):
        Bucket("b", endpoint, "us-east-1", KEYS).in_step()
    assert len(queries) == 1


def test_a_store_that_answers_in_circles_is_refused(store: Any) -> None:
    endpoint, _, answers = store
    answers += [(400, WRONG_REGION.replace(b"2", b"%d" % n), "") for n in (2, 3, 2)]
    with pytest.raises(StoreError, match="AuthorizationQueryParametersError") as error:
        Bucket("b", endpoint, "us-east-1", KEYS).in_step()
    assert "set AWS_REGION" in error.value.hint


def test_who_writes_need_not_list(store: Any) -> None:
    endpoint, _, answers = store
    denied = (403, b"<Error><Code>AccessDenied</Code></Error>", "")
    answers += [denied, denied]
    bucket = Bucket("b", endpoint, "r", KEYS)
    assert bucket.in_step("out/", writes=True) == bucket
    with pytest.raises(StoreError, match="AccessDenied"):
        bucket.in_step("out/")


def test_a_long_list_comes_in_pages(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy store is asked again; keys may be anything."""
    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    endpoint, queries, answers = store
    answers += [
        (503, b"", ""),
        (200, LIST % (b"true", b"next", b"a+b/%C3%A9%FF"), ""),
        (200, LIST % (b"false", b"", b"z%2B"), ""),
    ]
    found = list(Bucket("b", endpoint, "r", KEYS).objects("p"))
    assert [one.key for one in found] == ["a b/é\udcff", "z+"]
    assert found[0].tag == "t"
    assert queries[2]["continuation-token"] == "next"


PARTS = b"""<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<IsTruncated>%s</IsTruncated><NextPartNumberMarker>%d</NextPartNumberMarker>
<Part><PartNumber>%d</PartNumber><ETag>"t%d"</ETag><Size>5</Size></Part></ListPartsResult>"""


def test_the_parts_of_an_upload_come_in_pages(store: Any) -> None:
    endpoint, queries, answers = store
    answers += [(200, PARTS % (b"true", 1, 1, 1), ""), (200, PARTS % (b"false", 2, 2, 2), "")]
    bucket = Bucket("b", endpoint, "r", KEYS)
    assert bucket.parts("k", "u") == {1: ("t1", 5), 2: ("t2", 5)}
    assert [one.get("part-number-marker") for one in queries] == [None, "1"]
    answers += [(404, b"<Error><Code>NoSuchUpload</Code></Error>", "")]
    assert bucket.parts("k", "gone") == {}


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "InvalidAccessKeyId", "are AWS_ACCESS_KEY_ID and"),
        (403, "ExpiredToken", "log in again"),
        (301, "PermanentRedirect", "set AWS_REGION"),
        (404, "NoSuchBucket", "does the bucket exist"),
    ],
)
def test_refusals_say_what_to_do(store: Any, status: int, code: str, hint: str) -> None:
    endpoint, _, answers = store
    answers.append((status, f"<Error><Code>{code}</Code></Error>".encode(), ""))
    with pytest.raises(StoreError, match=code) as error:
        list(Bucket("b", endpoint, "r", KEYS).objects(""))
    assert hint in error.value.hint
    assert "Signature=" not in str(error.value)
