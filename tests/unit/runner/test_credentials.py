"""Credentials in their files: who may read them, what they hold, and who names one that is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.api import credentials as api
from launcher.api import jobs
from launcher.cli.commands.credential import command
from launcher.records import adoption
from launcher.runner import credentials
from launcher.runner.credentials import Credential
from launcher.runner.data import listing
from launcher.spec.errors import DocumentError, InputError, StoreError
from launcher.spec.model import Secret
from launcher.transport.object_store import Bucket, Object
from support.other_stores import service_account

ONE = Credential(Secret("AKIAOFTESTS"), Secret("s3cr3t/+"), Secret("t0k3n"), region="eu-west-1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of launcher's and of a user, and a shell with other credentials, which must not count."""
    place = tmp_path / "home"
    monkeypatch.setenv("LAUNCHER_HOME", str(place))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KEY_ID", "SECRET"):
        monkeypatch.setenv(f"AWS_ACCESS_{name}", "of the shell")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the shell")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of.the.shell")
    monkeypatch.delenv("AWS_CONFIG_FILE", raising=False)
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE", raising=False)
    return place


def test_a_bucket_has_what_its_credential_says(home: Path, tmp_path: Path) -> None:
    """And nothing of the shell's; a profile is looked up when it is used."""
    credentials.save("lab-s3", ONE)
    found = credentials.find_bucket("s3", "b", "lab-s3")
    assert (found.endpoint, found.region) == ("https://s3.eu-west-1.amazonaws.com", "eu-west-1")
    assert found.credentials
    assert (found.credentials.key, found.credentials.token) == ("AKIAOFTESTS", "t0k3n")
    assert "s3cr3t" not in repr((ONE, found, credentials.find("lab-s3")))
    own = credentials.find_bucket("s3", "b").credentials
    assert own
    assert own.key == "of the shell"

    profiles = tmp_path / ".aws" / "credentials"
    profiles.parent.mkdir()
    profiles.write_text("[lab]\naws_access_key_id = FIRST\naws_secret_access_key = s\n")
    with pytest.raises(InputError, match="no profile lap here"):
        credentials.save("p", Credential(profile="lap"))
    credentials.save("p", Credential(profile="lab", endpoint="http://s:1"))
    assert "FIRST" not in (home / "credentials" / "p.json").read_text()
    profiles.write_text("[lab]\naws_access_key_id = SECOND\naws_secret_access_key = s\n")
    found = credentials.find_bucket("s3", "b", "p")
    assert found.endpoint == "http://s:1"
    assert found.credentials
    assert found.credentials.key == "SECOND"
    profiles.write_text("[lab]\nregion = x\n")
    with pytest.raises(StoreError, match="credential p: the profile lab"):
        credentials.find_bucket("s3", "b", "p")


def test_what_others_could_read_is_refused(home: Path) -> None:
    place = credentials.save("a", ONE)
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    for path, mode in ((place, 0o604), (place, 0o660), (place.parent, 0o710)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(InputError, match="open to other users"):
            credentials.find("a")
        path.chmod(before)
    assert credentials.find("a") == credentials.find("a")
    if os.geteuid() == 0:
        os.chown(place, 12345, 12345)
        with pytest.raises(InputError, match="belongs to another user"):
            credentials.find("a")
    place.unlink()
    os.mkfifo(place, 0o600)
    with pytest.raises(InputError, match="no regular file"):
        credentials.find("a")


@pytest.mark.parametrize("text", ["", "[]", '{"key": 5, "secret": "s3cr3t"}', '{"secret": "s3cr3t'])
def test_a_damaged_one_shows_nothing(text: str) -> None:
    place = credentials.save("a", ONE)
    place.write_text(text)
    with pytest.raises(InputError, match="is damaged") as error:
        credentials.find("a")
    assert "s3cr3t" not in f"{error.value.message} {error.value.hint}"
    assert error.value.__cause__ is None
    assert [one.problem for one in api.listed()] == [error.value.message]


BAD = {
    "AWS_ACCESS_KEY_ID=abc": "AWS_SECRET_ACCESS_KEY is not set in these lines",
    "AWS_ACCESS_KEY_ID=abc\nAWS_SECRET_ACCESS_KEY=ab c": "has a space",
    "AWS_ACCESS_KEY_ID=abc\nAWS_SECRET_ACCESS_KEY=abc\nAWS_ENDPOINT_URL=abc": "the endpoint",
    "AWS_ACCESS_KEY_ID=abc\nAWS_SECRET_ACCESS_KEY=abc\nAWS_REGION=a/b": "the region",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_one(text: str) -> None:
    """Said without what was given, however short it is."""
    done = CliRunner().invoke(command, ["set", "x", "--stdin"], input=text)
    assert isinstance(done.exception, InputError)
    assert BAD[text] in done.exception.message
    assert "abc" not in f"{done.exception.message} {done.exception.hint} {done.output}"
    assert credentials.known() == []


def test_ways_to_set_one() -> None:
    run = CliRunner().invoke
    lines = (
        'export AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY="b"\nexport AWS_SESSION_TOKEN=c\nX=1\n'
    )
    assert (
        run(command, ["set", "x", "--stdin", "--endpoint", "http://h/"], input=lines).exit_code == 0
    )
    kept = credentials.find("x")
    assert (kept.secret.reveal(), kept.token.reveal(), kept.endpoint) == ("b", "c", "http://h")
    for words in (
        ["none", "--from-env"],
        ["../x", "--from-env"],
        ["y"],
        ["y", "--stdin", "--from-env"],
    ):
        assert isinstance(run(command, ["set", *words]).exception, InputError)
    assert json.loads(run(command, ["ls", "--json"]).output)[0]["session"] is True
    assert run(command, ["rm", "x"]).exit_code == 0
    assert isinstance(run(command, ["rm", "x"]).exception, InputError)


JOB = "run: x.py\ndata:\n  one:\n    from: s3://b/p\n    credential: lab-s4\n"
NAMED = {
    JOB: (5, "no credential is called lab-s4 here"),
    "run: x.py\noutputs: {to: s3://b,\n  credential: lab-s4}\n": (3, "no credential is called"),
    "run: x.py\noutput_to: s3://b\noutput_credential: lab-s4\n": (3, "no credential is called"),
    "run: x.py\noutputs: {credential: lab-s3}\n": (2, "outputs go to none"),
    "run: x.py\ndata: {a: {from: /x, credential: lab-s3}}\n": (2, "is for an object store"),
    "run: x.py\ndata: {a: {from: s3://b, credential: a/b}}\n": (2, "cannot name a credential"),
}


@pytest.mark.parametrize("text", NAMED)
def test_one_that_is_not_there_has_its_line(text: str, tmp_path: Path) -> None:
    credentials.save("lab-s3", ONE)
    (tmp_path / "x.py").touch()
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(DocumentError) as error:
        jobs.layered_job({"file": jobs.load_job(tmp_path / "job.yaml")})
    line, words = NAMED[text]
    assert error.value.line == line
    assert words in error.value.message
    if "lab-s4" in text:
        assert error.value.hint == 'did you mean "lab-s3"?'


def test_layers_of_names(tmp_path: Path) -> None:
    """A flag wins, ``none`` takes one away, and settings may name one for all runs that store."""
    for name in ("a", "b"):
        credentials.save(name, ONE)
    (tmp_path / "x.py").touch()
    base = {"run": ("x.py",), "workdir": str(tmp_path)}
    stored = {**base, "output_to": "s3://b", "output_credential": "a"}
    for flag, found in (("b", "b"), ("none", ""), ("", "a")):
        layer = {"output_credential": flag} if flag else {}
        assert jobs.layered_job({"file": stored, "flag": layer}).output_credential == found
    assert (
        jobs.layered_job({"user": {"output_credential": "a"}, "file": base}).output_credential == ""
    )
    with pytest.raises(InputError, match="--output-credential: a is for a store"):
        jobs.layered_job({"file": base, "flag": {"output_credential": "a"}})

    file = {**base, "data": {"x": {"from": "s3://b/1", "credential": "a"}}}
    for source, found in (("s3://b/2", "a"), (str(tmp_path), "")):
        job = jobs.layered_job(
            {"file": file, "flag": {"data": jobs.data_of_flags([f"x={source}"])}}
        )
        assert job.data[0].credential == found


def test_two_stores_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials may lead to two stores, which both have such a bucket: each set stays as it is."""
    credentials.save("a", ONE)
    credentials.save("b", Credential(Secret("k"), Secret("s"), endpoint="http://other"))
    monkeypatch.setattr(Bucket, "in_step", lambda self, prefix: self)
    monkeypatch.setattr(
        Bucket, "objects", lambda self, prefix: iter([Object("p/x", 1, self.endpoint)])
    )
    first = listing.read_source("s3://bucket/p", credential="a")
    second = listing.read_source("s3://bucket/p", credential="b")
    assert first.version != second.version
    assert first.manifest.exists()
    assert second.manifest.exists()


def test_a_record_of_hosts_uses_none_unasked(tmp_path: Path) -> None:
    """A host may have written the name, to reach a store of ours."""
    run = tmp_path / "calm-otter-1"
    run.mkdir()
    credentials.require_trust(run, "outputs are stored in s3://b/p")
    for trusted in (False, True):
        (run / adoption.FILE).write_text(json.dumps({"trusted": trusted}))
        if trusted:
            credentials.require_trust(run, "outputs are stored in s3://b/p")
        else:
            with pytest.raises(StoreError, match="by its record outputs are stored in s3://b/p"):
                credentials.require_trust(run, "outputs are stored in s3://b/p")


def test_one_of_google(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account's key or an HMAC key, for gs:// alone."""
    line = service_account(tmp_path / "key.json")
    runner = CliRunner()
    text = (tmp_path / "key.json").read_text()
    kept = runner.invoke(command, ["set", "lab-gs", "--store", "gs", "--stdin"], input=text)
    assert kept.exit_code == 0, kept.output
    found = credentials.find_bucket("gs", "b", "lab-gs")
    assert "X-Goog-Algorithm=GOOG4-RSA-SHA256" in found.url("k")
    assert line not in repr((found, credentials.find("lab-gs"))) + kept.output
    listed = runner.invoke(command, ["ls", "--json"]).output
    assert json.loads(listed)[0]["store"] == "gs"
    assert line not in listed
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    kept = runner.invoke(command, ["set", "other", "--store", "gs", "--from-env"])
    assert kept.exit_code == 0, kept.output
    credentials.save("hmac", Credential(Secret("GOOG1E"), Secret("s"), store="gs"))
    assert "GOOG4-HMAC-SHA256" in credentials.find_bucket("gs", "b", "hmac").url("k")

    credentials.save("lab-s3", ONE)
    for kind, name in (("gs", "lab-s3"), ("s3", "lab-gs")):
        with pytest.raises(StoreError, match=f"the credential {name} is for") as error:
            credentials.find_bucket(kind, "b", name)
        assert f"launcher credential set NAME --store {kind}" in error.value.hint
    bad = runner.invoke(command, ["set", "x", "--store", "gs", "--stdin"], input='{"type": "q"}')
    assert isinstance(bad.exception, InputError)
    assert "x" not in credentials.known()


def test_one_of_azure(home: Path) -> None:
    """The key of an account, from a connection string or from lines."""
    runner = CliRunner()
    text = "AccountName=acct;AccountKey=c2VjcmV0LWtleQ==;EndpointSuffix=core.windows.net"
    lines = "export AZURE_STORAGE_ACCOUNT=acct\nexport AZURE_STORAGE_KEY='c2VjcmV0LWtleQ=='\n"
    for given in (text, lines):
        kept = runner.invoke(command, ["set", "lab-az", "--store", "az", "--stdin"], input=given)
        assert kept.exit_code == 0, kept.output
        found = credentials.find_bucket("az", "c", "lab-az")
        assert found.url("k").startswith("https://acct.blob.core.windows.net/c/k?se=")
        assert "c2VjcmV0" not in repr((found, credentials.find("lab-az"))) + kept.output
    for bad in ("AccountName=a;AccountKey=hunter2!", "hunter2", "SharedAccessSignature=hunter2"):
        refused = runner.invoke(command, ["set", "x", "--store", "az", "--stdin"], input=bad)
        assert isinstance(refused.exception, InputError)
        assert "hunter2" not in f"{refused.exception} {refused.exception.hint}"
    assert credentials.known() == ["lab-az"]


def test_a_public_bucket_is_asked_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the shell has some, which that bucket may refuse; and no credential can take the name."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=c2VjcmV0")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".boto").write_text("[Credentials]\ngs_access_key_id=k\ngs_secret_access_key=s\n")
    monkeypatch.delenv("BOTO_CONFIG", raising=False)
    for kind in ("s3", "gs", "az"):
        credentials.require_for("anonymous", f"{kind}://sets/x")
        assert credentials.find_bucket(kind, "sets").credentials
        assert credentials.find_bucket(kind, "sets", "anonymous").credentials is None
    assert credentials.find_bucket("s3", "sets", "anonymous").endpoint == "http://of.the.shell"
    with pytest.raises(InputError, match="anonymous names no credential"):
        credentials.save("anonymous", ONE)
