"""Sealed versions of the code on a host, snapshots of them, and listings."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.agent.relay import tree


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A host's folder of one source, with one sealed version in it."""
    folder = tmp_path / "source"
    incoming(folder, {"train.py": "1", "pkg/deep/a.py": "2"})
    (folder / "incoming-1" / "link").symlink_to("train.py")
    tree.seal(str(folder), "incoming-1")
    return folder


def incoming(folder: Path, files: dict[str, str], name: str = "incoming-1") -> None:
    for path, text in files.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_text(text)


def test_sealed_under_its_fingerprint(sources: Path) -> None:
    version = tree.sealed(str(sources))
    assert [entry.name for entry in sources.iterdir()] == [version]
    assert tree.fingerprint(os.fsencode(sources / version)).hexdigest() == version


def test_many_that_seal_the_same_at_once(sources: Path) -> None:
    """As the trials of a sweep that start together after an edit."""
    for number in range(20):
        names = [f"incoming-{number}-{one}" for one in range(8)]
        for name in names:
            (sources / name).mkdir()
            (sources / name / "a").write_text(str(number))
            os.utime(sources / name / "a", ns=(0, number))
        begin = threading.Barrier(len(names))

        def seal(name: str, begin: threading.Barrier = begin) -> str:
            begin.wait()
            return tree.seal(str(sources), name)

        with ThreadPoolExecutor(len(names)) as threads:
            assert len(set(threads.map(seal, names))) == 1
    assert len(list(sources.iterdir())) == tree.KEPT


def test_sealing_the_same_again_keeps_one(sources: Path) -> None:
    version = str(tree.sealed(str(sources)))
    subprocess.run(["cp", "-a", str(sources / version), str(sources / "incoming-2")], check=True)
    assert tree.seal(str(sources), "incoming-2") == version
    assert [entry.name for entry in sources.iterdir()] == [version]


def test_a_snapshot_is_made_of_hard_links(sources: Path, tmp_path: Path) -> None:
    version = str(tree.sealed(str(sources)))
    code = tmp_path / "run" / "code"
    code.mkdir(parents=True)
    (code / "left over").touch()
    assert tree.snapshot(str(sources), version, str(code))
    assert (code / "train.py").samefile(sources / version / "train.py")
    assert os.readlink(code / "link") == "train.py"
    assert tree.fingerprint(os.fsencode(code)).hexdigest() == version


@pytest.mark.parametrize("how", ["written into", "file added", "file removed", "made executable"])
def test_a_version_that_was_changed_is_refused_and_removed(
    sources: Path, tmp_path: Path, how: str
) -> None:
    version = str(tree.sealed(str(sources)))
    code = tmp_path / "code"
    assert tree.snapshot(str(sources), version, str(code))
    if how == "written into":
        with (code / "train.py").open("a") as file:  # a program that changes its own code
            file.write("x")
    elif how == "file added":
        (sources / version / "new.py").touch()
    elif how == "file removed":
        (sources / version / "train.py").unlink()
    else:
        (code / "train.py").chmod(0o755)
    again = tmp_path / "again"
    assert not tree.snapshot(str(sources), version, str(again))
    assert not again.exists()
    assert list(sources.iterdir()) == []


def test_a_version_that_is_not_there(sources: Path, tmp_path: Path) -> None:
    assert not tree.snapshot(str(sources), "0" * 32, str(tmp_path / "code"))
    assert tree.sealed(str(tmp_path / "nothing")) is None


def test_the_newest_versions_are_kept(sources: Path, tmp_path: Path) -> None:
    versions = [str(tree.sealed(str(sources)))]
    os.utime(sources / versions[0], (1, 1))
    for number in range(2, tree.KEPT + 2):
        incoming(sources, {"train.py": str(number)})
        versions.append(tree.seal(str(sources), "incoming-1"))
        os.utime(sources / versions[-1], (number, number))
    (sources / "incoming-9").mkdir()
    assert {entry.name for entry in sources.iterdir()} == {*versions[1:], "incoming-9"}
    assert tree.sealed(str(sources)) == versions[-1]
    assert tree.snapshot(str(sources), versions[1], str(tmp_path / "code"))
    assert tree.sealed(str(sources)) == versions[1], "what was used last is the newest"


def test_remove_gets_through_closed_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    (tmp_path / "a" / "b").chmod(0o500)
    (tmp_path / "a").chmod(0o500)
    tree.remove(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (None, {"ckpt/1/a.pt", "ckpt/b.pt", "x.log", "ckpt-old/c.pt", "\udcff.bin"}),
        ([], set()),
        (["ckpt"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["ckpt/"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["./ckpt/"], {"ckpt/1/a.pt", "ckpt/b.pt"}),
        (["ckpt/1", "*.log"], {"ckpt/1/a.pt", "x.log"}),
        (["ckpt*"], {"ckpt/1/a.pt", "ckpt/b.pt", "ckpt-old/c.pt"}),
        (["../x.log", "/x.log"], set()),
    ],
)
def test_listing(tmp_path: Path, patterns: list[str] | None, found: set[str]) -> None:
    incoming(
        tmp_path, {"ckpt/1/a.pt": "1", "ckpt/b.pt": "22", "x.log": "", "ckpt-old/c.pt": ""}, "r"
    )
    (tmp_path / "r" / "\udcff.bin").touch()
    (tmp_path / "r" / "link").symlink_to("x.log")
    os.mkfifo(tmp_path / "r" / "pipe")
    listed = tree.listing(str(tmp_path / "r"), patterns)
    assert {path for path, _, _ in listed} == found
    for path, size, mtime in listed:
        status = (tmp_path / "r" / path).stat()
        assert (size, mtime) == (status.st_size, status.st_mtime_ns)


def test_listing_of_nothing(tmp_path: Path) -> None:
    assert tree.listing(str(tmp_path / "nothing")) == []


def test_a_folder_that_cannot_be_read_costs_that_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/x", "nodir/y", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    scandir = os.scandir

    def refusing(path: bytes) -> object:
        if path.endswith(b"nodir"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    noted = tree.Noted()
    found = tree.listing(str(tmp_path), noted=noted)
    assert [name for name, _, _ in found] == ["a/x", "z"]
    assert noted.unreadable == {"nodir": "Permission denied"}
    with pytest.raises(PermissionError):
        tree.fingerprint(os.fsencode(tmp_path))


def test_links_among_outputs(tmp_path: Path) -> None:
    """Those that lead to outputs have the path of it; all others are named, with the reason."""
    root = tmp_path / "outputs"
    (root / "run-1").mkdir(parents=True)
    (root / "run-1/a").write_text("a")
    (tmp_path / "secret").write_text("s")
    (root / "latest").symlink_to("run-1")
    (root / "last").symlink_to(root / "latest" / "a")
    (root / "out").symlink_to("../secret")
    (root / "gone").symlink_to("nothing")
    os.mkfifo(root / "pipe")
    noted = tree.Noted()
    found = tree.listing(str(root), noted=noted)
    assert [path for path, _, _ in found] == ["run-1/a"]
    assert noted.links == {"latest": "run-1", "last": "run-1/a"}
    assert noted.left_out == {
        "out": "it is a link to ../secret, outside of the outputs",
        "gone": "it is a link to nothing, which does not exist",
        "pipe": "it is a pipe, a socket or a device",
    }


def test_the_own_log_of_wandb_is_no_output(tmp_path: Path) -> None:
    """Each run of its has a link to one in the user's cache: nobody misses that."""
    logs = tmp_path / "outputs" / "wandb" / "offline-run-1" / "logs"
    logs.mkdir(parents=True)
    (tmp_path / "core.log").touch()
    (logs / "debug-core.log").symlink_to(tmp_path / "core.log")
    noted = tree.Noted()
    assert tree.listing(str(tmp_path / "outputs"), noted=noted) == []
    assert noted.left_out == {}


def test_files_with_holes(tmp_path: Path) -> None:
    (tmp_path / "dense").write_bytes(b"x" * 200_000)
    for name, size, data in (
        ("sparse", 1 << 20, b"x"),
        ("hole", 1 << 20, b""),
        ("small", 5_000, b""),
    ):
        (tmp_path / name).write_bytes(data)
        os.truncate(tmp_path / name, size)
    noted = tree.Noted()
    assert len(tree.listing(str(tmp_path), noted=noted)) == 4
    assert noted.sparse == {"sparse", "hole"}


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_what_the_run_made_of_its_output_folder_is_not_listed(tmp_path: Path, kind: str) -> None:
    """A link to / would bring the whole disk."""
    root = tmp_path / "outputs"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a").write_text("a")
    if kind == "link":
        root.symlink_to("other")
    elif kind == "file":
        root.write_text("x")
    else:
        os.mkfifo(root)
    noted = tree.Noted()
    assert tree.listing(str(root), noted=noted) == []
    assert noted.left_out == {"the folder outputs": "the run made something else of it"}


def test_a_path_that_is_too_long_costs_itself_alone(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    root.mkdir()
    (root / "z").write_text("z")
    here = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("L" * 240, dir_fd=here)
        below = os.open("L" * 240, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    noted = tree.Noted()
    found = tree.listing(str(root), noted=noted)
    assert [path for path, _, _ in found] == ["z"]
    assert list(noted.unreadable.values()) == ["File name too long"]
    tree.remove(str(root))


def test_remove_follows_no_link(tmp_path: Path) -> None:
    tree_, other = tmp_path / "a", tmp_path / "other"
    (tree_ / "b").mkdir(parents=True)
    other.mkdir()
    (other / "kept").touch()
    for link, target in {
        "folder": other,
        "file": other / "kept",
        "nowhere": tmp_path / "x",
    }.items():
        (tree_ / "b" / link).symlink_to(target)
    os.mkfifo(tree_ / "pipe")
    (tmp_path / "link").symlink_to(tree_)
    tree.remove(str(tmp_path / "link"))
    tree.remove(str(other / "kept"))
    tree.remove(str(tmp_path / "missing"))
    assert (tree_ / "b" / "folder" / "kept").exists(), "what a link in its place leads to stays"
    tree.remove(str(tree_))
    assert not tree_.exists()
    assert (other / "kept").exists()
