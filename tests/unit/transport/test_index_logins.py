"""Logins for indexes: each for the server that it was given for."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from launcher.transport import index_logins

FILE = "https://index.lab/files/x-1.0-py3-none-any.whl"


def header(*words: Any) -> str:
    return index_logins.login(*words).header


def login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_login_is_for_its_server_alone(tmp_path: Path) -> None:
    none = {"NETRC": str(tmp_path / "none")}
    assert header(FILE, none) == ""
    for variable, value in {
        "UV_INDEX": "lab=https://a:b%20c@index.lab/simple https://other.example.org/simple",
        "UV_DEFAULT_INDEX": "https://a:b%20c@index.lab/simple",
    }.items():
        env = {**none, variable: value}
        assert header(FILE, env) == login("a", "b c")
        assert header(FILE.replace("index", "other"), env) == ""
        assert header(FILE.replace("https", "http"), env) == "", "not in clear"
    indexes = [("my-lab", "https://index.lab/simple")]
    env = {**none, "UV_INDEX_MY_LAB_USERNAME": "u", "UV_INDEX_MY_LAB_PASSWORD": "p"}
    assert header(FILE, env, indexes) == login("u", "p")
    assert header("https://cdn.else/x.whl", env, indexes) == ""
    (tmp_path / "netrc").write_text("machine index.lab login n password s\n")
    assert header(FILE, {"NETRC": str(tmp_path / "netrc")}) == login("n", "s")


def test_an_index_that_a_variable_names(tmp_path: Path) -> None:
    none = {"NETRC": str(tmp_path / "none")}
    own = {"UV_INDEX_CORP_USERNAME": "u", "UV_INDEX_CORP_PASSWORD": "p"}
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        env = {**none, **own, variable: "corp=https://index.lab:443/simple"}
        assert header(FILE, env) == login("u", "p")
        assert header(FILE.replace("lab", "lab:8443"), env) == ""


def test_the_index_that_lists_a_file_comes_first(tmp_path: Path) -> None:
    none = {"NETRC": str(tmp_path / "none")}
    indexes = [("", f"https://{name}:x@index.lab/{name}") for name in ("one", "two")]
    for name in ("one", "two"):
        index = f"https://index.lab/{name}/"
        assert header(FILE, none, indexes, index) == login(name, "x")


def test_a_password_for_the_user_of_a_url(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine index.lab login n password s\n")
    for user, password in (("n", "s"), ("token", "")):
        env = {"NETRC": str(tmp_path / "netrc"), "UV_INDEX": f"https://{user}@index.lab/simple"}
        assert header(FILE, env) == login(user, password)


def test_no_message_has_a_login() -> None:
    address = "https://a:b@index.lab:8443/x.whl?token=1#sha256=2"
    assert index_logins.without(address) == "https://index.lab:8443/x.whl#sha256=2"
    said = f"cannot fetch `{address}` (https://index.lab/?a=b): https://:t@h/y?x, why?"
    assert index_logins.without_secrets(said) == (
        "cannot fetch `https://index.lab:8443/x.whl#sha256=2` (https://index.lab/): https://h/y, why?"
    )
    assert index_logins.bare(address) == "https://index.lab:8443/x.whl?token=1"


def test_when_a_file_gets_a_login() -> None:
    """Its index decides, on its own server; of another server, the index beside whose list it is."""
    urls = {"https://index.lab/open/simple": "never", "https://index.lab/own/simple": "always"}
    policy = index_logins.Indexes(policies={**urls, "https://files.lab": "never"}).policy
    file = "https://index.lab/files/x.whl"
    assert policy(file, "https://index.lab/open/simple/") == "never"
    assert policy(file, "https://u:p@index.lab/own/simple") == "always"
    assert policy("https://index.lab/open/x.whl", "https://index.lab/other/simple") == ""
    assert policy("https://files.lab/x.whl", "https://index.lab/own/simple") == "never"
    assert policy("https://index.lab/open/x.whl", "") == "never"
    assert policy("https://index.lab/opened/x.whl", "") == ""
    assert policy("https://index.lab:8443/open/x.whl", "") == ""
