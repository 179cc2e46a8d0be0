"""Signing as Google does, and finding what Google's tools find."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from launcher.spec.errors import StoreError
from launcher.transport import google_store, object_store
from launcher.transport.google_store import GoogleBucket, find_bucket
from launcher.transport.object_store import Credentials
from support.http_server import store_with_answers
from support.other_stores import ACCOUNT, service_account

#: The public part of the key with which the examples of github.com/googleapis/conformance-tests
#: (storage/v1/v4_signatures.json) are signed.
PUBLISHED = RSAPublicNumbers(
    65537,
    int(
        "ac3f3322ac8a2db5f436af28d098f5a871211e1a8edfed0e3fb4c4171e55c5ce8f77006814dadf9c9448fd2f99"
        "683612d5abebe4faa9a7c83cf9434e32f23556c8c633cc634dac6456ff2698aa7aa52990b2d4eddb9a736357b1"
        "036c2fe313564b058d14dc76921df9fa4bd343f0c5dd803d3fba54535b0ababd4f3fc3a8b9b58b14ee7d8b2e54"
        "139757d0eff7a63bd9d87021497b31d955ad0799e5ac747c16b28934b24c10610348ccfdc917d0694798094f68"
        "0d81ee8aa290deb0978ba0bcda5fb7149c39fe0809e72ee2c3c304ac2152b257184116c1573e9960a5a411c261"
        "b3c046dffd7a6df6aa36eb0d943209f7d23b0e68a9527805fc712e95885fad",
        16,
    ),
).public_key()
EXAMPLES: dict[str, tuple[str, str | None, dict[str, str], str]] = {
    "Simple GET": (
        "GET",
        "test-object",
        {},
        "95e6a13d43a1d1962e667f17397f2b80ac9bdd1669210d5e08e0135df9dff4e56113485dbe429ca2266487b9d1796e"
        "bdee2d7cf682a6ef3bb9fbb4c351686fba90d7b621cf1c4eb1fdf126460dd25fa0837dfdde0a9fd98662ce60844c458"
        "448fb2b352c203d9969cb74efa4bdb742287744a4f2308afa4af0e0773f55e32e92973619249214b97283b2daa14195"
        "244444e33f938138d1e5f561088ce8011f4986dda33a556412594db7c12fc40e1ff3f1bedeb7a42f5bcda0b9567f17f"
        "65855f65071fabb88ea12371877f3f77f10e1466fff6ff6973b74a933322ff0949ce357e20abe96c3dd5cfab42c9c83"
        "e740a4d32b9e11e146f0eb3404d2e975896f74",
    ),
    "Simple PUT": (
        "PUT",
        "test-object",
        {},
        "8adff1d4285739e31aa68e73767a46bc5511fde377497dbe08481bf5ceb34e29cc9a59921748d8ec3dd4085b7e9b777"
        "2a952afedfcdaecb3ae8352275b8b7c867f204e3db85076220a3127a8a9589302fc1181eae13b9b7fe41109ec8cdc93"
        "c1e8bac2d7a0cc32a109ca02d06957211326563ab3d3e678a0ba296e298b5fc5e14593c99d444c94724cc4be97015db"
        "ff1dca377b508fa0cb7169195de98d0e4ac96c42b918d28c8d92d33e1bd125ce0fb3cd7ad2c45dae65c22628378f658"
        "4971b8bf3945b26f2611eb651e9b6a8648970c1ecf386bb71327b082e7296c4e1ee2fc0bdd8983da80af375c817fb1a"
        "d491d0bc22c0f51dba0d66e2cffbc90803e47",
    ),
    "List Objects": (
        "GET",
        None,
        {},
        "6dbe94f8e52b2b8a9a476b1c857efa474e09944e2b52b925800316e094a7169d8dbe0df9c0ac08dabb22ac7e827470c"
        "eccd65f5a3eadba2a4fb9beebfe37f0d9bb1e552b851fa31a25045bdf019e507f5feb44f061551ef1aeb18dcec0e38b"
        "a2e2f77d560a46eaace9c56ed9aa642281301a9d848b0eb30749e34bc7f73a3d596240533466ff9b5f289cd0d4c845c"
        "7d96b82a35a5abd0c3aff83e4440ee6873e796087f43545544dc8c01afe1d79c726696b6f555371e491980e7ec145cc"
        "a0803cf562c38f3fa1d724242f5dea25aac91d74ec9ddd739ff65523627763eaef25cd1f95ad985aaf0079b7c74eb5b"
        "cb2870a9b137a7b2c8e41fbe838c95872f75b",
    ),
    "Query Parameter Encoding": (
        "GET",
        "test-object",
        {"soufflé": "=%-_.~"},
        "38dd9ca622b80bca10f405e7d9ba0f0fbea719ca84d66078a484c5b54b1ce98e3fa8a0d2065216ed6ac03179be69312"
        "dabf428f8171b95994bdafe465a6f7893bacc7213a7bf4054ce2d78d4b60c34df24cc43e509ad7c81be47148d43a0e6"
        "7d50d8fe38c85b0c63f9a51149b4f3335315946fef8ab34315ce3f6ce01f1831abb3eda5e7e211823855ed1767c65a8"
        "c7aeec357de096e3406897acfe092fead51bbea7df83e25a6180f80c8a0871e4901c370f77f5675f2405be7ccd55fd6"
        "dd22a87cf0adfafdb3f6fa99974fcf6c947b62294eebd7954e546c28f5490a6c50694c0e4882fcfe0d4a4ae8891a925"
        "79d6099a9b4c84d9f033a3b339163b6670b7e",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_signed_is_what_google_signs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published signature, by the published key, is one of our text. (An RSA signature of this kind
    is the only one of its text.)"""
    method, key, query, signature = EXAMPLES[name]
    then = time.struct_time((2019, 2, 1, 9, 0, 0, 4, 32, 0))
    monkeypatch.setattr(object_store.time, "gmtime", lambda seconds: then)
    signed: list[str] = []

    def sign(self: object, known: object, scope: str, to_sign: str) -> str:
        signed.append(to_sign)
        return ""

    monkeypatch.setattr(GoogleBucket, "_signature", sign)
    email = "test-iam-credentials@dummy-project-id.iam.gserviceaccount.com"
    bucket = google_store.GoogleBucket(
        "test-bucket", google_store.ENDPOINT, "auto", Credentials(email, "-----BEGIN")
    )
    bucket.sign(method, key, query, 10)
    PUBLISHED.verify(bytes.fromhex(signature), signed[0].encode(), PKCS1v15(), SHA256())


def test_keys_that_sign(tmp_path: Path) -> None:
    """A service account's signature can be proved with its public key; an HMAC key has another one."""
    line = service_account(tmp_path / "key.json")
    found = find_bucket("b", {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")})
    known = found.credentials
    assert known
    url = found.url("a b/é+%?#")
    assert url.startswith("https://storage.googleapis.com/b/a%20b/%C3%A9%2B%25%3F%23?")
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["X-Goog-Credential"].startswith(f"{ACCOUNT}/")
    signature = bytes.fromhex(found._signature(known, "scope", "text"))
    public = google_store._loaded(known.secret).public_key()
    public.verify(signature, b"text", PKCS1v15(), SHA256())
    assert line not in repr(found)

    hmac_key = google_store.bucket("b", Credentials("GOOG1E", "secret"))
    query = dict(parse_qsl(urlsplit(hmac_key.url("k")).query))
    assert query["X-Goog-Algorithm"] == "GOOG4-HMAC-SHA256"
    assert len(query["X-Goog-Signature"]) == 64
    assert google_store.bucket("b", None).url("k") == "https://storage.googleapis.com/b/k"


def test_where_things_are_found(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert find_bucket("b", home).credentials is None
    (tmp_path / ".config/gcloud").mkdir(parents=True)
    default = tmp_path / ".config/gcloud/application_default_credentials.json"
    service_account(default)
    found = find_bucket("b", home)
    assert found.credentials
    assert (found.credentials.key, found.endpoint) == (ACCOUNT, "https://storage.googleapis.com")
    emulated = find_bucket("b", {**home, "STORAGE_EMULATOR_HOST": "localhost:4443/"})
    assert (emulated.credentials, emulated.endpoint) == (None, "http://localhost:4443")
    (tmp_path / ".boto").write_text(
        "[Credentials]\ngs_access_key_id = GOOG1E\ngs_secret_access_key = a%b\n"
    )
    found = find_bucket("b", home)
    assert found.credentials == Credentials("GOOG1E", "a%b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not JSON: hunter2", "no key of a service account: not JSON"),
        (json.dumps({"type": "authorized_user", "refresh_token": "hunter2"}), "login of a user"),
        (json.dumps({"type": "service_account", "private_key": "hunter2"}), "has no client_email"),
        (
            json.dumps(
                {
                    "type": "service_account",
                    "client_email": "a@b",
                    "private_key": "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
                }
            ),
            "private key of the service account is damaged",
        ),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_cannot_sign(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "key.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StoreError, match=words) as error:
        find_bucket("b", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert "hunter2" not in (str(error.value) + error.value.hint).replace(str(tmp_path), "")


@pytest.fixture
def store() -> Iterator[tuple[str, list[dict[str, str]], list[Any]]]:
    """A server in the place of Google's, with the answers of a test; it remembers the queries."""
    with store_with_answers() as made:
        yield made


EMPTY = b"<ListBucketResult></ListBucketResult>"
PAGE = (
    b"<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'><IsTruncated>%s</IsTruncated>"
    b"<NextContinuationToken>%s</NextContinuationToken><Contents><Key>%s</Key><Generation>1"
    b'</Generation><ETag>"-COXS9Pq/6v0CEAE="</ETag><Size>7</Size></Contents></ListBucketResult>'
)
HMAC = Credentials("GOOG1E", "s3cr3t")


def test_a_wrong_clock_is_put_right(store: Any) -> None:
    """Google calls a signature of yesterday an expired one."""
    endpoint, queries, answers = store
    expired = b"<Error><Code>ExpiredToken</Code></Error>"
    answers += [(400, expired, "Fri, 02 Jan 2026 03:04:05 GMT"), (200, EMPTY, "")]
    bucket = google_store.bucket("b", HMAC, endpoint).in_step()
    assert queries[1]["X-Goog-Date"].startswith("20260102T0304")
    assert "X-Goog-Date=20260102T0304" in bucket.url("k")


def test_a_list_comes_in_pages_and_as_it_is(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are not escaped there; the tag of an object in parts is none of their MD5."""
    monkeypatch.setattr(object_store.time, "sleep", lambda seconds: None)
    endpoint, queries, answers = store
    answers += [
        (429, b"", ""),
        (200, PAGE % (b"true", b"next", b"a+b%25"), ""),
        (200, PAGE % (b"false", b"", b"z"), ""),
    ]
    found = list(google_store.bucket("b", HMAC, endpoint).objects("p"))
    assert [one.key for one in found] == ["a+b%25", "z"]
    assert found[0].tag == "-COXS9Pq/6v0CEAE="
    assert queries[2]["continuation-token"] == "next"


@pytest.mark.parametrize(
    ("known", "status", "code", "hint"),
    [
        (HMAC, 403, "SignatureDoesNotMatch", "is the key of GOOG1E deleted"),
        (
            Credentials("k", "s", name="lab"),
            403,
            "InvalidSecurity",
            "credential set lab --store gs",
        ),
        (None, 401, "AccessDenied", "no credentials were found: use the key of a service account"),
        (HMAC, 400, "UserProjectMissing", "requester pays"),
        (HMAC, 404, "NoSuchBucket", "does the bucket exist"),
    ],
)
def test_refusals_say_what_to_do(
    store: Any, known: Credentials | None, status: int, code: str, hint: str
) -> None:
    endpoint, _, answers = store
    answers.append((status, f"<Error><Code>{code}</Code></Error>".encode(), ""))
    with pytest.raises(StoreError, match=f"gs://b at .* cannot be listed: {code}") as error:
        google_store.bucket("b", known, endpoint).in_step()
    assert hint in error.value.hint
    assert "Signature=" not in str(error.value)
