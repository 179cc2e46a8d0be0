"""Logins for indexes: each for the server that it was given for."""

from __future__ import annotations

import base64
from pathlib import Path

from launcher.transport import index_logins

FILE = "https://index.lab/files/x-1.0-py3-none-any.whl"


def login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_login_is_for_its_server_alone(tmp_path: Path) -> None:
    none = {"NETRC": str(tmp_path / "none")}
    assert index_logins.authorization(FILE, none) == ""
    for variable, value in {
        "UV_INDEX": "lab=https://a:b%20c@index.lab/simple https://pypi.org/simple",
        "UV_DEFAULT_INDEX": "https://a:b%20c@index.lab/simple",
    }.items():
        env = {**none, variable: value}
        assert index_logins.authorization(FILE, env) == login("a", "b c")
        assert index_logins.authorization(FILE.replace("index", "other"), env) == ""
        assert index_logins.authorization(FILE.replace("https", "http"), env) == "", "not in clear"
    indexes = {"my-lab": "https://index.lab/simple"}
    env = {**none, "UV_INDEX_MY_LAB_USERNAME": "u", "UV_INDEX_MY_LAB_PASSWORD": "p"}
    assert index_logins.authorization(FILE, env, indexes) == login("u", "p")
    assert index_logins.authorization("https://cdn.else/x.whl", env, indexes) == ""
    (tmp_path / "netrc").write_text("machine index.lab login n password s\n")
    assert index_logins.authorization(FILE, {"NETRC": str(tmp_path / "netrc")}) == login("n", "s")


def test_no_message_has_a_login() -> None:
    address = "https://a:b@index.lab:8443/x.whl?token=1#sha256=2"
    assert index_logins.without(address) == "https://index.lab:8443/x.whl#sha256=2"
    assert index_logins.bare(address) == "https://index.lab:8443/x.whl?token=1"
