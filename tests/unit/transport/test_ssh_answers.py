"""What ssh has said about hosts is kept for as long as it would say the same, and no longer."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.spec.home import home
from launcher.transport import program_notes, ssh_settings
from launcher.transport.ssh_answers import FILE, SshAnswers


class Machine:
    """An ssh_config with what it includes, and starts of launcher that ask about a host."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.config = folder, folder / "config"
        self.asked: list[str] = []
        monkeypatch.setenv("LAUNCHER_HOME", str(folder / "home"))
        # Files of a test are young. That they count as older says nothing about what they hold.
        monkeypatch.setattr(program_notes, "SETTLED", -3600.0)
        ask = ssh_settings._ask_ssh

        def asking(name: str, options: list[str]) -> dict[str, tuple[str, ...]]:
            self.asked.append(name)
            return ask(name, options)

        monkeypatch.setattr(ssh_settings, "_ask_ssh", asking)
        self.write(
            "Include more/*.conf\nInclude later\nHost gpu*\n  HostName %h.example\n  Port 2222\n"
        )

    def write(self, text: str) -> None:
        text = text.replace("Include ", f"Include {self.folder}/")
        self.config.write_text(text)

    def start(self, name: str = "gpu1") -> tuple[str, int, bool]:
        """Return where ssh would connect to, as whom to ask for, and whether it was asked."""
        answers = SshAnswers(str(self.config))
        self.asked.clear()
        found = ssh_settings.resolve(name, (), str(self.config), answers)
        answers.save()
        return found.host, found.port, name in self.asked


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/1.conf").write_text("User ann\n")
    (tmp_path / "more/0far.conf").symlink_to("../far")
    return Machine(tmp_path, monkeypatch)


def test_ssh_is_asked_once_about_each_host(machine: Machine) -> None:
    assert machine.start() == ("gpu1.example", 2222, True)
    assert machine.start() == ("gpu1.example", 2222, False)
    assert machine.start("gpu2") == ("gpu2.example", 2222, True)
    assert machine.start("gpu2")[2] is machine.start("gpu1")[2] is False
    assert (home() / FILE).stat().st_mode & 0o777 == 0o600


def test_what_is_kept_is_all_that_ssh_said(machine: Machine) -> None:
    config = str(machine.config)
    said = ssh_settings.resolve("gpu1", [("User", "bob")], config)
    for _ in range(2):
        answers = SshAnswers(config)
        assert ssh_settings.resolve("gpu1", [("User", "bob")], config, answers) == said
        answers.save()
    assert machine.start() == ("gpu1.example", 2222, True), (
        "without that user, it is another question"
    )


def _again(path: Path, text: str) -> None:
    """Write a text of the same length as fast as an editor can, and with the same time."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "the file": lambda at: _again(
        at / "config", (at / "config").read_text().replace("2222", "2223")
    ),
    "an included file": lambda at: _again(at / "more/1.conf", "User bob\n"),
    "a new file where a wildcard looks": lambda at: (at / "more/0.conf").write_text("Port 99\n"),
    "a file that was missing": lambda at: (at / "later").write_text("Port 99\n"),
    "a file that is gone": lambda at: (at / "more/1.conf").unlink(),
    "another file in its place": lambda at: (at / "new").rename(at / "config"),
}


CHANGES["the file that a link leads to, which was missing"] = lambda at: (at / "far").write_text(
    "Port 99\n"
)


@pytest.mark.parametrize("change", CHANGES)
def test_ssh_is_asked_again_after_a_change(machine: Machine, change: str) -> None:
    shutil.copy2(machine.config, machine.folder / "new")
    machine.start()
    CHANGES[change](machine.folder)
    now = ssh_settings.resolve("gpu1", (), str(machine.config))
    assert machine.start() == (now.host, now.port, True)
    assert machine.start() == (now.host, now.port, False)


@pytest.mark.parametrize(
    "line",
    [
        "Match exec true",
        "MATCH Host gpu1 EXEC true",
        'Match originalhost gpu1 "exec" true',
        '"Include" more',
        "Match canonical",
        "CanonicalizeHostname always",
        "IdentityFile ~/${KEY}",
        "IdentityAgent $SSH_AUTH_SOCK",
    ],
)
def test_nothing_is_kept_that_depends_on_more_than_files(machine: Machine, line: str) -> None:
    with machine.config.open("a") as file:
        file.write(f"{line}\n")
    assert machine.start()[2] is machine.start()[2] is True


@pytest.mark.parametrize("included", ["*/x.conf", "~bob/x", "%h.conf", '"not closed'])
def test_nothing_is_kept_where_it_is_unclear_what_is_included(
    machine: Machine, included: str
) -> None:
    with machine.config.open("a") as file:
        file.write(f"Host never\n  Include {included}\n")
    for _ in range(2):
        answers = SshAnswers(str(machine.config))
        machine.asked.clear()
        try:
            ssh_settings.resolve("gpu1", (), str(machine.config), answers)
        except ssh_settings.errors.ConnectError:
            return  # this ssh takes it for a mistake
        answers.save()
        assert "gpu1" in machine.asked


def test_an_inventory_that_names_a_variable_is_always_asked_about(machine: Machine) -> None:
    """A newer ssh may answer with its value."""
    own = [("IdentityFile", '"~/${KEY}"')]
    for _ in range(2):
        answers = SshAnswers(str(machine.config))
        machine.asked.clear()
        ssh_settings.resolve("gpu1", own, str(machine.config), answers)
        answers.save()
        assert "gpu1" in machine.asked


def test_nothing_is_kept_while_the_clock_is_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit after that may look as old as one before."""
    answers = SshAnswers(str(machine.config))
    ssh_settings.resolve("gpu1", (), str(machine.config), answers)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    answers.save()
    assert not (home() / FILE).exists()


def test_what_was_edited_a_moment_ago_is_not_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second edit within the grain of its time would not be noticed."""
    monkeypatch.setattr(program_notes, "SETTLED", 3600.0)
    assert machine.start()[2] is machine.start()[2] is True


def test_notes_that_others_can_write_or_that_are_broken_count_for_nothing(machine: Machine) -> None:
    machine.start()
    notes = home() / FILE
    text = notes.read_text()
    notes.write_text(text.replace("gpu1.example", "evil.example"))
    notes.chmod(0o666)
    assert machine.start() == ("gpu1.example", 2222, True)
    for broken in ("", "{", "[]", "[" * 100_000, '{"form": 1}', text[:-20]):
        notes.write_text(broken)
        assert machine.start() == ("gpu1.example", 2222, True)
    for part in ("usual", "configs", "hosts", "gpu1.example"):
        notes.write_text(text.replace(f'"{part}"', "5", 1))
        assert machine.start() == ("gpu1.example", 2222, True), part
    known = program_notes.read(FILE)
    known["program"][1][0] += 1
    program_notes.write(FILE, known)
    assert machine.start()[2] is True, "another ssh"


def test_a_script_in_the_place_of_ssh_is_always_asked(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin/ssh"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert machine.start()[2] is machine.start()[2] is True
