"""Credentials that are made when they are asked for, as AWS's tools find them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from launcher.spec.errors import StoreError
from launcher.transport.aws_store import find_bucket

MADE = {"AccessKeyId": "MADE", "SecretAccessKey": "hunter2", "SessionToken": "t", "Token": "t"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose PATH has nothing but what a test puts there."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    return tmp_path


def program(home: Path, name: str, text: str) -> str:
    """Write a program that prints a text, or does what a line of sh says; return its path."""
    path = home / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def found(home: Path, config: str, **environment: str) -> tuple[str, str, str] | None:
    """Return the key, the secret and the token that are found."""
    (home / ".aws" / "config").write_text(config)
    quiet = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"}
    one = find_bucket("b", {**quiet, **environment}).credentials
    return (one.key, one.secret, one.token) if one else None


def test_a_program_of_the_profile(home: Path) -> None:
    path = program(home, "vault", f"echo '{json.dumps(MADE)}'")
    config = f"[profile lab]\ncredential_process = {path} --of 'the lab'\n"
    assert found(home, config, AWS_PROFILE="lab") == ("MADE", "hunter2", "t")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo hunter2 >&2; exit 0", "printed no credentials"),
        ("echo '[1]'", "printed no credentials"),
        ("echo first; echo 'no session' >&2; exit 3", "failed: no session"),
        ("exit 4", "failed: 4"),
    ],
)
def test_a_program_that_has_none(home: Path, does: str, said: str) -> None:
    config = f"[default]\ncredential_process = {program(home, 'vault', does)}\n"
    with pytest.raises(StoreError, match=f"credential_process of the profile default.*{said}") as e:
        found(home, config)
    assert "hunter2" not in e.value.message


def test_a_session_of_the_tool(home: Path) -> None:
    """aws is a fake: it prints what it was asked for as the key."""
    words = """printf '{"AccessKeyId": "%s", "SecretAccessKey": "s"}' "$*" """
    program(home, "aws", words)
    asked = "configure export-credentials --format process"
    config = "[profile lab]\nsso_session = x\naws_access_key_id = A\naws_secret_access_key = s\n"
    assert found(home, config, AWS_PROFILE="lab") == (f"{asked} --profile lab", "s", "")
    role = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn:x"}
    assert found(home, "", **role) == (asked, "s", "")


def test_there_is_no_tool(home: Path) -> None:
    with pytest.raises(StoreError, match=r"role_arn of the profile default.* no aws here") as error:
        found(home, "[default]\nrole_arn = arn:x\n")
    assert "AWS_ACCESS_KEY_ID" in error.value.hint


@pytest.fixture
def container() -> Iterator[tuple[str, list[str | None]]]:
    """What gives a container credentials: its address, and the tokens that it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            data = json.dumps(MADE).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}", shown
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_container_is_given_some(
    home: Path, container: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token goes over plain HTTP to near hosts alone."""
    monkeypatch.setattr("launcher.transport.aws_store._NEAR", 20.0)
    address, shown = container
    token = home / "token"
    token.write_text("secret\n")
    variables = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
    variables |= {"AWS_EC2_METADATA_DISABLED": ""}
    url = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    assert found(home, "", **variables, **{url: f"http://{address}/x"}) == ("MADE", "hunter2", "t")
    assert shown == ["secret"]
    near = address.replace("127.0.0.1", "127.0.0.1.nip.example")
    assert found(home, "", **variables, **{url: f"http://{near}/x"}) is None
    assert shown == ["secret"]
