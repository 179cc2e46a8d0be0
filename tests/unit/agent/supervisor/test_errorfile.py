"""The error files of torch's ``@record``, read on a host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.agent.supervisor import errorfile


def written(tmp_path: Path, content: bytes) -> dict[str, str] | None:
    file = tmp_path / "error.json"
    file.write_bytes(content)
    return errorfile.read(str(file))


def test_both_formats_of_torch_are_read(tmp_path: Path) -> None:
    extra = {"py_callstack": "Traceback ...", "timestamp": "17"}
    new = {"message": {"message": "ValueError: x", "extraInfo": extra, "errorCode": 1}}
    found = written(tmp_path, json.dumps(new).encode())
    assert found == {"message": "ValueError: x", "traceback": "Traceback ..."}
    found = written(tmp_path, b'{"message": "killed", "timestamp": 17}')
    assert found == {"message": "killed", "traceback": ""}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b'{"message": 7}', b'{"message": {}}',
     b'{"message": {"message": [], "extraInfo": {"py_callstack": {}}}}', b"[" * 100_000,
     b'{"message": {"message": null, "extraInfo": "no"}}',
     b'{"message": "' + b"x" * errorfile.LARGEST + b'"}'],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_error_file_is_passed_over(tmp_path: Path, content: bytes) -> None:
    assert written(tmp_path, content) is None


def test_a_long_one_is_cut(tmp_path: Path) -> None:
    long = {"message": "m" * 9000, "extraInfo": {"py_callstack": "t" * 90_000 + "end"}}
    found = written(tmp_path, json.dumps({"message": long}).encode())
    assert found is not None
    assert len(found["message"]) + len(found["traceback"]) == 18_000
    assert found["traceback"].endswith("tend")


def test_a_pipe_or_a_folder_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "nothing", None):
        assert errorfile.read(place and str(place)) is None
