"""A file that another host has: hosts share no files."""

from __future__ import annotations

import pytest

from launcher.records.missing_files import with_holders
from launcher.records.receipt import FirstFailure

HAVE = {
    "code/lightning_logs/version_0/best.ckpt": ("n1",),
    "code/model.pt": ("n1", "n3"),
    "outputs/last.ckpt": ("n1",),
    "code/mine.pt": ("n1", "n2"),
}


def failed(*lines: str) -> FirstFailure:
    failure = FirstFailure("n2", "rank-1", 1, 1, "exited with 1", 0.0, lines, "known", "do this")
    return with_holders(failure, "calm-otter-3f9a", lambda path: HAVE.get(path, ()))


@pytest.mark.parametrize(
    ("line", "cause", "hint"),
    [
        (
            "FileNotFoundError: Checkpoint file not found: /root/.launcher/host/runs/calm-otter-3f9a/code/"
            "lightning_logs/version_0/best.ckpt. Aborting testing.",
            "n1 has lightning_logs/version_0/best.ckpt, but n2 does not: hosts share no files",
            "--share lightning_logs",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: './model.pt'",
            "n[1,3] have model.pt, but n2 does not: hosts share no files",
            "Save it in a folder and run with --share FOLDER",
        ),
        (
            "OSError: /home/x/runs/calm-otter-3f9a/outputs/last.ckpt does not exist",
            "n1 has last.ckpt, but n2 does not: hosts share no files",
            "--share '{{outputs}}'",
        ),
    ],
)
def test_what_another_host_has_is_named(line: str, cause: str, hint: str) -> None:
    found = failed("Traceback (most recent call last):", '  File "train.py", line 3', line)
    assert found.cause == cause
    assert hint in found.hint


@pytest.mark.parametrize(
    "line",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: 'mine.pt'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'nobody.pt'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/runs/other-run/code/model.pt'",
        "FileNotFoundError: [Errno 2] No such file or directory: '../model.pt/../../x'",
        "ValueError: bad value in model.pt",
    ],
)
def test_anything_else_keeps_its_cause(line: str) -> None:
    assert failed(line).cause == "known"
