"""Lists buckets of S3 and of stores like it, and signs URLs with which hosts read their objects.

Credentials stay on this machine. A signed URL allows one operation on one object for a while, and is a
secret until then: it is kept in memory, and in no message. ``google_store`` says how Google differs.

Requests are signed by AWS Signature Version 4:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ..spec.errors import StoreError
from ..spec.frozen import frozen

#: Seconds for which a signed URL is good: hosts get new ones while a launcher is in touch.
GOOD_FOR = 3600
#: Seconds for an answer of a store, and how often a request is repeated that it could not take now.
PATIENCE, TRIES = 30.0, 5
#: Seconds for a store to copy bytes from one object to another.
COPYING = 600.0
#: What a store answers where this machine's clock is wrong.
SKEWED = "RequestTimeTooSkewed"
#: How often a store may say that a clock or a region is another one.
CORRECTIONS = 2
#: What a store answers whose region is another one.
_OF_REGION = ("", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
              "AuthorizationQueryParametersError")  # fmt: skip
#: What a store may call a region: it becomes part of a host's name.
_REGION = re.compile(r"[a-z][a-z0-9-]{1,40}")
#: Seconds that are no difference between two clocks.
CLOCK = 60.0
#: Longest answer in memory, in bytes: a list of objects, or the manifest of a run's outputs.
LONGEST = 256 << 20


@frozen
class Credentials:
    """A key with its secret, which is never printed. ``name`` is what `launcher credential` calls it, ""
    for what was found as AWS's tools find it."""

    key: str
    secret: str
    token: str = ""
    name: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


@frozen
class Object:
    """An object in a bucket; ``tag`` changes with its content."""

    key: str
    size: int
    tag: str


NO_HEADERS: Mapping[str, str] = {}
_ESCAPED: Mapping[str, str] = {"encoding-type": "url"}


@frozen
class Bucket:
    """A bucket at an endpoint. Without credentials its requests are not signed: it has to be public."""

    #: What its URLs start with.
    scheme = "s3"
    #: What requests that read objects say besides.
    headers = NO_HEADERS
    #: What requests that write a whole object say besides.
    put_headers = NO_HEADERS
    #: What is called differently in stores like this one: the start of parameters, and what is signed.
    _mark = "X-Amz-"
    #: What asks for keys that are escaped in its lists.
    _escaped = _ESCAPED
    #: Whether it makes parts of objects of bytes that other objects have.
    can_copy = True

    name: str
    endpoint: str
    region: str
    credentials: Credentials | None = None
    skew: float = 0.0  # seconds that the store's clock is ahead of this machine's

    @property
    def place(self) -> str:
        """What a person calls it."""
        return f"{self.scheme}://{self.name}"

    def url(self, key: str) -> str:
        """Return a URL that reads an object for the next hour."""
        return self.sign("GET", key, {}, GOOD_FOR)

    def in_step(self, prefix: str = "", writes: bool = False) -> Bucket:
        """Return the bucket with the store's clock and in the store's region, if these are others than
        here. It is asked, and so is whether a prefix can be listed: who ``writes`` need not. Raises
        StoreError."""
        there, query = self, self.short_list(prefix)
        for _ in range(CORRECTIONS):
            try:
                _list(there, query)
            except _Skewed as error:
                there = replace(there, skew=error.skew)
            except _InRegion as error:
                there = there.in_region(error.region)
            except Denied:
                if writes:
                    return there
                raise
            else:
                return there
        _list(there, query)
        return there

    def in_region(self, region: str) -> Bucket:
        """Return the bucket in another region, at AWS's own endpoint there if it was at one of these."""
        endpoint = self.endpoint
        if endpoint == endpoint_of(self.region):
            endpoint = endpoint_of(region)
        return replace(self, region=region, endpoint=endpoint)

    def short_list(self, prefix: str) -> Mapping[str, str]:
        """Return the parameters of the shortest list of a prefix."""
        return {"list-type": "2", "max-keys": "1", **({"prefix": prefix} if prefix else {})}

    def objects(self, prefix: str) -> Iterator[Object]:
        """Yield the objects whose keys start with a prefix, as the store orders them.

        Raises StoreError.
        """
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, **self._escaped}
            if token:
                query["continuation-token"] = token
            found = tree_of(self, _list(self, query))
            for one in all_of(found, "Contents"):
                key = text_of(one, "Key")
                if self._escaped:
                    key = urllib.parse.unquote_plus(key, errors="surrogateescape")
                size, tag = text_of(one, "Size"), text_of(one, "ETag").strip('"')
                yield Object(key, int(size) if size.isascii() and size.isdigit() else -1, tag)
            token = text_of(found, "NextContinuationToken")
            if text_of(found, "IsTruncated") != "true" or not token:
                return

    def sign(
        self,
        method: str,
        key: str | None,
        query: Mapping[str, str],
        seconds: int,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        """Return a URL that allows a request, with these headers, to anybody for so long: a secret."""
        path = self._path(key)
        if self.credentials is None:
            return f"{self.endpoint}{path}?{encoded(query)}".rstrip("?")
        return f"{self.endpoint}{path}?{self._signed(method, path, query, seconds, headers)}"

    # -- objects that this machine itself reads and writes

    def get(self, key: str) -> bytes:
        """Return an object that is small. Raises StoreError."""
        return ask(self, "GET", key, {})

    def read_into(
        self, key: str, path: Path, size: int, came: Callable[[int], None] = lambda count: None
    ) -> None:
        """Write an object to a file, and continue one that was cut off. ``came`` gets the bytes of each
        piece; what it raises ends it. Raises StoreError, OSError."""
        for attempt in range(TRIES):
            have = path.stat().st_size if path.exists() else 0
            if have >= size and attempt:
                return
            request = urllib.request.Request(self.url(key), headers=dict(self.headers))
            if 0 < have < size:
                request.add_header("Range", f"bytes={have}-")
            try:
                with (
                    unredirected().open(request, timeout=PATIENCE) as answer,
                    path.open("ab" if answer.status == 206 else "wb") as file,
                ):
                    while piece := answer.read1(1 << 20):
                        file.write(piece)
                        came(len(piece))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in (429, 500, 502, 503, 504) or attempt == TRIES - 1:
                        raise _refused(self, error.code, _said(error)[0], "GET") from None
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
            ):
                pass  # what has come is continued
            else:
                if path.stat().st_size == size:
                    return
            time.sleep(min(0.5 * 2**attempt, 5.0))
        raise StoreError(f"{self.place}/{key} is cut off again and again")

    def put(self, key: str, data: bytes) -> None:
        """Write an object that is small. Raises StoreError."""
        ask(self, "PUT", key, {}, data)

    def delete(self, key: str) -> None:
        """Delete an object, if it is there. Raises StoreError."""
        with suppress(Missing):
            ask(self, "DELETE", key, {})

    def begin_upload(self, key: str) -> str:
        """Begin to write an object in parts, and return the upload's name. Raises StoreError."""
        return text_of(tree_of(self, ask(self, "POST", key, {"uploads": ""})), "UploadId")

    def part_url(self, key: str, upload: str, number: int, seconds: int) -> str:
        """Return a URL that writes a part of an object for so long: a secret."""
        return self.sign("PUT", key, {"partNumber": str(number), "uploadId": upload}, seconds)

    def parts(self, key: str, upload: str) -> dict[int, tuple[str, int]]:
        """Return the tag and the size of each part of an object that is there, by number; none of an
        upload that the store does not know. Raises StoreError."""
        found: dict[int, tuple[str, int]] = {}
        query = {"uploadId": upload}
        while True:
            try:
                page = tree_of(self, ask(self, "GET", key, query))
            except Missing:
                return {}
            for one in all_of(page, "Part"):
                number, size = text_of(one, "PartNumber"), text_of(one, "Size")
                if number.isdecimal() and size.isdecimal():
                    found[int(number)] = text_of(one, "ETag").strip('"'), int(size)
            after = text_of(page, "NextPartNumberMarker")
            if text_of(page, "IsTruncated") != "true" or after == query.get("part-number-marker"):
                return found
            query |= {"part-number-marker": after}

    def copy_part(
        self, key: str, upload: str, number: int, source: str, first: int, last: int
    ) -> str:
        """Make a part of an object of bytes that another object here has; return its tag. Raises
        StoreError."""
        headers = {
            "x-amz-copy-source": self._path(source),
            "x-amz-copy-source-range": f"bytes={first}-{last}",
        }
        query = {"partNumber": str(number), "uploadId": upload}
        answer = ask(self, "PUT", key, query, b"", headers, COPYING)
        if not (tag := text_of(tree_of(self, answer), "ETag").strip('"')):
            raise StoreError(f"{self.endpoint} could not copy {self.place}/{source}")
        return tag

    def end_upload(self, key: str, upload: str, tags: Sequence[str]) -> None:
        """Make an object of its parts, which have these tags. Raises StoreError."""
        parts = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{tag}"</ETag></Part>'
            for number, tag in enumerate(tags, start=1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = tree_of(self, ask(self, "POST", key, {"uploadId": upload}, body))
        if not text_of(answer, "ETag"):  # 200 with an error inside
            raise StoreError(f"{self.endpoint} could not put {self.place}/{key} together")

    def abort_upload(self, key: str, upload: str) -> None:
        """Delete the parts of an object that will not be whole, if there are any. Raises StoreError."""
        with suppress(Missing):
            ask(self, "DELETE", key, {"uploadId": upload})

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return the objects whose keys start with a prefix that are being written in parts, each with
        the name of an upload. Raises StoreError."""
        found: list[tuple[str, str]] = []
        query = {"uploads": "", "prefix": prefix}
        while True:
            page = tree_of(self, _list(self, query))
            for one in all_of(page, "Upload"):
                if (key := text_of(one, "Key")).startswith(prefix):
                    found.append((key, text_of(one, "UploadId")))
            after, upload = text_of(page, "NextKeyMarker"), text_of(page, "NextUploadIdMarker")
            if (
                text_of(page, "IsTruncated") != "true"
                or not after
                or after == query.get("key-marker")
            ):
                return found
            query |= {"key-marker": after, "upload-id-marker": upload}

    def _path(self, key: str | None) -> str:
        name = "/" + quoted(self.name)
        return name if key is None else f"{name}/{quoted(key, '/')}"

    def _signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        seconds: int,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> str:
        """Return the query of a URL that allows a request to anybody for so long."""
        known = self.credentials
        assert known is not None
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self.skew))
        algorithm, scope = self._algorithm(known), self._scope(now[:8])
        signed = sorted({**headers, "host": urllib.parse.urlsplit(self.endpoint).netloc}.items())
        names = ";".join(name for name, _ in signed)
        whole = {
            **query,
            f"{self._mark}Algorithm": algorithm,
            f"{self._mark}Credential": f"{known.key}/{scope}",
            f"{self._mark}Date": now,
            f"{self._mark}Expires": str(seconds),
            f"{self._mark}SignedHeaders": names,
            **({f"{self._mark}Security-Token": known.token} if known.token else {}),
        }
        text, lines = encoded(whole), "".join(f"{name}:{value}\n" for name, value in signed)
        request = "\n".join([method, path, text, lines, names, "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = "\n".join([algorithm, now, scope, digest])
        return f"{text}&{self._mark}Signature={self._signature(known, scope, to_sign)}"

    def _algorithm(self, known: Credentials) -> str:
        return "AWS4-HMAC-SHA256"

    def _scope(self, day: str) -> str:
        return f"{day}/{self.region}/s3/aws4_request"

    def _signature(self, known: Credentials, scope: str, to_sign: str) -> str:
        return keyed_signature(f"AWS4{known.secret}", scope, to_sign)

    # -- what a refusal means

    def is_of_clock(self, status: int, code: str) -> bool:
        """Return whether a store refuses so where this machine's clock is wrong."""
        return code == SKEWED

    def advice(self, status: int, code: str) -> str:
        """Return what to do about a refusal."""
        name = self.credentials.name if self.credentials else ""
        if status in (301, 307, 400) and code in _OF_REGION:
            instead = f"launcher credential set {name} --region" if name else "set AWS_REGION"
            return f"it is in another region than {self.region}: {instead}"
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            if name:
                return f"is it of this store? launcher credential set {name}"
            return (
                "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this store? A public bucket needs "
                "none: credential: anonymous"
            )
        if code in ("ExpiredToken", "InvalidToken"):
            if name:
                return f"its session has expired: launcher credential set {name}"
            return "the session has expired: log in again"
        if status == 403 and self.credentials is None:
            return (
                "no credentials were found: AWS_ACCESS_KEY_ID, AWS_PROFILE, or ~/.aws/credentials"
            )
        return MAY_IT

    @property
    def elsewhere(self) -> str:
        """What to do where nothing answers at the endpoint."""
        return "AWS_ENDPOINT_URL names another store than AWS's own"


#: What to do about a refusal that may have several reasons.
MAY_IT = "does the bucket exist, and may these credentials do that?"


def keyed_signature(secret: str, scope: str, to_sign: str) -> str:
    """Return the signature of a text by a key that is made of a secret for a scope."""
    key = secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def quoted(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=f"-_.~{safe}", errors="surrogateescape")


def encoded(query: Mapping[str, str]) -> str:
    return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in sorted(query.items()))


# -- asking a store


class Missing(StoreError):
    """What a request is about is not there."""


class Denied(StoreError):
    """These credentials may not do that."""


class _InRegion(StoreError):
    """The bucket is in another region, and the store says in which."""

    def __init__(self, refused: StoreError, region: str) -> None:
        super().__init__(refused.message, refused.hint)
        self.region = region


class _Skewed(StoreError):
    """This machine's clock is wrong, by so many seconds."""

    def __init__(self, bucket: Bucket, skew: float) -> None:
        refused = _refused(bucket, 403, SKEWED)
        super().__init__(refused.message, refused.hint)
        self.skew = skew


def _list(bucket: Bucket, query: Mapping[str, str]) -> bytes:
    """Return a list of objects. Raises StoreError."""
    return ask(bucket, "GET", None, query)


def ask(
    bucket: Bucket,
    method: str,
    key: str | None,
    query: Mapping[str, str],
    body: bytes = b"",
    more: Mapping[str, str] = NO_HEADERS,
    patience: float = PATIENCE,
) -> bytes:
    """Return an answer of a store to a request with ``more`` headers. Raises StoreError."""
    for attempt in range(TRIES):
        is_last = attempt == TRIES - 1
        url = bucket.sign(method, key, query, 300, more)
        data = body if method in ("PUT", "POST") else None
        try:
            headers = {**_headers(bucket, method, key, query), **more}
            request = urllib.request.Request(url, data, headers, method=method)
            with unredirected().open(request, timeout=patience) as answer:
                found: bytes = answer.read(LONGEST)
                return found
        except urllib.error.HTTPError as error:
            with error:
                code, region = _said(error)
                date = error.headers.get("Date", "")
            skew = _skew(date)
            if bucket.is_of_clock(error.code, code) and abs(skew - bucket.skew) > CLOCK:
                raise _Skewed(bucket, skew) from None
            if error.code not in (429, 500, 502, 503, 504) or is_last:
                refused = _refused(bucket, error.code, code, method if key is not None else "")
                if region and region != bucket.region:
                    raise _InRegion(refused, region) from None
                raise refused from None
        except (OSError, http.client.HTTPException) as error:
            if is_last:
                hint = bucket.elsewhere
                if name := _named(bucket):
                    hint = f"is that the endpoint of credential {name}? launcher credential ls"
                raise StoreError(
                    f"{bucket.endpoint} does not answer: {_reason(error)}", hint
                ) from None
        time.sleep(min(0.5 * 2**attempt, 5.0))
    raise AssertionError("the last try returns or raises")


def _headers(
    bucket: Bucket, method: str, key: str | None, query: Mapping[str, str]
) -> Mapping[str, str]:
    if key is None or method not in ("GET", "PUT") or query:
        return NO_HEADERS
    return bucket.headers if method == "GET" else bucket.put_headers


def unredirected(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Return an opener that follows no redirection: it could lead a signature elsewhere."""
    return urllib.request.build_opener(*handlers, _Here)


def _skew(date: str) -> float:
    """Return by how many seconds a clock is ahead of this machine's; 0 where it says nothing."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return 0.0


class _Here(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _reason(error: Exception) -> str:
    """Return why there was no answer; never with a URL."""
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or type(inner).__name__)


def _said(error: urllib.error.HTTPError) -> tuple[str, str]:
    """Return the code of a refusal, and the region in which the bucket is, if that is why."""
    code, region = "", ""
    try:
        tree = ElementTree.fromstring(error.read(1 << 16))
    except (OSError, ElementTree.ParseError, http.client.HTTPException):
        pass
    else:
        code, region = text_of(tree, "Code"), text_of(tree, "Region")
    if error.code not in (301, 307, 400):
        return code, ""
    region = error.headers.get("x-amz-bucket-region") or region
    return code, region if _REGION.fullmatch(region) else ""


#: What a request would have done, by its method.
_DID = {"": "listed", "GET": "read", "PUT": "written", "POST": "written", "DELETE": "written"}


def _named(bucket: Bucket) -> str:
    return bucket.credentials.name if bucket.credentials else ""


def _refused(bucket: Bucket, status: int, code: str, method: str = "") -> StoreError:
    """Return the error for an answer that is a refusal."""
    name = _named(bucket)
    where = f"{bucket.place} at {bucket.endpoint}" + (f" with credential {name}" if name else "")
    what = f"{where} cannot be {_DID[method]}: {code or status}"
    if code == SKEWED:
        return StoreError(what, "set this machine's clock")
    kind = Missing if status == 404 else Denied if code == "AccessDenied" else StoreError
    return kind(what, bucket.advice(status, code))


def tree_of(bucket: Bucket, answer: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        raise StoreError(
            f"{bucket.endpoint} does not answer as a store does",
            "is that the address of the store itself, and not of a page about it, or of a proxy?",
        ) from None


def all_of(tree: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (one for one in tree if one.tag.rpartition("}")[2] == name)


def text_of(tree: ElementTree.Element, name: str) -> str:
    return next((one.text or "" for one in all_of(tree, name)), "")


# -- where stores are


def endpoint_of(region: str) -> str:
    """Return where AWS has the buckets of a region."""
    return f"https://s3.{region}.amazonaws.com"


def checked_endpoint(endpoint: str, variable: str) -> str:
    """Return the address of a store that a variable names. Raises StoreError."""
    if urllib.parse.urlsplit(endpoint).scheme not in ("http", "https"):
        raise StoreError(f"{variable} {endpoint}: not an address of a store", "https://...")
    return endpoint.rstrip("/")


def named(bucket: Bucket, name: str) -> Bucket:
    """Return a bucket whose credentials have a name, for errors."""
    assert bucket.credentials is not None
    return replace(bucket, credentials=replace(bucket.credentials, name=name))
