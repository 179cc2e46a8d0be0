"""`launcher bootstrap` writes the interfaces by which hosts reach each other, as `check --fix` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

TWO = tuple(labs.HostSpec(name, own_name="") for name in ("one", "two"))


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_the_interface_between_hosts_is_written_once(own: labs.Lab, tmp_path: Path) -> None:
    """Two hosts whose usual network is closed between them, with a cable of their own."""
    one, two = own.hosts.values()
    one.join(two, "ib7", "p9")
    one._drop("blocked", f"ip saddr {two.address}")
    two._drop("blocked", f"ip saddr {one.address}")
    file = tmp_path / "inventory.yaml"
    plain = labs.inventory(own, "/usr/bin/python3")
    file.write_text(plain)
    launcher = Launcher(file, tmp_path, tmp_path / "home", env={"NO_COLOR": "1"})

    def bootstrap(*words: str) -> str:
        done = launcher.call("bootstrap", "-i", str(file), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert bootstrap("--skip", "interface") == "one,two  ready, nothing to do\n"
    shown = bootstrap("--dry-run")
    assert "one  1 change to make\n  interface: write interface: ib7 into " in shown
    assert "two  1 change to make\n  interface: write interface: p9 into " in shown
    assert file.read_text() == plain

    assert "one  ready, 1 change made" in bootstrap()
    expected = plain.replace("one: {}", "one: {interface: ib7}")
    assert file.read_text() == expected.replace("two: {}", "two: {interface: p9}")
    assert bootstrap() == "one,two  ready, nothing to do\n"

    listed = plain.partition("hosts:")[0] + "hosts: [one, two]\n"  # no place for a setting
    file.write_text(listed)
    assert "add by hand: one: {interface: ib7}; two: {interface: p9}" in bootstrap()
    assert file.read_text() == listed
