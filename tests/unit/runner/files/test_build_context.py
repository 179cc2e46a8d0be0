"""What decides whether an image is built again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.runner.files import build_context
from launcher.spec.environments import Environment
from launcher.spec.errors import DocumentError, InputError


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "ctx" / ".launcher"))
    folder = tmp_path / "ctx"
    (folder / "src").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / ".dockerignore").write_text("*.log\n")
    (folder / "src/train.py").write_text("1\n")
    (folder / ".git/refs/heads").mkdir(parents=True)
    (folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".git/index").write_text("1")
    return Environment(image=str(folder / "Dockerfile"))


def key(wanted: Environment) -> str:
    return build_context.key_of(build_context.listed(wanted))


def folder_of(wanted: Environment) -> Path:
    return Path(wanted.image).parent


def _same_size(folder: Path) -> None:
    file = folder / "src/train.py"
    before = file.stat()
    file.write_text("2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        _same_size,
        lambda folder: (folder / "src/train.py").chmod(0o755),
        lambda folder: (folder / "src/new").symlink_to("train.py"),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "Dockerfile").write_text("FROM scratch\nCOPY src /\n"),
        lambda folder: (folder / ".dockerignore").write_text("*.txt\n"),
        lambda folder: (folder / ".git/refs/heads/main").write_text("abc\n"),
        lambda folder: (folder / "src/train.py").unlink(),
    ],
)
def test_what_may_change_the_image_changes_the_key(
    wanted: Environment, change: Callable[[Path], object]
) -> None:
    before = key(wanted)
    change(folder_of(wanted))
    assert key(wanted) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "x.log").write_text("x"),
        lambda folder: (folder / ".git/index").write_text("22"),
        lambda folder: os.utime(folder / "src/train.py", (1, 1)),
        lambda folder: (folder / ".launcher/runs").mkdir(parents=True),
    ],
)
def test_what_cannot_change_it_leaves_the_key_alone(
    wanted: Environment, change: Callable[[Path], object]
) -> None:
    key(wanted)  # which makes launcher's own folder, within this one
    before = key(wanted)
    change(folder_of(wanted))
    assert key(wanted) == before


def test_arguments_count_and_their_order_does_not(wanted: Environment) -> None:
    one = replace(wanted, build_args=("A=1", "B=2"))
    assert key(one) != key(wanted)
    assert key(one) == key(replace(wanted, build_args=("B=2", "A=1")))


def test_the_images_of_several_states_are_remembered(wanted: Environment) -> None:
    listing = build_context.listed(wanted)
    image = build_context.Built("a" * 64, 1.0, "this machine", "podman", "amd64", "t", {"x": "b"})
    build_context.note(listing.identity, "key", image)
    build_context.note(listing.identity, "other", replace(image, id="c" * 64))
    assert build_context.built(listing.identity, "key") == image
    assert build_context.built(listing.identity, "none") is None


def test_a_dockerfile_without_from_names_the_line(wanted: Environment) -> None:
    Path(wanted.image).write_text("# nothing yet\nRUN true\n")
    with pytest.raises(DocumentError) as raised:
        build_context.listed(wanted)
    assert raised.value.line == 2


def test_a_pattern_that_is_none_names_file_and_line(wanted: Environment) -> None:
    (folder_of(wanted) / ".dockerignore").write_text("x\n[a\n")
    with pytest.raises(DocumentError) as raised:
        build_context.listed(wanted)
    assert (raised.value.source, raised.value.line) == (
        str(folder_of(wanted) / ".dockerignore"),
        2,
    )


def test_the_largest_entries_and_what_looks_secret_are_named(wanted: Environment) -> None:
    (folder_of(wanted) / "src/.env").write_text("K=1")
    (folder_of(wanted) / "big.bin").write_bytes(b"x" * 1000)
    listing = build_context.listed(wanted)
    assert listing.secrets == ("src/.env",)
    assert listing.largest[0] == ("big.bin", 1000)
    assert listing.files == 7


def test_a_context_that_is_no_folder_is_refused(wanted: Environment) -> None:
    with pytest.raises(InputError, match="is no folder here"):
        build_context.listed(replace(wanted, context=wanted.image))
