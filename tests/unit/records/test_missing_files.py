"""A file that another host has: hosts share no files."""

from __future__ import annotations

import pytest

from launcher.records.missing_files import with_holders, with_own_module
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


def no_module(script: str, name: str = "mingpt", run: str = "calm-otter-3f9a") -> FirstFailure:
    frame = f'  File "/root/.launcher/host/runs/{run}/code/{script}", line 2, in <module>'
    lines = (
        "Traceback (most recent call last):",
        frame,
        f"ModuleNotFoundError: No module named '{name}'",
    )
    failure = FirstFailure("n2", "rank-1", 1, 1, "exited with 1", 0.0, lines, "known", "do this")
    return with_own_module(
        failure, "calm-otter-3f9a", lambda name: {"mingpt": ".", "mine": "src"}.get(name, "")
    )


def test_a_module_of_the_workdir_for_which_python_does_not_look() -> None:
    found = no_module("tools/train.py")
    assert found.cause == "mingpt is in the workdir, but Python looks for it beside tools/train.py"
    assert found.hint.startswith("Run with -e PYTHONPATH=.,")
    assert no_module("train.py", "mine").hint.startswith("Run with -e PYTHONPATH=src,")


@pytest.mark.parametrize(
    ("script", "name", "run"),
    [
        ("train.py", "mingpt", "calm-otter-3f9a"),  # it did not travel, perhaps
        ("src/train.py", "mine", "calm-otter-3f9a"),
        ("tools/train.py", "einops", "calm-otter-3f9a"),
        ("tools/train.py", "mingpt", "other-run"),
    ],
)
def test_a_module_that_is_missing_otherwise(script: str, name: str, run: str) -> None:
    assert no_module(script, name, run).cause == "known"
