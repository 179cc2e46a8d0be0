"""What a bucket lists, as a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.base import manifest
from launcher.runner.data import listing, store_listing
from launcher.spec.errors import InputError, StoreError
from launcher.transport import aws_store
from launcher.transport.object_store import Bucket, Credentials, Object


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Object]:
    """The objects of a store that needs no network."""
    objects: list[Object] = []
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(aws_store, "find_bucket", lambda name, **_: Bucket(name, "http://s", "r"))
    monkeypatch.setattr(Bucket, "in_step", lambda self, prefix: self)
    monkeypatch.setattr(
        Bucket, "objects", lambda self, prefix: (o for o in objects if o.key.startswith(prefix))
    )
    return objects


def test_keys_become_files(bucket: list[Object]) -> None:
    bucket += [
        Object("set/", 0, "0"),
        Object("set/a b", 3, "t-1"),
        Object("set/deep/", 0, "0"),
        Object("set/deep/é", 5, "t2"),
        Object("settings", 9, "t3"),
    ]
    listed = listing.read_source("s3://b/set")
    assert (listed.version.files, listed.version.bytes) == (2, 8)
    assert listed.store
    assert listed.store.url("a b") == "http://s/b/set/a%20b"
    with listed.manifest.open("rb") as file:
        found = [(one.path, one.sum) for one in manifest.entries(file)]
    assert found == [(b"a b", b"etag:t-1"), ("deep/é".encode(), b"etag:t2")]


def test_credentials_are_looked_up_again(
    bucket: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy may outlast the session that it began with; without a new one it goes on with the old."""
    sessions = iter(["first", "second"])

    def find(name: str, **_: object) -> Bucket:
        try:
            return Bucket(name, "http://s", "r", Credentials("K", "S", next(sessions)))
        except StopIteration:
            raise StoreError("no credentials") from None

    monkeypatch.setattr(aws_store, "find_bucket", find)
    bucket.append(Object("a", 3, "t"))
    found = listing.read_source("s3://b").store
    assert found
    assert "X-Amz-Security-Token=first" in found.url("a")
    monkeypatch.setattr(store_listing, "LOOKED_UP_EVERY", -1.0)
    assert "X-Amz-Security-Token=second" in found.url("a")
    assert "X-Amz-Security-Token=second" in found.url("a")


def test_a_changed_object_is_another_version(bucket: list[Object]) -> None:
    bucket.append(Object("a", 3, "t1"))
    first = listing.read_source("s3://b")
    assert listing.read_source("s3://b").version == first.version
    bucket[0] = Object("a", 3, "t2")
    second = listing.read_source("s3://b")
    assert second.version != first.version
    assert not first.manifest.exists()


def test_any_order_will_do(bucket: list[Object]) -> None:
    keys = ["a/x", "a.txt", "a0", "b"]
    bucket += [Object(key, 1, "t") for key in keys]
    unordered = listing.read_source("s3://b/").version
    bucket.sort(key=lambda one: one.key)
    assert listing.read_source("s3://b/").version == unordered


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "has no objects"),
        (["../x"], "cannot be a file"),
        (["a/../../x"], "cannot be a file"),
        (["a//x"], "cannot be a file"),
        (["/x"], "cannot be a file"),
        (["a/."], "cannot be a file"),
        (["x" * 300], "too long"),
        (["a", "a.txt", "a/b"], "a is an object, and objects are below it"),
    ],
)
def test_what_cannot_be_a_folder(bucket: list[Object], keys: list[str], words: str) -> None:
    """An error that names it, and nothing is copied."""
    bucket += [Object(f"set/{key}", 1, "t") for key in keys]
    with pytest.raises(InputError, match=words) as error:
        listing.read_source("s3://b/set/")
    assert error.value.hint
