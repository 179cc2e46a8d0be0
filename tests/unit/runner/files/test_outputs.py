"""Outputs of several hosts laid together in one view."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.records.run_folder import RunFolder
from launcher.runner.files import outputs
from launcher.runner.files import view as views
from launcher.runner.files.view import Output, lay_together
from launcher.spec.errors import LauncherError
from launcher.spec.packed import PackedFiles
from support import ROOT

Files = dict[str, dict[str, str]]
Lay = Callable[[Files], dict[str, tuple[str, ...]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    made = RunFolder.create("ddp")
    yield made
    made.close()


@pytest.fixture
def lay(folder: RunFolder) -> Lay:
    """Lets hosts write files, lays them together, and says which hosts each file came from."""

    def laid(files: Files) -> dict[str, tuple[str, ...]]:
        for host, written in files.items():
            for path, text in written.items():
                target = folder.mirror(host) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.write_text(text)
        found = lay_together(folder, ("gpu1", "gpu2", "gpu3"))
        for output in found:
            assert (folder.outputs / output.path).stat().st_size == output.size
        return {output.path: output.hosts for output in found}

    return laid


def view(folder: RunFolder) -> dict[str, str]:
    return {
        path.relative_to(folder.outputs).as_posix(): path.read_text()
        for path in folder.outputs.rglob("*")
        if path.is_file()
    }


def test_equal_files_are_there_once(folder: RunFolder, lay: Lay) -> None:
    found = lay({"gpu1": {"a/m.json": "x"}, "gpu2": {"a/m.json": "x", "only": "2"}})
    assert found == {"a/m.json": ("gpu1", "gpu2"), "only": ("gpu2",)}
    assert view(folder) == {"a/m.json": "x", "only": "2"}
    assert json.loads((folder.path / "outputs.json").read_text()) == [
        {"path": "a/m.json", "size": 1, "hosts": ["gpu1", "gpu2"]},
        {"path": "only", "size": 1, "hosts": ["gpu2"]},
    ]


def test_different_files_carry_their_host(folder: RunFolder, lay: Lay) -> None:
    found = lay(
        {
            "gpu1": {"a/metrics.json": "1", "log": "1", ".env": "1"},
            "gpu2": {"a/metrics.json": "2", "log": "2", ".env": "2"},
            "gpu3": {"a/metrics.json": "1"},
        }
    )
    assert found["a/metrics@gpu1.json"] == ("gpu1", "gpu3")
    assert view(folder) == {
        "a/metrics@gpu1.json": "1",
        "a/metrics@gpu2.json": "2",
        "log@gpu1": "1",
        "log@gpu2": "2",
        ".env@gpu1": "1",
        ".env@gpu2": "2",
    }


def test_names_that_collide(folder: RunFolder, lay: Lay) -> None:
    lay(
        {
            "gpu1": {"m.json": "1", "m@gpu1.json": "other", "m@gpu2.json": "same"},
            "gpu2": {"m.json": "2", "m@gpu2.json": "same"},
        }
    )
    shown = view(folder)
    assert shown["m@gpu1.json"] == "other"
    assert shown["m@gpu2.json"] == "same"
    assert sorted(shown.values()) == ["1", "2", "other", "same"]


def test_a_file_on_one_host_and_a_folder_on_another(folder: RunFolder, lay: Lay) -> None:
    lay({"gpu1": {"ckpt": "file"}, "gpu2": {"ckpt/a.pt": "inside"}})
    assert sorted(view(folder).values()) == ["file", "inside"]


@pytest.mark.parametrize(("first", "then"), [("ckpt", "ckpt/a.pt"), ("ckpt/a.pt", "ckpt")])
def test_a_file_becomes_a_folder(folder: RunFolder, lay: Lay, first: str, then: str) -> None:
    lay({"gpu1": {first: "1"}})
    (folder.mirror("gpu1") / first).unlink()
    if "/" in first:
        (folder.mirror("gpu1") / first).parent.rmdir()
    assert lay({"gpu1": {then: "2"}}) == {then: ("gpu1",)}
    assert view(folder) == {then: "2"}


def test_names_that_cannot_be_longer(folder: RunFolder, lay: Lay) -> None:
    name = "n" * 254
    lay({"gpu1": {name: "1"}, "gpu2": {name: "2"}})
    assert sorted(view(folder).values()) == ["1", "2"]


def test_names_that_are_no_text(folder: RunFolder, lay: Lay) -> None:
    lay({"gpu1": {"\udcff.bin": "1"}})
    assert view(folder) == {"\udcff.bin": "1"}


def test_a_second_time_nothing_is_touched(folder: RunFolder, lay: Lay) -> None:
    lay({"gpu1": {"a": "1"}})
    before = (folder.outputs / "a").stat().st_ctime_ns
    lay({"gpu2": {"b": "2"}})
    assert (folder.outputs / "a").stat().st_ctime_ns == before


def test_stale_files_go_and_a_persons_stay(folder: RunFolder, lay: Lay) -> None:
    lay({"gpu1": {"m.json": "1", "tmp": "x"}})
    (folder.outputs / "notes.txt").write_text("mine")
    (folder.mirror("gpu1") / "tmp").unlink()
    lay({"gpu2": {"m.json": "2"}})
    assert view(folder) == {"m@gpu1.json": "1", "m@gpu2.json": "2", "notes.txt": "mine"}


def test_a_persons_file_is_not_overwritten(folder: RunFolder, lay: Lay) -> None:
    folder.outputs.mkdir()
    (folder.outputs / "notes.txt").write_text("mine")
    lay({"gpu1": {"notes.txt": "theirs"}})
    assert sorted(view(folder).values()) == ["mine", "theirs"]


def test_links_and_unfinished_copies_are_left_out(folder: RunFolder, lay: Lay) -> None:
    (folder.mirror("gpu1") / "passwd").symlink_to("/etc/passwd")
    (folder.mirror("gpu1") / "etc").symlink_to("/etc")
    assert lay({"gpu1": {".partial/a": "half", "a": "1"}}) == {"a": ("gpu1",)}


def test_many_files_are_looked_at_once(
    folder: RunFolder, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for every other file: 3,000 of them took seven minutes."""
    files = {f"{number}.txt": "x" for number in range(50)}
    lay({"gpu1": files, "gpu2": files})
    walks: list[Path] = []
    look = views.walk
    monkeypatch.setattr(views, "walk", lambda place: walks.append(place) or look(place))
    assert lay({}) == dict.fromkeys(files, ("gpu1", "gpu2"))
    assert len(walks) == 4  # the folders of three mirrors, and what a person put into the view


def test_nothing_to_lay(folder: RunFolder) -> None:
    assert list(lay_together(folder, ("gpu1",))) == []


def test_a_view_that_cannot_be_written(folder: RunFolder, lay: Lay) -> None:
    folder.outputs.write_text("in the way")
    with pytest.raises(LauncherError, match="cannot write outputs to") as caught:
        lay({"gpu1": {"a": "1"}})
    assert ".hosts" in caught.value.hint


def test_output_values() -> None:
    assert vars(Output("a", 1, ("gpu1",))) == {"path": "a", "size": 1, "hosts": ("gpu1",)}


# -- what does not fit, and what cannot be read


def test_halves_of_files_do_not_keep_the_disk_full(tmp_path: Path) -> None:
    for name in ("a/.partial/half", ".partial/half", "a/whole"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    outputs._forget_partial(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["whole"]


def test_links_are_links_in_the_view(folder: RunFolder, lay: Lay) -> None:
    """To a file, and to a folder; a path that is a link on one host and a folder on another is there
    twice; what leads to no output is nowhere."""
    lay({"gpu1": {"ck/a": "1", "ck/same": "s", "x": "1"}, "gpu2": {"ck/a": "2", "last/b": "3"}})
    links = {
        "gpu1": [("ck/last", "ck/a"), ("last", "ck"), ("gone", "missing")],
        "gpu2": [("ck/last", "ck/a"), ("own", "last/b")],
    }
    hosts = ("gpu1", "gpu2")
    lay_together(folder, hosts, links=links)
    made = {
        path.relative_to(folder.outputs).as_posix(): str(path.readlink())
        for path in folder.outputs.rglob("*")
        if path.is_symlink()
    }
    assert made == {
        "ck/last@gpu1": "a@gpu1",
        "ck/last@gpu2": "a@gpu2",
        "last@gpu1": "ck",
        "own": "last/b",
    }
    assert (folder.outputs / "ck/last@gpu2").read_text() == "2"
    lay_together(folder, hosts, links={"gpu2": [("own", "ck/a")]})
    assert (folder.outputs / "own").read_text() == "2"
    assert [p.name for p in folder.outputs.rglob("*") if p.is_symlink()] == ["own"]


@pytest.mark.thorough
def test_many_files_take_time_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 of them took minutes, in which nothing else was done."""
    names = [f"shard-{number}" for number in range(100_000)]
    copied: list[bytes] = []

    async def copy(*words: object) -> outputs.Pulled:
        copied.extend(bytes(words[-2]).split(b"\0")[:-1])  # type: ignore[call-overload]
        return outputs.Pulled(1)

    monkeypatch.setattr(outputs.rsync, "copy", copy)
    files = PackedFiles((name, 0, 1) for name in names)
    listed = outputs.Listed(outputs=files, code=PackedFiles(), folder="/x")
    began = time.monotonic()
    asyncio.run(outputs.pull(None, "lab1", listed, tmp_path))  # type: ignore[arg-type]
    assert time.monotonic() - began < 60
    assert len(copied) == 100_000


def test_files_with_holes_alone_are_copied_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rsync takes half as long again for any file with --sparse."""
    copied: list[tuple[bytes, bool]] = []

    async def copy(*words: object) -> outputs.Pulled:
        options, names = words[2:4]
        copied.append((names, "--sparse" in options))  # type: ignore[arg-type, operator]
        return outputs.Pulled(1)

    monkeypatch.setattr(outputs.rsync, "copy", copy)
    files = PackedFiles((name, 9, 1) for name in ("a.pt", "disk.img", "z.pt"))
    for sparse in ((), ("disk.img",), ("a.pt", "disk.img", "z.pt")):
        listed = outputs.Listed(files, PackedFiles(), "/x", sparse=frozenset(sparse))
        asyncio.run(outputs.pull(None, "lab1", listed, tmp_path))  # type: ignore[arg-type]
    assert copied == [
        (b"a.pt\0disk.img\0z.pt\0", False),
        (b"a.pt\0z.pt\0", False),
        (b"disk.img\0", True),
        (b"a.pt\0disk.img\0z.pt\0", True),
    ]


#: In a process of its own, so that nothing else in this one counts.
PEAK = """
import sys, tracemalloc
from pathlib import Path
from launcher.records.run_folder import RunFolder
from launcher.runner.files.view import lay_together

folder = RunFolder(Path(sys.argv[1]))
lay_together(folder, ("gpu1",))  # the second time there is a list of the first
tracemalloc.start()
laid = lay_together(folder, ("gpu1",))
print(len(laid), tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.thorough
def test_many_files_take_little_memory(folder: RunFolder) -> None:
    """3 KiB a file was 1.5 GB for half a million."""
    count = 4000
    mirror = folder.mirror("gpu1")
    for number in range(count):
        place = mirror / f"shard-{number // 500}"
        place.mkdir(exist_ok=True)
        (place / f"sample-{number:08d}").touch()
    words = [sys.executable, "-c", PEAK, str(folder.path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    laid, peak = map(int, done.stdout.split())
    assert laid == count
    assert peak < 300 * count, peak / count


def test_folders_of_the_user_are_in_no_files_way(folder: RunFolder, lay: Lay) -> None:
    """One with files of theirs, and an empty one."""
    (folder.outputs / "full").mkdir(parents=True)
    (folder.outputs / "full" / "mine").write_text("mine")
    (folder.outputs / "empty").mkdir()
    assert lay({"gpu1": {"full": "1", "empty": "2", "a": "3"}}) == {
        "full@gpu1": ("gpu1",),
        "empty": ("gpu1",),
        "a": ("gpu1",),
    }
    assert view(folder) == {"full/mine": "mine", "full@gpu1": "1", "empty": "2", "a": "3"}


def test_a_file_of_the_user_in_the_place_of_a_folder_is_named(folder: RunFolder, lay: Lay) -> None:
    (folder.outputs).mkdir(parents=True, exist_ok=True)
    (folder.outputs / "ckpt").write_text("mine")
    with pytest.raises(LauncherError, match="outputs/ckpt: "):
        lay({"gpu1": {"ckpt/a.pt": "1"}})
    assert view(folder) == {"ckpt": "mine"}
