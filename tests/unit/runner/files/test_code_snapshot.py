"""What the code of a run is: which files of real git repositories and plain folders, and when two
are the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.agent.relay import tree
from launcher.runner.files import code_snapshot
from launcher.runner.files.revision import Revision, revision_of
from launcher.spec.errors import InputError

GIT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{
        f"GIT_{who}_{what}": "ada@x"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]
    command += ["-C", str(folder), *words]
    return subprocess.run(command, env=GIT, check=True, capture_output=True, text=True).stdout


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(folder: Path, leave_out: tuple[str, ...] = ()) -> set[str]:
    found = code_snapshot.read(folder, leave_out)
    assert list(found.paths) == sorted(set(found.paths))
    assert found.files == len(found.paths)
    return {os.fsdecode(path) for path in found.paths}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "code it's"
    folder.mkdir()
    return folder


@pytest.fixture
def repo(plain: Path) -> Path:
    git(plain, "init", "-q")
    return plain


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")


# -- in a git repository


def test_tracked_untracked_and_ignored(repo: Path) -> None:
    fill(repo, "tracked.py", "pkg/deep/a.py", "data.bin")
    git(repo, "add", "-f", "data.bin")
    (repo / ".gitignore").write_text("*.log\n*.bin\n/out/\n")
    commit(repo)
    fill(repo, "new.py", "x.log", "other.bin", "out/model.pt", "pkg/out/kept.pt")
    fill(repo, "pkg/__pycache__/a.pyc")
    assert names(repo) == {
        ".gitignore",
        "tracked.py",
        "pkg/deep/a.py",
        "pkg/out/kept.pt",
        "new.py",
        "data.bin",
    }


def test_launcherignore_applies_to_tracked_files_too(repo: Path) -> None:
    fill(repo, "train.py", "papers/a.pdf", "pkg/big.bin", "pkg/small.bin", "new.bin")
    (repo / ".launcherignore").write_text("papers/\n*.bin\n!small.bin\n")
    git(repo, "add", "-A")
    git(repo, "rm", "-q", "--cached", "new.bin")
    assert names(repo) == {".launcherignore", "train.py", "pkg/small.bin"}


def test_a_folder_inside_a_repository(repo: Path) -> None:
    fill(repo, "top.py", "sub/train.py", "sub/new.py", "sub/x.log")
    (repo / ".gitignore").write_text("*.log\n")
    git(repo, "add", "sub/train.py")
    assert names(repo / "sub") == {"train.py", "new.py"}


def test_nested_repositories_and_submodules(repo: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    fill(library, "lib.py", "lib.log")
    (library / ".gitignore").write_text("*.log\n")
    git(library, "init", "-q")
    commit(library)
    git(repo, "submodule", "--quiet", "add", str(library), "vendor/lib")
    shutil.copytree(library, repo / "nested")
    fill(repo, "nested/new.log", "vendor/lib/new.py")
    assert names(repo) == {
        ".gitmodules",
        "vendor/lib/.gitignore",
        "vendor/lib/lib.py",
        "vendor/lib/new.py",
        "nested/.gitignore",
        "nested/lib.py",
    }


def test_a_submodule_that_was_not_fetched(repo: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    fill(library, "lib.py")
    git(library, "init", "-q")
    commit(library)
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    commit(repo)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    assert names(clone) == {".gitmodules"}


def test_what_git_tracks_and_is_no_longer_there(repo: Path) -> None:
    fill(repo, "gone.py", "kept.py", "file_then_folder", "folder_then_file/a.py")
    commit(repo)
    (repo / "gone.py").unlink()
    (repo / "file_then_folder").unlink()
    fill(repo, "file_then_folder/b.py")
    assert names(repo) == {"kept.py", "file_then_folder/b.py", "folder_then_file/a.py"}


def test_a_folder_that_became_a_file(repo: Path) -> None:
    fill(repo, "kept.py", "name/a.py")
    commit(repo)
    shutil.rmtree(repo / "name")
    fill(repo, "name")
    assert names(repo) == {"kept.py", "name"}


ODD = ["a b.py", "it's.py", '"q".py', "two\nlines.py", "größe/学习.py", "-rf", "back\\slash", "#x#"]


@pytest.mark.parametrize("in_git", [True, False])
def test_odd_names(plain: Path, in_git: bool) -> None:
    if in_git:
        git(plain, "init", "-q")
    fill(plain, *ODD)
    Path(os.fsdecode(os.fsencode(plain) + b"/\xff.py")).touch()
    assert names(plain) == {*ODD, "\udcff.py"}


@pytest.mark.parametrize("in_git", [True, False])
def test_links_are_kept_as_links(plain: Path, in_git: bool) -> None:
    if in_git:
        git(plain, "init", "-q")
    fill(plain, "real/a.py")
    (plain / "folder").symlink_to("real")
    (plain / "loop").symlink_to(".")
    (plain / "broken").symlink_to("nowhere")
    os.mkfifo(plain / "pipe")
    assert names(plain) == {"real/a.py", "folder", "loop", "broken"}


# -- in no repository


def test_gitignore_files_without_git(plain: Path) -> None:
    fill(plain, "train.py", "a.log", "keep.log", "data/x.bin", "data/y.txt", "out/m.pt")
    fill(plain, "pkg/a.log", "pkg/b.log", "pkg/out/m.pt", ".git/HEAD.txt", "p/__pycache__/a.pyc")
    (plain / ".gitignore").write_text("*.log\n!keep.log\n/out/\n.gitignore\n")
    (plain / "pkg" / ".gitignore").write_text("!b.log\n")
    (plain / ".launcherignore").write_text("data/*\n!data/y.txt\n")
    assert names(plain) == {
        ".launcherignore",
        "train.py",
        "keep.log",
        "data/y.txt",
        "pkg/b.log",
        "pkg/out/m.pt",
    }


def test_outputs_are_left_out(plain: Path) -> None:
    fill(plain, "train.py", "ckpt/a.pt", "pkg/ckpt/b.pt", "x.log")
    assert names(plain, ("ckpt", "*.log")) == {"train.py"}
    assert names(plain, ("/ckpt/",)) == {"train.py", "pkg/ckpt/b.pt", "x.log"}


# -- folders that cannot be meant, scripts that are not copied


@pytest.mark.parametrize("through_a_link", [False, True])
def test_home_is_refused(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through_a_link: bool
) -> None:
    home = tmp_path / "home"
    home.symlink_to(plain)
    monkeypatch.setenv("HOME", str(home if through_a_link else plain))
    with pytest.raises(InputError, match="would copy everything") as caught:
        code_snapshot.read(home)
    assert "--workdir" in caught.value.hint


@pytest.mark.parametrize("folder", ["/", "/../"])
def test_root_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="would copy everything"):
        code_snapshot.read(Path(folder))


def test_no_folder(plain: Path) -> None:
    fill(plain, "file")
    for name in ("file", "nothing"):
        with pytest.raises(InputError, match="is not a folder"):
            code_snapshot.read(plain / name)


def test_the_script_has_to_be_copied(plain: Path) -> None:
    fill(plain, "pkg/train.py", "secret.py")
    found = code_snapshot.read(plain, ("secret.py",))
    for script in (None, "pkg/train.py", "./pkg//train.py"):
        code_snapshot.require(found, script)
    with pytest.raises(InputError, match=r"secret\.py is not copied"):
        code_snapshot.require(found, "secret.py")
    with pytest.raises(InputError, match=r"there is no pkg/trian\.py") as caught:
        code_snapshot.require(found, "pkg/trian.py")
    assert caught.value.hint == 'did you mean "pkg/train.py"?'


def test_a_script_outside_the_workdir_is_named_so(plain: Path) -> None:
    fill(plain, "work/train.py", "outside.py")
    found = code_snapshot.read(plain / "work")
    for script in ("../outside.py", str(plain / "outside.py")):
        with pytest.raises(InputError, match=r"outside\.py is outside the workdir") as caught:
            code_snapshot.require(found, script)
        assert "--workdir" in caught.value.hint


# -- versions


def version(folder: Path) -> str:
    return code_snapshot.read(folder).version


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "a.py").write_text("other, and longer"),
    "time": lambda folder: os.utime(folder / "a.py", ns=(1, 1)),
    "executable": lambda folder: (folder / "a.py").chmod(0o755),
    "name": lambda folder: (folder / "a.py").rename(folder / "b.py"),
    "one more": lambda folder: fill(folder, "c.py"),
    "one less": lambda folder: (folder / "a.py").unlink(),
    "link name": lambda folder: (folder / "l").rename(folder / "m"),
    "link target": lambda folder: ((folder / "l").unlink(), (folder / "l").symlink_to("b")),
    "link to file": lambda folder: ((folder / "l").unlink(), fill(folder, "l")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_another_version(plain: Path, change: Callable[[Path], object]) -> None:
    fill(plain, "a.py")
    (plain / "l").symlink_to("a.py")
    before = version(plain)
    change(plain)
    assert version(plain) != before


def test_what_is_no_change(plain: Path) -> None:
    fill(plain, "a.py", "pkg/b.py")
    before = version(plain)
    (plain / "empty").mkdir()
    (plain / "a.py").chmod(0o640)
    os.utime(plain / "pkg", ns=(1, 1))
    fill(plain, "pkg/__pycache__/b.pyc")
    assert version(plain) == before


def test_a_faithful_copy_has_the_same_version(plain: Path, tmp_path: Path) -> None:
    fill(plain, *ODD, "a/b/c.py", "a.b", "a0", "z/y")
    (plain / "a.b").chmod(0o755)
    (plain / "link").symlink_to("größe")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(plain), str(copy)], check=True)
    here, there = code_snapshot.read(plain), tree.fingerprint(os.fsencode(copy))
    assert there.hexdigest() == here.version
    assert (there.files, there.bytes) == (here.files, here.bytes)


def test_identity_is_the_place(plain: Path, tmp_path: Path) -> None:
    fill(plain, "a.py")
    link = tmp_path / "link"
    link.symlink_to(plain)
    assert code_snapshot.read(link).identity == code_snapshot.read(plain).identity
    fill(tmp_path / "other", "a.py")
    assert code_snapshot.read(tmp_path / "other").identity != code_snapshot.read(plain).identity


# -- revisions


def test_revision_outside_of_git(plain: Path) -> None:
    assert revision_of(plain) == Revision()


def test_revision(repo: Path) -> None:
    fill(repo, "a.py", "staged.py")
    commit(repo)
    clean = revision_of(repo)
    assert (clean.commit, clean.branch) == (git(repo, "rev-parse", "HEAD").strip(), "main")
    assert (clean.dirty, clean.diff, clean.untracked) == (False, b"", ())
    (repo / "a.py").write_text("changed\n")
    (repo / "staged.py").write_bytes(b"\0\xff binary")
    git(repo, "add", "staged.py")
    fill(repo, "new one.py")
    dirty = revision_of(repo)
    assert (dirty.dirty, dirty.commit, dirty.untracked) == (True, clean.commit, ("new one.py",))
    git(repo, "stash", "-q")
    subprocess.run(["git", "apply"], cwd=repo, input=dirty.diff, check=True, env=GIT)
    assert (repo / "a.py").read_text() == "changed\n"
    assert (repo / "staged.py").read_bytes() == b"\0\xff binary"


def test_an_untracked_file_alone_is_dirty(repo: Path) -> None:
    fill(repo, "a.py")
    commit(repo)
    fill(repo, "new.py")
    assert revision_of(repo).dirty


def test_our_own_records_are_no_code(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LAUNCHER_HOME inside the workdir changes while it is copied."""
    (plain / "mine" / "runs").mkdir(parents=True)
    (plain / "mine" / "runs" / "events.jsonl").touch()
    (plain / "a.py").touch()
    monkeypatch.setenv("LAUNCHER_HOME", str(plain / "mine"))
    paths = code_snapshot.read(plain).paths
    assert b"a.py" in paths
    assert not any(path.startswith(b"mine/") for path in paths)


def test_the_newest_file_is_named(plain: Path) -> None:
    (plain / "old.py").touch()
    (plain / "busy.log").touch()
    os.utime(plain / "busy.log", (4e9, 4e9))
    assert code_snapshot.newest(code_snapshot.read(plain)) == "busy.log"


# -- links to scripts


def refusal(folder: Path, script: str) -> str:
    with pytest.raises(InputError) as caught:
        code_snapshot.require(code_snapshot.read(folder), script)
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_script_behind_a_link_is_found(plain: Path) -> None:
    fill(plain, "real/train.py")
    (plain / "alias").symlink_to("real")
    (plain / "short.py").symlink_to("alias/train.py")
    found = code_snapshot.read(plain)
    for script in ("alias/train.py", "short.py", "./alias/../real/train.py"):
        code_snapshot.require(found, script)


def test_a_link_that_leads_nowhere_on_hosts_is_named(plain: Path) -> None:
    work = plain / "work"
    fill(plain, "other/t.py", "work/sub/s.py", "t.py")
    (work / "outside.py").symlink_to("../other/t.py")
    (work / "dangling.py").symlink_to("nothing.py")
    (work / "absolute").symlink_to(work / "sub")
    assert "leads to" in refusal(work, "outside.py")
    assert "is outside the workdir" in refusal(work, "outside.py")
    assert "does not exist" in refusal(work, "dangling.py")
    assert "which no host has" in refusal(work, "absolute/s.py")
    assert "is outside the workdir" in refusal(work, "../t.py")
    assert "did you mean sub/s.py?" in refusal(work, "../work/sub/s.py")
    (work / ".gitignore").write_text("/link\n")
    (work / "link").symlink_to("sub")
    assert "goes through the link link, which is not copied" in refusal(work, "link/s.py")


def test_what_may_not_be_read_is_left_out_and_named(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(plain, "train.py", "prod.pem", "pgdata/base", "ignored/secret")
    (plain / ".gitignore").write_text("/ignored/\n")
    closed = {str(plain / name) for name in ("prod.pem", "pgdata", "ignored")}
    scan = os.scandir

    def scandir(path: bytes) -> object:  # root may read everything
        if os.fsdecode(path) in closed:
            raise PermissionError
        return scan(path)

    monkeypatch.setattr(os, "access", lambda path, mode: os.fsdecode(path) not in closed)
    monkeypatch.setattr(os, "scandir", scandir)
    found = code_snapshot.read(plain)
    assert found.paths == (b".gitignore", b"train.py")
    assert found.unreadable == (b"pgdata", b"prod.pem")
    assert "cannot be read" in refusal(plain, "prod.pem")
    assert "cannot be read" in refusal(plain, "pgdata/base")


@pytest.mark.parametrize("is_repo", [True, False])
def test_launcherignore_brings_back_what_gitignore_leaves_out(plain: Path, is_repo: bool) -> None:
    """As in one file: the later line wins, and what is in an ignored folder needs its folder's line."""
    if is_repo:
        git(plain, "init", "-q")
    fill(plain, "a.py", "a.bin", "b.bin", "data/x.bin", "data/y.txt", "deep/in/c.bin", "env/d.bin")
    (plain / ".gitignore").write_text("*.bin\n/data/\n/env/\n")
    (plain / ".launcherignore").write_text("!*.bin\nb.bin\n!/data/\ny.txt\n")
    assert names(plain) == {
        ".gitignore",
        ".launcherignore",
        "a.bin",
        "a.py",
        "data/x.bin",
        "deep/in/c.bin",
    }


def test_include_copies_what_is_left_out(repo: Path) -> None:
    fill(repo, "a.py", "data/x.bin", "data/.hidden", "out/last.ckpt", "out/old.ckpt", "z.bin")
    (repo / ".gitignore").write_text("*.bin\n/data/\n")
    include = ("data", "out/last.*", "./z.bin")
    found = code_snapshot.read(repo, ("/out/",), include).paths
    assert found == (
        b".gitignore",
        b"a.py",
        b"data/.hidden",
        b"data/x.bin",
        b"out/last.ckpt",
        b"z.bin",
    )
    for wrong in ("nothing", "*.nothing", "../x", "/etc/passwd", "~/x"):
        with pytest.raises(InputError, match=f"--include {re.escape(wrong)}: "):
            code_snapshot.read(repo, (), (wrong,))


def test_added_files_are_code_that_no_rule_leaves_out(plain: Path, tmp_path: Path) -> None:
    """They take the place of others, and a host's copy of it all is the same version."""
    fill(plain, "train.py", "_added/config.json")
    (plain / ".gitignore").write_text("_added/\n*.pickle\n")
    added = tmp_path / "added"
    fill(added, "_added/call.pickle", "_added/config.json", "train.py")
    found = code_snapshot.read(plain, added_from=added)
    assert found.paths == (b".gitignore",)
    assert found.added == (b"_added/call.pickle", b"_added/config.json", b"train.py")
    assert found.version != code_snapshot.read(plain).version
    copy = tmp_path / "copy"
    shutil.copytree(added, copy)
    shutil.copy2(plain / ".gitignore", copy)
    assert code_snapshot.read_copy(copy, plain).version == found.version
    assert code_snapshot.coarse_version(found, 1) == found.version
    without = code_snapshot.read(plain, added_from=tmp_path / "missing")
    assert (without.version, without.added_from) == (code_snapshot.read(plain).version, None)


def test_a_launcherignore_that_git_ignores_counts(repo: Path) -> None:
    (repo / ".gitignore").write_text(".launcherignore\n")
    (repo / "pkg/deep").mkdir(parents=True)
    (repo / "pkg/deep/x.py").touch()
    assert "pkg/deep/x.py" in names(repo)
    (repo / "pkg/.launcherignore").write_text("x.py\n")
    assert "pkg/deep/x.py" not in names(repo)


def test_a_launcherignore_above_the_folder_counts(repo: Path) -> None:
    fill(repo, "sub/train.py", "sub/x.bin")
    (repo / ".launcherignore").write_text("*.bin\n")
    git(repo, "add", "-A")
    assert names(repo / "sub") == {"train.py"}
