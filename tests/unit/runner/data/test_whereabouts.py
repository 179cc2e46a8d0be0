"""A run goes where its data is, as far as this machine knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runner.data import whereabouts
from launcher.spec.data import DataSet, Version
from launcher.spec.model import Host

HOSTS = tuple(Host(name) for name in ("gpu1", "gpu2", "gpu3", "gpu4"))
CORPUS, FACES = DataSet("corpus", "s3://b/corpus"), DataSet("faces", "/data/faces")
OLD, NEW, SMALL = Version("1" * 32, 9, 900), Version("2" * 32, 9, 1000), Version("3" * 32, 1, 10)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))


def order(*sets: DataSet) -> str:
    """Return the numbers of the hosts in their order."""
    return "".join(host.name[-1] for host in whereabouts.nearest_first(HOSTS, sets))


def test_nothing_is_known() -> None:
    assert order(CORPUS, FACES) == "1234"


def test_fewest_bytes_travel() -> None:
    """An older version is better than nothing, and a small set than none."""
    whereabouts.note(CORPUS, ["gpu3", "gone"], OLD)
    assert order(CORPUS) == "3124"
    whereabouts.note(CORPUS, ["gpu4"], NEW)
    assert order(CORPUS) == "4312"
    whereabouts.note(FACES, ["gpu2"], SMALL)
    assert order(CORPUS, FACES) == "4321"
    assert order(FACES) == "2134"


def test_the_host_of_a_source_comes_first() -> None:
    assert order(DataSet("speech", "gpu2:/scratch/speech")) == "2134"


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    whereabouts.note(CORPUS, ["gpu3"], OLD)
    (file,) = (tmp_path / "data" / "whereabouts").iterdir()
    file.write_text('{"hosts": {"gpu3": 3}}')
    assert order(CORPUS) == "1234"
    whereabouts.note(CORPUS, ["gpu2"], OLD)
    assert order(CORPUS) == "2134"


def test_notes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "MOST", 3)
    for number in range(9):
        whereabouts.note(DataSet("x", f"s3://b/{number}"), ["gpu1"], OLD)
        whereabouts.note(CORPUS, [f"host{number}"], OLD)
    files = list((tmp_path / "data" / "whereabouts").iterdir())
    assert len(files) <= 4
    assert max(file.read_text().count("host") for file in files) <= 4  # with its key
