"""What a host lacks of an edited folder, and the version that the host makes of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.agent.relay import patches, tree
from launcher.runner.files import code_patch, code_snapshot
from launcher.runner.files.code_snapshot import Source
from launcher.spec.typed_json import from_json
from launcher.transport.answers.runs import Known


def _code(folder: Path) -> Path:
    for name, text in {"train.py": "1", "pkg/model.py": "2", "old.py": "3", "run.sh": "4"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "link").symlink_to("train.py")
    return folder


def _known(sealed: str | None) -> Known:
    return from_json(
        Known,
        {key: list(map(list, value)) for key, value in (patches.listed(sealed) or {}).items()},
    )


def _arrive(sources: Path, source: Source, base: str | None) -> code_patch.Patch | None:
    """Have a host make this version of what it has; return what it was sent."""
    folder = base and str(sources / base)
    patch = code_patch.Patches(source).against(_known(folder))
    if patch:
        sent = {**patch.request, "base": base, "payload": patch.content}
        patches.apply(str(sources), "incoming-x", sent)
        assert tree.seal(str(sources), "incoming-x") == source.version
    return patch


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


def _edit(code: Path) -> None:
    (code / "train.py").write_text("one")


def _folder_for_file(code: Path) -> None:
    (code / "old.py").unlink()
    (code / "old.py").mkdir()
    (code / "old.py" / "new").write_text("5")


def _file_for_folder(code: Path) -> None:
    shutil.rmtree(code / "pkg")
    (code / "pkg").write_text("6")


def _link_for_file(code: Path) -> None:
    (code / "old.py").unlink()
    (code / "old.py").symlink_to("run.sh")


def _file_for_link(code: Path) -> None:
    (code / "link").unlink()
    (code / "link").write_text("7")


def _other_link(code: Path) -> None:
    (code / "link").unlink()
    (code / "link").symlink_to("old.py")


#: How a folder was edited, and the paths that travel: with their content, or as links.
EDITS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a line": (_edit, {"train.py"}),
    "a new file": (
        lambda code: (code / "new dir").mkdir() or (code / "new dir/ü").touch(),
        {"new dir/ü"},
    ),
    "a name that is no text": (lambda code: (code / os.fsdecode(b"\xff")).touch(), {"\udcff"}),
    "a file that is gone": (lambda code: (code / "old.py").unlink(), set()),
    "an executable": (lambda code: (code / "run.sh").chmod(0o755), {"run.sh"}),
    "a time": (
        lambda code: os.utime(code / "old.py", ns=(0, 1_700_000_000_000_000_001)),
        {"old.py"},
    ),
    "a folder for a file": (_folder_for_file, {"old.py/new"}),
    "a file for a folder": (_file_for_folder, {"pkg"}),
    "a link for a file": (_link_for_file, {"old.py"}),
    "a file for a link": (_file_for_link, {"link"}),
    "another link": (_other_link, {"link"}),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_arrives_and_nothing_else_travels(tmp_path: Path, sources: Path, case: str) -> None:
    edit, travel = EDITS[case]
    code = _code(tmp_path / "code")
    first = code_snapshot.read(code)
    _arrive(sources, first, None)
    edit(code)
    edited = code_snapshot.read(code)
    patch = _arrive(sources, edited, first.version)
    assert patch
    assert {path for path, *_ in (*patch.files, *patch.links)} == travel
    place = sources / edited.version
    for path in map(os.fsdecode, edited.paths):
        there, here = place / path, code / path
        if here.is_symlink():
            assert os.readlink(there) == os.readlink(here)
        else:
            assert there.read_bytes() == here.read_bytes()
            assert there.stat().st_mode & 0o777 == here.stat().st_mode & 0o555
    same = place / "run.sh"
    if "run.sh" not in travel:
        assert same.samefile(sources / first.version / "run.sh"), "it is stored once"
    assert sorted(os.listdir(sources)) == sorted({first.version, edited.version})


def test_what_rsync_should_send(tmp_path: Path, sources: Path) -> None:
    """What is large, what has two names, and what changes or cannot be read."""
    code = _code(tmp_path / "code")
    source = code_snapshot.read(code)

    def is_sent() -> bool:
        return code_patch.Patches(source).against(Known()) is not None

    assert is_sent()
    (code / "old.py").unlink()
    assert not is_sent(), "rsync tells that it vanished"
    os.link(code / "train.py", code / "old.py")
    assert not is_sent(), "a host's two names should be one file, too"
    (code / "old.py").unlink()
    (code / "old.py").write_bytes(bytes(code_patch.MOST_BYTES))
    assert not is_sent(), "together with the others it is too large"
    (code / "old.py").write_bytes(bytes(code_patch.MOST_BYTES - 100))
    assert is_sent()
    for number in range(patches.MOST):
        (code / f"more{number}").touch()
    assert not code_patch.is_small(code_snapshot.read(code))


def test_all_hosts_get_the_same(tmp_path: Path, sources: Path) -> None:
    """Also where a file is saved between two of them."""
    code = _code(tmp_path / "code")
    found = code_patch.Patches(code_snapshot.read(code))
    first = found.against(Known())
    _edit(code)
    assert first
    assert first.content == b"3241", "in the order of the paths"
    assert found.against(Known(links=(("link", "train.py"),))) != first
    again = found.against(Known(links=(("other", "train.py"),)))
    assert again
    assert again.content == first.content


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", ""])
def test_nothing_is_written_outside(tmp_path: Path, sources: Path, path: str) -> None:
    sent = {"base": None, "gone": [], "files": [[path, 1, 1, 0o400]], "links": [], "payload": b"x"}
    with pytest.raises(patches.Refused):
        patches.apply(str(sources), "incoming-x", sent)
    assert list(sources.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_other_permissions_arrive_with_the_next_edit(tmp_path: Path, sources: Path) -> None:
    """As with rsync: what others may no longer read here, they should not read there."""
    code = _code(tmp_path / "code")
    (code / "old.py").chmod(0o644)
    first = code_snapshot.read(code)
    _arrive(sources, first, None)
    (code / "old.py").chmod(0o640)
    _edit(code)
    edited = code_snapshot.read(code)
    patch = _arrive(sources, edited, first.version)
    assert patch
    assert [path for path, *_ in patch.files] == ["old.py", "train.py"]
    assert (sources / edited.version / "old.py").stat().st_mode & 0o777 == 0o440


def test_a_version_with_a_time_beyond_all_numbers_is_not_listed(sources: Path) -> None:
    """No message may hold it, and rsync copies it."""
    (sources / "version").mkdir()
    (sources / "version" / "far").touch()
    os.utime(sources / "version" / "far", ns=(0, 11 * 10**18))
    assert patches.listed(str(sources / "version")) is None


def test_a_version_that_is_removed_meanwhile_is_not_listed(sources: Path) -> None:
    assert patches.listed(str(sources / "version")) is None


def test_a_version_with_much_in_it_is_not_listed(sources: Path) -> None:
    (sources / "version").mkdir()
    for number in range(patches.MOST + 1):
        (sources / "version" / str(number)).touch()
    assert patches.listed(str(sources / "version")) is None
