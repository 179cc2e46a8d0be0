"""Named credentials for object stores, kept on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..runner import credentials
from ..runner.credentials import Credential, from_key_file, of_azure, of_google
from ..runner.data import registry
from ..spec.credentials import NONE
from ..spec.credentials import name as checked_name
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.model import Secret

__all__ = [
    "Credential",
    "Listed",
    "check_name",
    "forget",
    "from_environment",
    "from_key_file",
    "from_lines",
    "listed",
    "names",
    "of_azure",
    "of_azure_text",
    "of_google",
    "save",
    "users",
]

#: What may stand before a variable in a shell, and around its value.
_LINE = re.compile(r"(?:export\s+)?([A-Z][A-Z0-9_]*)=(['\"]?)(.*)\2\Z")


@frozen
class Listed:
    """A credential as a list shows it: never with a key. ``problem`` says why it cannot be used."""

    name: str
    profile: str = ""
    endpoint: str = ""
    region: str = ""
    session: bool = False
    made: float = 0.0
    store: str = "s3"
    problem: str = ""


def names() -> list[str]:
    """Return the names of all credentials."""
    return credentials.known()


def listed() -> list[Listed]:
    """Return what there is, without keys."""
    found = []
    for name in credentials.known():
        try:
            one = credentials.find(name)
        except InputError as error:
            found.append(Listed(name, problem=error.message))
            continue
        session = bool(one.token.reveal())
        about = (one.profile, one.endpoint, one.region, session, one.made, one.store)
        found.append(Listed(name, *about))
    return found


def check_name(name: str) -> None:
    """Raise InputError for what cannot name a credential."""
    try:
        checked_name(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    if name == NONE:
        raise InputError(
            "none cannot name a credential: in a job it stands for what AWS's tools find"
        )


def save(name: str, one: Credential) -> Path:
    """Keep a credential; return its file. Raises InputError, RecordError."""
    return credentials.save(name, one)


def forget(name: str) -> None:
    """Delete a credential. Raises InputError, RecordError."""
    credentials.forget(name)


def users(name: str) -> list[str]:
    """Return the data sets of this machine that are read with a credential."""
    return [one.name for one in registry.known() if one.credential == name]


def from_environment(
    environment: Mapping[str, str] = os.environ, where: str = "your environment"
) -> Credential:
    """Return the credential in AWS's variables. Raises InputError."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not environment.get(name):
            raise InputError(f"{name} is not set in {where}", "a credential has a key and a secret")
    return Credential(
        Secret(environment["AWS_ACCESS_KEY_ID"]),
        Secret(environment["AWS_SECRET_ACCESS_KEY"]),
        Secret(environment.get("AWS_SESSION_TOKEN", "")),
        endpoint=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", ""),
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
    )


def of_azure_text(text: str) -> Credential:
    """Return the credential in a connection string of Azure, or in lines such as
    ``AZURE_STORAGE_KEY=...``. Raises InputError."""
    matches = (_LINE.match(line.strip()) for line in text.splitlines())
    found = {one[1]: one[3] for one in matches if one and one[1].startswith("AZURE_")}
    return of_azure(found or {"AZURE_STORAGE_CONNECTION_STRING": text})


def from_lines(text: str) -> Credential:
    """Return the credential in lines such as ``export AWS_ACCESS_KEY_ID=...``; others are passed over.

    Raises InputError.
    """
    matches = (_LINE.match(line.strip()) for line in text.splitlines())
    return from_environment({one[1]: one[3] for one in matches if one}, "these lines")
