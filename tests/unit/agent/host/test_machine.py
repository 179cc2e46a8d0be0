"""Which machine a host is, and whose a folder is that several of them see."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.host import machine

FIRST = {"boot": "b1", "space": "pid:[1]", "id": "m1", "name": "gpu1"}


def at(base: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> str:
    """Return where a machine works, relative to the folder that the inventory names."""
    monkeypatch.setattr(machine, "identity", lambda: {**FIRST, **changes})
    return str(Path(machine.own_root(str(base))).relative_to(base))


def test_the_first_machine_has_the_folder_and_every_other_one_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "host"
    assert at(base, monkeypatch) == "."
    second = at(base, monkeypatch, boot="b2", id="m2", name="gpu2")
    third = at(base, monkeypatch, boot="b3", name="gpu3")  # made from the first one's image
    assert second.startswith("machines/gpu2-")
    assert third.startswith("machines/gpu3-")
    (base / "agent" / "agent-1").mkdir(parents=True)
    for own in (second, third):
        assert (base / own / "agent" / "agent-1").is_dir()
        assert (base / own / "runs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "change",
    [{"boot": "b9"}, {"name": "renamed"}, {"boot": "b9", "space": ""}],
    ids=["booted", "renamed", "no namespaces"],
)
def test_a_machine_keeps_its_folder(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "host"
    assert at(base, monkeypatch) == "."
    assert at(base, monkeypatch, **change) == "."
    other = {"boot": "b2", "id": "m2", "name": "gpu2"}
    assert at(base, monkeypatch, **other) == at(base, monkeypatch, **other, space="pid:[7]") != "."
    assert not list(base.glob("machine.json.*"))


def test_nobody_takes_a_folder_whose_note_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machine.json").write_text("")
    assert at(tmp_path, monkeypatch).startswith("machines/gpu1-")


def test_a_folder_that_others_may_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(tmp_path, monkeypatch)
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines").chmod(0o777)
    with pytest.raises(PermissionError, match="may be written to by everybody"):
        at(tmp_path, monkeypatch, boot="b2", name="gpu2")


def test_hosts_of_a_sandbox_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCHER_LOCK_SCOPE", raising=False)
    whole = machine.fingerprint()
    assert whole == machine.fingerprint()
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", "/sandbox/local1")
    assert machine.fingerprint() != whole
