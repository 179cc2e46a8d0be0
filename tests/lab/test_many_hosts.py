"""What hosts have in common is said once."""

from __future__ import annotations

from pathlib import Path

from support import lab as labs
from support.command import Launcher


def test_one_answer_of_exec_is_one_line(launcher: Launcher, clean: labs.Lab) -> None:
    """However long some hosts take for it."""
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "true")
    assert ran.code == 0, ran.err
    asks = "test $(hostname) = lab1 || sleep 0.6; echo 4 CPUs"
    done = launcher.call("exec", "-", "--", "sh", "-c", asks)
    assert [line.split() for line in done.stdout.splitlines()] == [["lab[1-2]", "│", "4", "CPUs"]]


def test_a_refused_login_everywhere_is_not_nothing(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """It was "no runs on 0 hosts", and a success; now one error for all."""
    words = ["ls", "--all-users", "-i", str(launcher.inventory)]
    assert launcher.call(*words).returncode == 0
    text = launcher.inventory.read_text().replace("user: root", "user: nobody-there")
    assert "nobody-there" in text
    launcher.inventory.write_text(text)
    refused = launcher.call(*words)
    assert refused.returncode == 1
    assert "could not ask 3 of 3 hosts" in refused.stderr
    assert "no runs" not in refused.stderr
    assert sum(line.startswith("error: ") for line in refused.stderr.splitlines()) == 1
    assert "lab[1-3]: " in refused.stderr
