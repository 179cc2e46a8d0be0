"""Finds buckets of S3 and of stores like it, and credentials for them, as the tools of AWS do.

Their order: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..spec.errors import LauncherError, StoreError
from .object_store import Bucket, Credentials, checked_endpoint, endpoint_of, quoted, unredirected

#: Where instances and containers of AWS ask for credentials.
_INSTANCE, _CONTAINER = "http://169.254.169.254", "http://169.254.170.2"
#: Seconds to wait for one of these: machines elsewhere have none.
_NEAR = 1.0
#: Hosts of which a container's token may be known without TLS.
_NEARBY = ("localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23")
#: Seconds for a program that is asked for credentials: some ask a server first.
ASKING = 60.0
#: What a profile says whose credentials are made for a session: AWS's own tool knows how.
_OF_SESSION = (
    "sso_session", "sso_start_url", "role_arn", "credential_source", "web_identity_token_file",
)  # fmt: skip
#: What can be done where a profile has no credentials that are found here.
_INSTEAD = (
    "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as `aws configure "
    "export-credentials --format env` prints them"
)


def find_bucket(
    name: str, environment: Mapping[str, str] = os.environ, is_anonymous: bool = False
) -> Bucket:
    """Return a bucket at the endpoint, and with the credentials, that the tools of AWS would use; with
    none if it ``is_anonymous``.

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
        or endpoint_of(region)
    )
    endpoint = checked_endpoint(endpoint, "AWS_ENDPOINT_URL")
    known = None if is_anonymous else _credentials(environment, settings, profile)
    return Bucket(name, endpoint, region, known)


def _credentials(
    environment: Mapping[str, str], settings: Mapping[str, str], profile: str
) -> Credentials | None:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, environment.get("AWS_SESSION_TOKEN", ""))
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if made := next((name for name in _OF_SESSION if name in settings), ""):
        return _of_tool(environment, f"{made} of the profile {profile}", ["--profile", profile])
    if key and secret:
        return Credentials(key, secret, settings.get("aws_session_token", ""))
    if program := settings.get("credential_process"):
        what = f"credential_process of the profile {profile}"
        return _of_program(shlex.split(program), environment, what, "run it by itself")
    if "AWS_PROFILE" in environment:
        raise StoreError(
            f"the profile {profile} (AWS_PROFILE) has no aws_access_key_id in ~/.aws/credentials",
            _INSTEAD,
        )
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environment.get("AWS_ROLE_ARN"):
        return _of_tool(environment, "AWS_WEB_IDENTITY_TOKEN_FILE", [])
    return _of_machine(environment)


def _of_tool(environment: Mapping[str, str], what: str, words: Sequence[str]) -> Credentials:
    """Return credentials that AWS's own tool makes for a session. Raises StoreError."""
    if shutil.which("aws") is None:
        why = f"{what}: such credentials come from AWS's own tool, and there is no aws here"
        raise StoreError(why, _INSTEAD)
    command = ["aws", "configure", "export-credentials", "--format", "process", *words]
    return _of_program(command, environment, what, f"aws sso login {' '.join(words)}".strip())


def _of_program(
    command: Sequence[str], environment: Mapping[str, str], what: str, hint: str
) -> Credentials:
    """Return the credentials that a program prints, which the user's own settings name. Raises
    StoreError, whose words have nothing of what it printed."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**others, **environment},
            timeout=ASKING,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"no answer within {ASKING:g} s"
        raise StoreError(f"{what}: {command[0]}: {why}", hint) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise StoreError(f"{what} failed: {said[-1][:200] or done.returncode}", hint)
    try:
        found = json.loads(done.stdout)
        key, secret = found["AccessKeyId"], found["SecretAccessKey"]
        return Credentials(str(key), str(secret), str(found.get("SessionToken") or ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StoreError(f"{what}: {command[0]} printed no credentials", hint) from None


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
    whole = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    try:
        if relative:
            return _read_role(_near(_CONTAINER + relative, {}))
        if whole and _may_be_asked(whole):
            return _read_role(_near(whole, _authorization(environment)))
        if not Path("/sys/devices/virtual/dmi/id/board_asset_tag").read_text().startswith("i-"):
            return None
        token = _near(f"{_INSTANCE}/latest/api/token", _TOKEN, "PUT").decode()
        mine, roles = (
            {"X-aws-ec2-metadata-token": token},
            "/latest/meta-data/iam/security-credentials/",
        )
        role = _near(_INSTANCE + roles, mine).decode().split()[0]
        return _read_role(_near(_INSTANCE + roles + quoted(role), mine))
    except (OSError, ValueError, KeyError, IndexError, LauncherError):
        return None


def _may_be_asked(url: str) -> bool:
    """Return whether a URL is one to which a container's token may go, as AWS's tools decide it."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _NEARBY)


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if file := environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = Path(file).read_text().strip()
    return {"Authorization": token} if token else {}


_TOKEN = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}


def _near(url: str, headers: Mapping[str, str], method: str = "GET") -> bytes:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    opener = unredirected(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_NEAR) as answer:
        found: bytes = answer.read(1 << 16)
        return found


def _read_role(answer: bytes) -> Credentials:
    found = json.loads(answer)
    return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
