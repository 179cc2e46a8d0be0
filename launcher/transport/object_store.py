"""Lists buckets of S3 and of stores like it, and signs URLs with which hosts read their objects.

Credentials stay on this machine. A signed URL allows one operation on one object for a while, and is a
secret until then: it is kept in memory, and in no message.

Requests are signed by AWS Signature Version 4:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import configparser
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ..spec.errors import LauncherError, StoreError
from ..spec.frozen import frozen

#: Seconds for which a signed URL is good: hosts get new ones while a launcher is in touch.
GOOD_FOR = 3600
#: Seconds for an answer of a store, and how often a request is repeated that it could not take now.
PATIENCE, TRIES = 30.0, 5
#: What a store answers where this machine's clock is wrong.
SKEWED = "RequestTimeTooSkewed"
#: Longest answer in memory, in bytes: a list of objects, or the manifest of a run's outputs.
LONGEST = 256 << 20
#: Where instances and containers of AWS ask for credentials.
_INSTANCE, _CONTAINER = "http://169.254.169.254", "http://169.254.170.2"
#: Seconds to wait for one of these: machines elsewhere have none.
_NEAR = 1.0
_NO_BODY = hashlib.sha256(b"").hexdigest()


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


@frozen
class Bucket:
    """A bucket at an endpoint. Without credentials its requests are not signed: it has to be public."""

    name: str
    endpoint: str
    region: str
    credentials: Credentials | None = None
    skew: float = 0.0  # seconds that the store's clock is ahead of this machine's

    def url(self, key: str) -> str:
        """Return a URL that reads an object for the next hour."""
        return self.sign("GET", key, {}, GOOD_FOR)

    def in_step(self) -> Bucket:
        """Return the bucket with the store's clock, if that is not this machine's. It is asked, and so
        is whether it can be listed. Raises StoreError."""
        query = {"list-type": "2", "max-keys": "1"}
        try:
            _list(self, query)
            return self
        except _Skewed as error:
            there = replace(self, skew=error.skew)
        try:
            _list(there, query)
        except _Skewed:
            raise _refused(self, 403, SKEWED) from None
        return there

    def objects(self, prefix: str) -> Iterator[Object]:
        """Yield the objects whose keys start with a prefix, as the store orders them.

        Raises StoreError.
        """
        token = ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            found = _tree(self, _list(self, query))
            for one in _all(found, "Contents"):
                key = urllib.parse.unquote_plus(_text(one, "Key"), errors="surrogateescape")
                size, tag = _text(one, "Size"), _text(one, "ETag").strip('"')
                yield Object(key, int(size) if size.isascii() and size.isdigit() else -1, tag)
            token = _text(found, "NextContinuationToken")
            if _text(found, "IsTruncated") != "true" or not token:
                return

    def sign(self, method: str, key: str | None, query: Mapping[str, str], seconds: int) -> str:
        """Return a URL that allows a request to anybody for so long: a secret."""
        path = self._path(key)
        if self.credentials is None:
            return f"{self.endpoint}{path}?{_encoded(query)}".rstrip("?")
        return f"{self.endpoint}{path}?{self._signed(method, path, query, seconds)}"

    # -- objects that this machine itself reads and writes

    def get(self, key: str) -> bytes:
        """Return an object that is small. Raises StoreError."""
        return _ask(self, "GET", key, {})

    def read_into(self, key: str, path: Path, size: int) -> None:
        """Write an object to a file, and continue one that was cut off. Raises StoreError, OSError."""
        for attempt in range(TRIES):
            have = path.stat().st_size if path.exists() else 0
            if have >= size and attempt:
                return
            request = urllib.request.Request(self.url(key))
            if 0 < have < size:
                request.add_header("Range", f"bytes={have}-")
            try:
                with (
                    _opener().open(request, timeout=PATIENCE) as answer,
                    path.open("ab" if answer.status == 206 else "wb") as file,
                ):
                    shutil.copyfileobj(answer, file, 1 << 20)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in (429, 500, 502, 503, 504) or attempt == TRIES - 1:
                        raise _refused(self, error.code, _code(error), "GET") from None
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
        raise StoreError(f"s3://{self.name}/{key} is cut off again and again")

    def put(self, key: str, data: bytes) -> None:
        """Write an object that is small. Raises StoreError."""
        _ask(self, "PUT", key, {}, data)

    def delete(self, key: str) -> None:
        """Delete an object, if it is there. Raises StoreError."""
        with suppress(_Missing):
            _ask(self, "DELETE", key, {})

    def begin_upload(self, key: str) -> str:
        """Begin to write an object in parts, and return the upload's name. Raises StoreError."""
        return _text(_tree(self, _ask(self, "POST", key, {"uploads": ""})), "UploadId")

    def end_upload(self, key: str, upload: str, tags: Sequence[str]) -> None:
        """Make an object of its parts, which have these tags. Raises StoreError."""
        parts = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{tag}"</ETag></Part>'
            for number, tag in enumerate(tags, start=1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = _tree(self, _ask(self, "POST", key, {"uploadId": upload}, body))
        if not _text(answer, "ETag"):  # 200 with an error inside
            raise StoreError(f"{self.endpoint} could not put s3://{self.name}/{key} together")

    def abort_upload(self, key: str, upload: str) -> None:
        """Delete the parts of an object that will not be whole, if there are any. Raises StoreError."""
        with suppress(_Missing):
            _ask(self, "DELETE", key, {"uploadId": upload})

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return the objects whose keys start with a prefix that are being written in parts, each with
        the name of an upload. Raises StoreError."""
        found: list[tuple[str, str]] = []
        query = {"uploads": "", "prefix": prefix}
        while True:
            page = _tree(self, _list(self, query))
            for one in _all(page, "Upload"):
                if (key := _text(one, "Key")).startswith(prefix):
                    found.append((key, _text(one, "UploadId")))
            after, upload = _text(page, "NextKeyMarker"), _text(page, "NextUploadIdMarker")
            if (
                _text(page, "IsTruncated") != "true"
                or not after
                or after == query.get("key-marker")
            ):
                return found
            query |= {"key-marker": after, "upload-id-marker": upload}

    def _path(self, key: str | None) -> str:
        name = "/" + _quoted(self.name)
        return name if key is None else f"{name}/{_quoted(key, '/')}"

    def _signed(self, method: str, path: str, query: Mapping[str, str], seconds: int) -> str:
        """Return the query of a URL that allows a request to anybody for so long."""
        known = self.credentials
        assert known is not None
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self.skew))
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        whole = {
            **query,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{known.key}/{scope}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
            **({"X-Amz-Security-Token": known.token} if known.token else {}),
        }
        text, host = _encoded(whole), urllib.parse.urlsplit(self.endpoint).netloc
        request = "\n".join([method, path, text, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, digest])
        key = f"AWS4{known.secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return (
            f"{text}&X-Amz-Signature={hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()}"
        )


def _quoted(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=f"-_.~{safe}", errors="surrogateescape")


def _encoded(query: Mapping[str, str]) -> str:
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(query.items()))


# -- asking a store


class _Missing(StoreError):
    """What a request is about is not there."""


class _Skewed(StoreError):
    """This machine's clock is wrong, by so many seconds."""

    def __init__(self, bucket: Bucket, skew: float) -> None:
        refused = _refused(bucket, 403, SKEWED)
        super().__init__(refused.message, refused.hint)
        self.skew = skew


def _list(bucket: Bucket, query: Mapping[str, str]) -> bytes:
    """Return a list of objects. Raises StoreError."""
    return _ask(bucket, "GET", None, query)


def _ask(
    bucket: Bucket, method: str, key: str | None, query: Mapping[str, str], body: bytes = b""
) -> bytes:
    """Return an answer of a store. Raises StoreError."""
    for attempt in range(TRIES):
        is_last = attempt == TRIES - 1
        url = bucket.sign(method, key, query, 300)
        data = body if method in ("PUT", "POST") else None
        try:
            request = urllib.request.Request(url, data=data, method=method)
            with _opener().open(request, timeout=PATIENCE) as answer:
                found: bytes = answer.read(LONGEST)
                return found
        except urllib.error.HTTPError as error:
            with error:
                code, date = _code(error), error.headers.get("Date", "")
            if code == SKEWED and date:
                there = email.utils.parsedate_to_datetime(date).timestamp()
                raise _Skewed(bucket, there - time.time()) from None
            if error.code not in (429, 500, 502, 503, 504) or is_last:
                raise _refused(
                    bucket, error.code, code, method if key is not None else ""
                ) from None
        except (OSError, http.client.HTTPException) as error:
            if is_last:
                hint = "AWS_ENDPOINT_URL names another store than AWS's own"
                if name := _named(bucket):
                    hint = f"is that the endpoint of credential {name}? launcher credential ls"
                raise StoreError(
                    f"{bucket.endpoint} does not answer: {_reason(error)}", hint
                ) from None
        time.sleep(min(0.5 * 2**attempt, 5.0))
    raise AssertionError("the last try returns or raises")


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that follows no redirection: it could lead a signature elsewhere."""
    return urllib.request.build_opener(_Here)


class _Here(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _reason(error: Exception) -> str:
    """Return why there was no answer; never with a URL."""
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or type(inner).__name__)


def _code(error: urllib.error.HTTPError) -> str:
    try:
        return _text(ElementTree.fromstring(error.read(1 << 16)), "Code")
    except (OSError, ElementTree.ParseError, http.client.HTTPException):
        return ""


#: What a request would have done, by its method.
_DID = {"": "listed", "GET": "read", "PUT": "written", "POST": "written", "DELETE": "written"}


def _named(bucket: Bucket) -> str:
    return bucket.credentials.name if bucket.credentials else ""


def _refused(bucket: Bucket, status: int, code: str, method: str = "") -> StoreError:
    """Return the error for an answer that is a refusal."""
    name = _named(bucket)
    where = f"s3://{bucket.name} at {bucket.endpoint}" + (
        f" with credential {name}" if name else ""
    )
    what = f"{where} cannot be {_DID[method]}: {code or status}"
    if status in (301, 307, 400) and code in ("", "PermanentRedirect", "TemporaryRedirect",
                                              "AuthorizationHeaderMalformed"):  # fmt: skip
        instead = f"launcher credential set {name} --region" if name else "set AWS_REGION"
        return StoreError(what, f"it is in another region than {bucket.region}: {instead}")
    if name and code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return StoreError(what, f"is it of this store? launcher credential set {name}")
    if name and code in ("ExpiredToken", "InvalidToken"):
        return StoreError(what, f"its session has expired: launcher credential set {name}")
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return StoreError(what, "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this store?")
    if code in ("ExpiredToken", "InvalidToken"):
        return StoreError(what, "the session has expired: log in again")
    if code == SKEWED:
        return StoreError(what, "set this machine's clock")
    if status == 403 and bucket.credentials is None:
        return StoreError(
            what, "no credentials were found: AWS_ACCESS_KEY_ID, AWS_PROFILE, or ~/.aws/credentials"
        )
    kind = _Missing if status == 404 else StoreError
    return kind(what, "does the bucket exist, and may these credentials do that?")


def _tree(bucket: Bucket, answer: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        raise StoreError(f"{bucket.endpoint} does not answer as S3 does") from None


def _all(tree: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (one for one in tree if one.tag.rpartition("}")[2] == name)


def _text(tree: ElementTree.Element, name: str) -> str:
    return next((one.text or "" for one in _all(tree, name)), "")


# -- finding the store, and credentials for it


def find_bucket(name: str, environment: Mapping[str, str] = os.environ) -> Bucket:
    """Return a bucket at the endpoint, and with the credentials, that the tools of AWS would use.

    Looks at the environment, at the profile in ``~/.aws``, and asks a container or an instance of AWS.
    Raises StoreError.
    """
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    settings = _profile(profile, environment)
    region = (
        environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or settings.get("region")
        or "us-east-1"
    )
    endpoint = (
        environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or settings.get("endpoint_url")
        or f"https://s3.{region}.amazonaws.com"
    ).rstrip("/")
    if urllib.parse.urlsplit(endpoint).scheme not in ("http", "https"):
        raise StoreError(f"AWS_ENDPOINT_URL {endpoint}: not an address of a store", "https://...")
    return Bucket(name, endpoint, region, _credentials(environment, settings, profile))


def _credentials(
    environment: Mapping[str, str], settings: Mapping[str, str], profile: str
) -> Credentials | None:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, environment.get("AWS_SESSION_TOKEN", ""))
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if key and secret:
        return Credentials(key, secret, settings.get("aws_session_token", ""))
    if "AWS_PROFILE" in environment:
        raise StoreError(
            f"the profile {profile} (AWS_PROFILE) has no aws_access_key_id in ~/.aws/credentials",
            "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as `aws configure "
            "export-credentials --format env` prints them",
        )
    return _of_machine(environment)


def named(bucket: Bucket, name: str) -> Bucket:
    """Return a bucket whose credentials have a name, for errors."""
    assert bucket.credentials is not None
    return replace(bucket, credentials=replace(bucket.credentials, name=name))


def profiles(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the profiles of AWS's tools. Raises StoreError."""
    (_, config), (_, credentials) = _files(environment)
    found = [one.removeprefix("profile ").strip() for one in config.sections()]
    return list(dict.fromkeys([*found, *credentials.sections()]))


def _files(
    environment: Mapping[str, str],
) -> tuple[tuple[str, configparser.ConfigParser], tuple[str, configparser.ConfigParser]]:
    """Return what config and credentials of AWS's tools hold, each with what a profile is called there
    before its name. Raises StoreError."""
    home = Path(environment.get("HOME") or Path.home()) / ".aws"
    config = environment.get("AWS_CONFIG_FILE") or home / "config"
    credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"
    return ("profile ", _parsed(config)), ("", _parsed(credentials))


def _parsed(path: str | Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {type(error).__name__}") from None
    return parser


def _profile(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a profile; what the credentials file says wins."""
    found: dict[str, str] = {}
    for before, parser in _files(environment):
        for one in (f"{before}{name}", name):
            if parser.has_section(one):
                found |= dict(parser.items(one))
    return found


def _of_machine(environment: Mapping[str, str]) -> Credentials | None:
    """Return the credentials of the role of this container or instance, if it has one."""
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    try:
        if relative:
            return _read_role(_near(_CONTAINER + relative, {}))
        if not Path("/sys/devices/virtual/dmi/id/board_asset_tag").read_text().startswith("i-"):
            return None
        token = _near(f"{_INSTANCE}/latest/api/token", _TOKEN, "PUT").decode()
        mine, roles = (
            {"X-aws-ec2-metadata-token": token},
            "/latest/meta-data/iam/security-credentials/",
        )
        role = _near(_INSTANCE + roles, mine).decode().split()[0]
        return _read_role(_near(_INSTANCE + roles + _quoted(role), mine))
    except (OSError, ValueError, KeyError, IndexError, LauncherError):
        return None


_TOKEN = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}


def _near(url: str, headers: Mapping[str, str], method: str = "GET") -> bytes:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Here)
    with opener.open(request, timeout=_NEAR) as answer:
        found: bytes = answer.read(1 << 16)
        return found


def _read_role(answer: bytes) -> Credentials:
    found = json.loads(answer)
    return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
