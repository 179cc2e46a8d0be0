"""Files of the code that look like secrets are named once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.records import events as ev
from launcher.runner.files import code_snapshot
from launcher.runner.files.revision import revision_of
from launcher.runner.files.secret_files import SecretFiles, looks_secret, to_name
from launcher.spec.model import Secret

TOKEN = Secret("hf_abcdefgh")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.py").write_text("pass\n")
    return folder


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def named(work: Path, *secrets: Secret) -> SecretFiles | None:
    return to_name(code_snapshot.read(work), revision_of(work), secrets)


@pytest.mark.parametrize(
    "path",
    [".env", "app/.env", ".env.production", "prod.env", "tls/server.pem", "server.key", "id_ed25519",
     "keys/id_rsa", ".netrc", ".aws/credentials", "credentials.json", "gcp-credentials.json",
     "service-account.json", "kubeconfig", "secrets.yaml"],
)  # fmt: skip
def test_usual_names_of_secrets(path: str) -> None:
    assert looks_secret(path)


@pytest.mark.parametrize(
    "path",
    ["train.py", ".env.example", ".env.prod.template", "id_rsa.pub", "id_mapping.py", "credentials.py",
     "environment.yml", "env", "keyboard.py", "secrets.py", ".envrc.sample"],
)  # fmt: skip
def test_usual_names_of_others(path: str) -> None:
    assert not looks_secret(path)


def test_they_are_named_once(work: Path) -> None:
    (work / ".env").write_text("KEY=1\n")
    (work / "prod.pem").write_text("x")
    assert named(work) == SecretFiles((".env", "prod.pem"), ())
    assert named(work) is None
    (work / ".env.local").write_text("KEY=2\n")
    assert named(work) == SecretFiles((".env", ".env.local", "prod.pem"), ())


def test_nothing_is_named_without_any(work: Path) -> None:
    assert named(work, TOKEN) is None


def test_a_job_file_with_the_value_of_a_secret_is_named(work: Path) -> None:
    (work / "job.yaml").write_text("secrets: {HF_TOKEN: hf_abcdefgh}\n")
    (work / "other.yaml").write_text("secrets: [HF_TOKEN]\n")
    assert named(work, TOKEN) == SecretFiles(("job.yaml",), ())


def test_what_the_diff_keeps_is_named(work: Path) -> None:
    """Also of a file that is not copied, and of one that holds a value of the job's secrets."""
    git(work, "init", "-q")
    for name in (".env", "config.py"):
        (work / name).write_text("old\n")
    (work / ".launcherignore").write_text("/.env\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "first")
    (work / ".env").write_text("KEY=1\n")
    assert named(work) == SecretFiles((), (".env",))
    (work / "config.py").write_text("token = 'hf_abcdefgh'\n")
    assert named(work, TOKEN) == SecretFiles((), (".env", "config.py"))


def test_no_program_of_the_repository_makes_the_diff(work: Path) -> None:
    """Nor watches its files: code.diff is a patch."""
    git(work, "init", "-q")
    (work / ".gitattributes").write_text("*.py diff=mine\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "first")
    ran, program = work.parent / "ran", work.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho converted\n")
    os.chmod(program, 0o755)
    git(work, "config", "diff.mine.textconv", str(program))
    git(work, "config", "core.fsmonitor", str(program))
    (work / "train.py").write_text("print(1)\n")
    assert code_snapshot.read(work).files == 2
    assert b"+print(1)" in revision_of(work).diff
    assert not ran.exists()


def test_the_event_is_read_again() -> None:
    event = ev.SecretsCopied(1.0, (".env",), ("a",))
    assert ev.decode(ev.encode(event)) == event
