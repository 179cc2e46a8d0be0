"""Before a copy: how much it is, and whether hosts have what the job needs."""

from __future__ import annotations

from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal


def test_large_code_is_asked_for_and_told(launcher: Launcher, clean: labs.Lab) -> None:
    """On a terminal it is a question; without one the run says so."""
    with (launcher.work / "data.bin").open("wb") as file:
        file.truncate(250_000_000)
    (launcher.work / "data").mkdir()
    (launcher.work / "data.bin").rename(launcher.work / "data" / "train.bin")
    script = launcher.script("import pathlib; print('data is', pathlib.Path('data').exists())\n")
    words = ["--hosts", "lab1", "--framework", "torch", script]
    told = launcher.run(*words)
    assert told.code == 0, told.err
    assert "code is 250.0 MB in 2 files; largest: data/ 250.0 MB" in told.err
    assert "data is True" in told.out
    environment = {**launcher.environment(), "TERM": "xterm"}
    with Terminal(launcher.argv(*words), launcher.work, environment) as terminal:
        terminal.expect("Leave out data/")
        terminal.type("")
        terminal.expect("data is False")
        assert terminal.end() == 0
    assert (launcher.work / ".launcherignore").read_text() == "/data/\n"


def test_hosts_that_have_the_data_are_preferred(launcher: Launcher, clean: labs.Lab) -> None:
    """And a job whose data no host has is refused before anything starts."""
    clean.hosts["lab2"].run("mkdir", "-p", "/tmp/imagenet")
    launcher.script("print('hello')\n")
    job = launcher.script("framework: torch\nneeds: [/tmp/imagenet]\nrun: train.py\n", "job.yaml")
    try:
        ran = launcher.run(job)
        assert ran.code == 0, ran.err
        assert [host["host"] for host in ran.receipt["hosts"]] == ["lab2"]
        both = launcher.run("--hosts", "lab1,lab2", job)
        assert both.code == 125
        assert "needs: /tmp/imagenet is on lab2 only, and not on lab1" in both.err
        assert "--hosts lab2" in both.err
        assert launcher.run("--no-check", "--hosts", "lab1", job).code == 0
    finally:
        clean.hosts["lab2"].run("rmdir", "/tmp/imagenet")
    none = launcher.run(job)
    assert none.code == 125
    assert "is missing on lab[1-3]" in none.err


def test_ignored_files_that_the_command_names_are_told_and_included(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """A model's vocabulary that git ignores is not on the hosts; the line that says so works."""
    (launcher.work / ".gitignore").write_text("*.pkl\n")
    (launcher.work / "data it's").mkdir()
    (launcher.work / "data it's" / "meta.pkl").write_text("65 characters")
    script = launcher.script("import sys; print(open(sys.argv[1]).read())\n")
    words = ["--hosts", "lab1", "--framework", "torch"]
    named = "data it's/meta.pkl"
    lacks = launcher.run(*words, script, named)
    assert lacks.code == 1
    include = "--include 'data it'\"'\"'s/meta.pkl'"
    assert f"{named} is here, but ignored and not copied: {include}" in lacks.err
    has = launcher.run(*words, "--include", named, script, named)
    assert has.code == 0, has.err
    assert "65 characters" in has.out
    assert "not copied" not in has.err
