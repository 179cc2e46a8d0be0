"""Writing parts of files to a store that is too busy, refuses them, or gets other bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.relay.data import put as data_put
from launcher.agent.relay.data.put import Put
from support.http_server import Quiet, Server, serving

CONTENT = bytes(range(256)) * 4000
SECRET = "X-Amz-Signature=0123456789abcdef"
TAG = f'"{hashlib.md5(CONTENT).hexdigest()}"'
#: What a store answers to each request: a status and a tag.
Answers = list[tuple[int, str]]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_put.time, "sleep", lambda seconds: None)


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    """Start stores that stop with the test; the last answer is given again and again."""

    def start(answers: Answers) -> str:
        class Handler(Quiet):
            def do_PUT(self) -> None:  # noqa: N802 - as http.server calls it
                self.rfile.read(int(self.headers["Content-Length"]))
                status, tag = answers.pop(0) if answers[1:] else answers[0]
                self.send_response(status)
                self.send_header("ETag", tag)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        server = Server(("127.0.0.1", 0), Handler)
        running.enter_context(serving(server))
        return f"http://127.0.0.1:{server.server_port}/bucket/key?{SECRET}"

    with ExitStack() as running:
        yield start


def put(folder: Path, url: str, **changes: Any) -> list[str]:
    """Return what becomes of a file of one part."""
    (folder / "outputs").mkdir()
    (folder / "outputs" / "model.pt").write_bytes(CONTENT)
    size = len(CONTENT)
    part = {"folder": "outputs", "path": "model.pt", "size": size, "offset": 0, "length": size}
    putting = Put(str(folder), [{**part, "url": url, "headers": {}, **changes}])
    putting.run(lambda: None)
    (result,) = putting.results
    assert result[2] or putting.sent == size
    assert SECRET not in repr(result)
    return result


@pytest.mark.parametrize("first", [(503, ""), (200, f'"{"0" * 32}"')], ids=["busy", "other bytes"])
def test_a_part_is_written_again(
    tmp_path: Path, serve: Callable[[Answers], str], first: tuple[int, str]
) -> None:
    tag, sha256, code, text = put(tmp_path, serve([first, (200, TAG)]))
    assert (tag, code, text) == (TAG.strip('"'), "", "")
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (503, "the server answers 503, 5 times"),
        (403, "the server answers 403"),
        (301, "the server answers 301"),
    ],
)
def test_a_store_that_takes_nothing(
    tmp_path: Path, serve: Callable[[Answers], str], status: int, text: str
) -> None:
    assert put(tmp_path, serve([(status, "")])) == ["", "", "refused", text]


def test_nobody_is_there(tmp_path: Path) -> None:
    result = put(tmp_path, f"http://127.0.0.1:9/x?{SECRET}")
    assert result == ["", "", "refused", "Connection refused, 5 times"]


def test_a_file_that_has_changed_or_is_gone(tmp_path: Path) -> None:
    result = put(tmp_path, "http://127.0.0.1:9/", size=1)
    assert result == ["", "", "changed", "it has another size by now"]
    other = tmp_path / "other"
    other.mkdir()
    result = put(other, "http://127.0.0.1:9/", path="none.pt")
    assert result == ["", "", "refused", "No such file or directory"]
