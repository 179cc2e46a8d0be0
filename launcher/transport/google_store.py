"""Buckets of Google Cloud Storage, by its XML API, which is that of S3 but for the signatures.

Requests are signed by V4, with the private key of a service account or with an HMAC key:
https://cloud.google.com/storage/docs/authentication/signatures
"""

from __future__ import annotations

import configparser
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec.errors import StoreError
from ..spec.frozen import frozen
from .object_store import MAY_IT, NO_HEADERS, Bucket, Credentials, checked_endpoint, keyed_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

#: Where buckets are, unless something says otherwise.
ENDPOINT = "https://storage.googleapis.com"
#: What a private key starts with; another secret is that of an HMAC key.
_PRIVATE = "-----BEGIN"
#: Bytes of the largest file that can be a key.
_LONGEST = 1 << 16
#: What can be done where a credential cannot sign.
WHAT_SIGNS = (
    "use the key of a service account (GOOGLE_APPLICATION_CREDENTIALS=key.json), or an HMAC key "
    "(launcher credential set NAME --store gs)"
)


_AS_STORED: Mapping[str, str] = {"Accept-Encoding": "gzip"}


@frozen
class GoogleBucket(Bucket):
    """A bucket of Google Cloud Storage."""

    scheme = "gs"
    #: Objects that are stored as gzip come as they are stored, with the size and the sum of the list.
    headers = _AS_STORED
    _mark = "X-Goog-"
    _escaped = NO_HEADERS
    can_copy = False

    def _algorithm(self, known: Credentials) -> str:
        return "GOOG4-RSA-SHA256" if is_private_key(known.secret) else "GOOG4-HMAC-SHA256"

    def _scope(self, day: str) -> str:
        return f"{day}/auto/storage/goog4_request"

    def _signature(self, known: Credentials, scope: str, to_sign: str) -> str:
        if not is_private_key(known.secret):
            return keyed_signature(f"GOOG4{known.secret}", scope, to_sign)
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return _loaded(known.secret).sign(to_sign.encode(), PKCS1v15(), SHA256()).hex()

    def is_of_clock(self, status: int, code: str) -> bool:
        """Return whether a store refuses so where this machine's clock is wrong."""
        return status in (400, 401, 403)

    def advice(self, status: int, code: str) -> str:
        """Return what to do about a refusal."""
        known = self.credentials
        if known is None and status in (401, 403):
            return f"no credentials were found: {WHAT_SIGNS}"
        if code == "UserProjectMissing":
            return "its requester pays, which launcher does not support: copy it to another bucket"
        if known is not None and code in ("SignatureDoesNotMatch", "InvalidSecurity"):
            if known.name:
                return f"has its key been deleted? launcher credential set {known.name} --store gs"
            return f"is the key of {known.key} deleted, or its file damaged?"
        return MAY_IT

    @property
    def elsewhere(self) -> str:
        """What to do where nothing answers at the endpoint."""
        return "STORAGE_EMULATOR_HOST names another store than Google's own"


def is_private_key(secret: str) -> bool:
    """Return whether a secret is the private key of a service account."""
    return secret.startswith(_PRIVATE)


@functools.lru_cache(maxsize=8)
def _loaded(pem: str) -> RSAPrivateKey:
    """Return the key, which is slow to read. Raises StoreError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise StoreError("the private key of the service account is damaged", WHAT_SIGNS) from None
    if not isinstance(found, RSAPrivateKey):
        raise StoreError("the private key of the service account is no RSA key", WHAT_SIGNS)
    return found


def bucket(name: str, known: Credentials | None, endpoint: str = "") -> GoogleBucket:
    """Return a bucket. Raises StoreError for a key that cannot sign."""
    if known is not None and is_private_key(known.secret):
        _loaded(known.secret)
    return GoogleBucket(name, endpoint or ENDPOINT, "auto", known)


def find_bucket(
    name: str, environment: Mapping[str, str] = os.environ, is_anonymous: bool = False
) -> GoogleBucket:
    """Return a bucket with the credentials that the tools of Google would use, as far as these can sign;
    without any if it ``is_anonymous``.

    Looks at ``GOOGLE_APPLICATION_CREDENTIALS``, at what gcloud keeps, and at gsutil's HMAC key. At an
    emulator (``STORAGE_EMULATOR_HOST``), only what the first names is used. Raises StoreError.
    """
    emulator = environment.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = checked_endpoint(emulator, "STORAGE_EMULATOR_HOST") if emulator else ENDPOINT
    return bucket(name, None if is_anonymous else found_credentials(environment), endpoint)


def found_credentials(environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the credentials that are found here; None without any. Raises StoreError."""
    if named := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return _of_file(Path(named), "GOOGLE_APPLICATION_CREDENTIALS: ")
    if environment.get("STORAGE_EMULATOR_HOST"):
        return None
    if (hmac_key := _of_gsutil(environment)) is not None:
        return hmac_key
    home = Path(environment.get("HOME") or Path.home())
    folder = Path(environment.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    default = folder / "application_default_credentials.json"
    return _of_file(default, "") if default.exists() else None


def _of_file(path: Path, where: str) -> Credentials:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST)
    except OSError as error:
        raise StoreError(f"{where}{path} cannot be read: {error.strerror}") from None
    return of_key_file(text, f"{where}{path}")


def of_key_file(text: bytes | str, where: str) -> Credentials:
    """Return the credentials in the key file of a service account. Raises StoreError, whose words have
    nothing of what is in it."""
    found: Any = None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        pass
    if not isinstance(found, dict):
        raise StoreError(f"{where} is no key of a service account: not JSON", WHAT_SIGNS)
    kind = found.get("type")
    if kind != "service_account":
        what = _KINDS.get(str(kind), "no key of a service account")
        raise StoreError(f"{where} is {what}: it cannot sign URLs for hosts", WHAT_SIGNS)
    email, secret = found.get("client_email"), found.get("private_key")
    if not (isinstance(email, str) and email and isinstance(secret, str)):
        raise StoreError(f"{where} has no client_email or no private_key", WHAT_SIGNS)
    if not is_private_key(secret):
        raise StoreError(f"the private key in {where} is damaged", WHAT_SIGNS)
    return Credentials(email, secret)


#: What is in files that Google's tools also take.
_KINDS = {
    "authorized_user": "the login of a user (gcloud auth application-default login)",
    "external_account": "a federated login",
    "impersonated_service_account": "a login that acts for a service account",
}


def _of_gsutil(environment: Mapping[str, str]) -> Credentials | None:
    """Return the HMAC key that gsutil uses, if it has one. Raises StoreError."""
    home = Path(environment.get("HOME") or Path.home())
    path = environment.get("BOTO_CONFIG") or home / ".boto"
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {type(error).__name__}") from None
    key, secret = (
        parser.get("Credentials", one, fallback="")
        for one in ("gs_access_key_id", "gs_secret_access_key")
    )
    return Credentials(key, secret) if key and secret else None
