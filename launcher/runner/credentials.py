"""Named credentials for object stores, in ``~/.launcher/credentials``: on this machine, for its user
alone.

Each is a file ``NAME.json`` (0600) in a folder (0700). What another user may read is refused. A
credential is complete: neither the environment nor a profile that it does not name adds to it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..records.record_files import write_json
from ..records.run_folder import adoption_of
from ..spec import credentials as names
from ..spec import data
from ..spec.errors import InputError, RecordError, StoreError, suggestion
from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.home import home, make_home
from ..spec.model import Job, Secret
from ..spec.typed_json import Mismatch, from_json

if TYPE_CHECKING:
    from ..transport.object_store import Bucket, Credentials

#: Seconds for which credentials are used that were looked up.
LOOKED_UP_EVERY = 300.0
#: Bytes of the largest file that can be one.
LONGEST = 1 << 16
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
#: What says where the files of AWS's tools are, if they are elsewhere.
_FILES = ("HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


@frozen
class Credential:
    """What a name stands for: a key with its secret, or a profile of AWS's tools, which is looked up
    when it is used. ``store`` is the scheme of the stores that it is for; with ``gs``, the key may be
    the address of a service account, and the secret its private key; with ``az``, it is the name of the
    account. ``made`` is in seconds since the
    epoch."""

    key: Secret = Secret("")
    secret: Secret = Secret("")
    token: Secret = Secret("")
    profile: str = ""
    endpoint: str = ""
    region: str = ""
    made: float = 0.0
    store: str = "s3"


@frozen
class _Kept:
    """The same as its file holds it."""

    key: str = ""
    secret: str = ""
    token: str = ""
    profile: str = ""
    endpoint: str = ""
    region: str = ""
    made: float = 0.0
    store: str = "s3"

    def __repr__(self) -> str:
        return "_Kept(...)"


def folder() -> Path:
    """Return where credentials are."""
    return home() / "credentials"


def known() -> list[str]:
    """Return the names of all credentials, whether they can be used or not."""
    try:
        files = sorted(one.name for one in os.scandir(folder()) if not one.name.startswith("."))
    except OSError:
        return []
    return [one.removesuffix(".json") for one in files if one.endswith(".json")]


def find(name: str) -> Credential:
    """Return the credential of that name. Raises InputError."""
    place = _place(name)
    try:
        _require_private(folder(), os.stat(folder(), follow_symlinks=False))
        with open_plain(place) as file:
            _require_private(place, os.fstat(file.fileno()))
            kept = from_json(_Kept, json.loads(file.read(LONGEST)))
    except FileNotFoundError:
        raise InputError(*_unknown(name)) from None
    except OSError as error:
        raise InputError(f"credential {name}: {place}: {error.strerror}") from None
    except (Mismatch, ValueError, RecursionError):  # whose words may have what is in the file
        raise InputError(
            f"credential {name}: {place} is damaged", f"launcher credential set {name}"
        ) from None
    return Credential(
        Secret(kept.key),
        Secret(kept.secret),
        Secret(kept.token),
        kept.profile,
        kept.endpoint,
        kept.region,
        kept.made,
        kept.store,
    )


def save(name: str, one: Credential) -> Path:
    """Keep a credential under a name; return its file. Raises InputError, RecordError."""
    check(one)
    place = _place(name)
    kept = {
        "key": one.key.reveal(),
        "secret": one.secret.reveal(),
        "token": one.token.reveal(),
        "profile": one.profile,
        "endpoint": one.endpoint,
        "region": one.region,
        "made": one.made or time.time(),
        "store": one.store if one.store != "s3" else "",
    }
    try:
        make_home()
        folder().mkdir(mode=0o700, exist_ok=True)
        _require_private(folder(), os.stat(folder(), follow_symlinks=False))
        write_json(place, {key: value for key, value in kept.items() if value})
    except OSError as error:
        raise RecordError(place, error) from None
    return place


def forget(name: str) -> None:
    """Delete a credential. Raises InputError, RecordError."""
    place = _place(name)
    try:
        place.unlink()
        for left in place.parent.glob(f".{place.name}.*"):  # of one that was killed as it wrote
            left.unlink(missing_ok=True)
    except FileNotFoundError:
        raise InputError(*_unknown(name)) from None
    except OSError as error:
        raise RecordError(place, error) from None


def check(one: Credential) -> None:
    """Raise InputError for what no store could be asked with; no message has what was given."""
    if one.endpoint and not _is_address(one.endpoint):
        raise InputError("the endpoint is not the address of a store", "https://HOST[:PORT]")
    if one.region and not _REGION.match(one.region):
        raise InputError("the region is none", "such as us-east-1")
    if one.profile:
        profiles = _profiles()
        if one.profile not in profiles:
            hint = suggestion(one.profile, profiles) or "aws configure list-profiles shows them"
            raise InputError(f"AWS's tools have no profile {one.profile} here", hint)
        return
    _check_key(one)


def _check_key(one: Credential) -> None:
    for what, value in (("access key", one.key), ("secret", one.secret)):
        if not value.reveal():
            raise InputError(f"there is no {what}", "a credential has a key and a secret")
    if one.store == "az":
        _check_account_key(one)
    if one.store == "gs" and one.secret.reveal().startswith("-----BEGIN"):
        _check_private_key(one)
        return  # it has several lines
    for what, value in (("access key", one.key), ("secret", one.secret), ("token", one.token)):
        if not _is_plain(value.reveal()):
            raise InputError(
                f"the {what} has a space, or a character that none has", "paste it again"
            )


def _check_private_key(one: Credential) -> None:
    from ..transport import google_store

    try:
        google_store.bucket("", _credentials(one, ""))
    except StoreError as error:
        raise InputError(error.message, error.hint) from None


def _check_account_key(one: Credential) -> None:
    from ..transport import azure_store

    try:
        azure_store.container("", _credentials(one, ""), one.endpoint)
    except StoreError as error:
        raise InputError(error.message, error.hint) from None


def _is_address(endpoint: str) -> bool:
    try:
        address = urllib.parse.urlsplit(endpoint)
        fits = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        return False
    return bool(fits) and not set(endpoint) & set("@?#") and _is_plain(endpoint)


def _is_plain(text: str) -> bool:
    return text.isascii() and all("!" <= mark <= "~" for mark in text)


def _place(name: str) -> Path:
    """Return the file of a name. Raises InputError."""
    try:
        checked = names.name(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    if checked == names.NONE:
        raise InputError("none names no credential: it stands for what AWS's tools find")
    if checked == names.ANONYMOUS:
        raise InputError(
            "anonymous names no credential: it is what public buckets are asked without"
        )
    return folder() / f"{checked}.json"


def _unknown(name: str) -> tuple[str, str]:
    near = suggestion(name, known())
    hint = (
        near or f"launcher credential set {name}; launcher credential ls shows those that there are"
    )
    return f"no credential is called {name} here", hint


def _require_private(path: Path, found: os.stat_result) -> None:
    """Raise InputError for a file or folder that other users may open, or that one of them made."""
    if found.st_uid != os.geteuid():
        raise InputError(
            f"{path} belongs to another user", "credentials are read from files of yours"
        )
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        everything = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise InputError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod {everything} {path}"
            + ("; replace the key if somebody may have read it" if mode & 0o044 else ""),
        )


# -- using them


def require(job: Job) -> None:
    """Raise InputError for a credential that a job names and that cannot be used: with the file and the
    line that name it, where they are known."""
    named = [
        (one.credential, f"data: {one.name}", one.source) for one in job.data if one.credential
    ]
    if job.output_credential:
        named.append((job.output_credential, _outputs(job), job.output_to))
    for said, where, url in named:
        try:
            require_for(said, url)
        except InputError as error:
            raise names.problem(said, where, error.message, error.hint) from None


def require_for(name: str, url: str) -> None:
    """Raise InputError unless a credential is there, and for the kind of store that a URL names."""
    if name == names.ANONYMOUS:
        return
    found, kind = find(name), data.scheme(url)
    if kind in data.STORES and kind != found.store:
        raise InputError(
            f"the credential {name} is for {found.store}://, and {data.shown(url)} is not there",
            f"launcher credential set NAME --store {kind} keeps one for {kind}://",
        )


def _outputs(job: Job) -> str:
    by_flag = job.sources.get("output_credential") == "flag"
    return "--output-credential" if by_flag else "outputs"


def require_trust(run: Path, use: str) -> None:
    """Raise StoreError for a ``use`` of this machine's data or credentials by a record that only hosts
    hold: one of them may have written that, to have what is ours."""
    adoption = adoption_of(run)
    if adoption is not None and not adoption.trusted:
        raise StoreError(
            f"{run.name} was started elsewhere, and by its record {use}",
            f"launcher attach {run.name} --trust-record agrees to that",
        )


def find_bucket(kind: str, name: str, credential: str = "") -> Bucket:
    """Return a bucket of a store (its scheme is ``kind``) with a named credential; without one, as the
    store's own tools find it.

    Raises StoreError.
    """
    from ..transport import aws_store, object_store  # slow to import, and few runs need them

    if credential in ("", names.ANONYMOUS):
        return _found(kind, name, credential == names.ANONYMOUS)
    try:
        require_for(credential, f"{kind}://{name}")
        found = find(credential)
    except InputError as error:
        raise StoreError(error.message, error.hint) from None
    if kind == "gs":
        from ..transport import google_store

        return google_store.bucket(name, _credentials(found, credential), found.endpoint)
    if kind == "az":
        from ..transport import azure_store

        return azure_store.container(name, _credentials(found, credential), found.endpoint)
    try:
        bucket = aws_store.find_bucket(name, _environment(found))
    except StoreError as error:
        hint = error.hint
        if found.profile:
            hint = (
                f"aws configure export-credentials --profile {found.profile} --format env | "
                f"launcher credential set {credential} --stdin"
            )
        raise StoreError(f"credential {credential}: {error.message}", hint) from None
    return object_store.named(bucket, credential)


def _found(kind: str, name: str, is_anonymous: bool) -> Bucket:
    if kind == "gs":
        from ..transport import google_store

        return google_store.find_bucket(name, is_anonymous=is_anonymous)
    if kind == "az":
        from ..transport import azure_store

        return azure_store.find_bucket(name, is_anonymous=is_anonymous)
    from ..transport import aws_store

    return aws_store.find_bucket(name, is_anonymous=is_anonymous)


def _credentials(one: Credential, name: str) -> Credentials:
    from ..transport.object_store import Credentials

    return Credentials(one.key.reveal(), one.secret.reveal(), name=name)


def of_google(environment: Mapping[str, str] = os.environ) -> Credential:
    """Return the credential that Google's tools use here. Raises InputError."""
    from ..transport import google_store

    try:
        found = google_store.found_credentials(environment)
    except StoreError as error:
        raise InputError(error.message, error.hint) from None
    if found is None:
        raise InputError("Google's tools have no credential here", google_store.WHAT_SIGNS)
    return Credential(Secret(found.key), Secret(found.secret), store="gs")


def from_key_file(text: str) -> Credential:
    """Return the credential in the key file of a service account of Google. Raises InputError."""
    from ..transport import google_store

    try:
        found = google_store.of_key_file(text, "what came")
    except StoreError as error:
        raise InputError(error.message, error.hint) from None
    return Credential(Secret(found.key), Secret(found.secret), store="gs")


def of_azure(environment: Mapping[str, str] = os.environ) -> Credential:
    """Return the credential that Azure's tools use here. Raises InputError."""
    from ..transport import azure_store

    try:
        found, endpoint = azure_store.found_credentials(environment)
    except StoreError as error:
        raise InputError(error.message, error.hint) from None
    if found is None:
        raise InputError("there is no key of the storage account", azure_store.WHAT_SIGNS)
    return Credential(Secret(found.key), Secret(found.secret), endpoint=endpoint, store="az")


def _environment(one: Credential) -> Mapping[str, str]:
    """Return the variables by which the tools of AWS find a credential, and nothing else."""
    found = {
        "AWS_ACCESS_KEY_ID": one.key.reveal(),
        "AWS_SECRET_ACCESS_KEY": one.secret.reveal(),
        "AWS_SESSION_TOKEN": one.token.reveal(),
        "AWS_ENDPOINT_URL": one.endpoint,
        "AWS_REGION": one.region,
    }
    if one.profile:
        files = {key: os.environ.get(key, "") for key in _FILES}
        found |= {**files, "AWS_PROFILE": one.profile}
    else:
        found |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {key: value for key, value in found.items() if value}


def _profiles() -> list[str]:
    from ..transport import aws_store

    return aws_store.profiles()
