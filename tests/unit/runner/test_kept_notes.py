"""What is remembered of sources and builds, and what of it may go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.agent.base import folder_sums
from launcher.records.record_files import write_json
from launcher.runner import housekeeping, kept_notes
from launcher.runner.data import listing, registry
from launcher.runner.data.registry import KnownSet
from launcher.runner.files import build_context
from launcher.spec.environments import Environment

AGES_AGO = time.time() - 10 * 86400
OLD = AGES_AGO + 86400


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        build_context, "FRESH", -(1 << 62)
    )  # what has just changed is remembered, too
    monkeypatch.setattr(folder_sums, "FRESH", -(1 << 62))


def source(place: Path, text: str) -> Path:
    place.mkdir()
    (place / "x").write_text(text)
    os.utime(place / "x", (AGES_AGO, AGES_AGO))
    return place


def let_all_be_old(home: Path) -> None:
    for path in (*home.glob("data/*/*"), *home.glob("builds/*")):
        os.utime(path, (AGES_AGO, AGES_AGO))


def left(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.glob("*/**/*") if path.is_file()}


def prune(home: Path, active: tuple[Path, ...] = ()) -> set[str]:
    """Delete what is old; return what is left."""
    names = kept_notes.doomed(kept_notes.measured(active), OLD)
    kept_notes.remove(names, active, OLD)
    return left(home)


def test_what_nothing_needs_goes(tmp_path: Path) -> None:
    """The notes of two sources are old; one of them has a name. A version that both have stays."""
    home = tmp_path / "home"
    named, other = source(tmp_path / "named", "same"), source(tmp_path / "other", "same")
    third = source(tmp_path / "third", "else")
    version = listing.read(named).version
    for one in (other, third):
        listing.read(one)
    registry.save(KnownSet("corpus", str(named), version, 0.0))
    kept = {f"data/manifests/{version.version}", "data/sets/corpus.json"}
    note = registry.note_of(str(named)).relative_to(home)
    kept |= {str(note), str(note.with_suffix(""))}
    before = left(home)
    assert prune(home) == before, "all of them are fresh"
    assert housekeeping.measure_here().noted > 0
    let_all_be_old(home)
    assert prune(home) == kept
    assert listing.read(named).read == 0, "it was remembered"
    assert listing.read(third).read == 4, "it is read again"


def test_what_is_used_stays_and_what_was_left_goes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    used = source(tmp_path / "used", "x")
    listing.read(used)
    kept = left(home)
    (home / "data/sums/.new-1").write_text("of a launcher that was killed")
    (home / "data/manifests/.new-2").mkdir()
    (home / "data/manifests/.new-2/manifest").write_text("of another one")
    (home / "data/manifests" / ("0" * 32)).write_text("of a source that nobody knows")
    let_all_be_old(home)
    listing.read(used)
    assert prune(home) == kept
    assert not (home / "data/manifests/.new-2").exists()


def test_versions_of_active_runs_stay(tmp_path: Path) -> None:
    """A spare may still join, and be given what the others have."""
    home = tmp_path / "home"
    version = listing.read(source(tmp_path / "used", "x")).version
    run = home / "runs" / "calm-owl"
    run.mkdir(parents=True)
    about = {"name": "x", "source": "gone", "version": version.version, "files": 1, "bytes": 1}
    write_json(run / "data.json", [about])
    let_all_be_old(home)
    names = kept_notes.doomed(kept_notes.measured(()), OLD)
    kept_notes.remove(names, [run], OLD)  # it has begun since they were shown
    assert left(home) >= {f"data/manifests/{version.version}"}
    assert not left(home) & {name for name in names if "manifests" not in name}
    assert prune(home) == {"runs/calm-owl/data.json"}


def test_builds_go_together(tmp_path: Path) -> None:
    home = tmp_path / "home"
    context = source(tmp_path / "context", "x")
    (context / "Dockerfile").write_text("FROM x\nCOPY x .\n")
    os.utime(context / "Dockerfile", (AGES_AGO, AGES_AGO))
    listed = build_context.listed(Environment(image=str(context / "Dockerfile")))
    image = build_context.Built("sha256:1", 0.0, "gpu1", "podman", "x86_64", "", {})
    build_context.note(listed.identity, build_context.key_of(listed), image)
    (home / "builds" / f"{listed.identity}.log").write_text("STEP 1\n")
    kept = left(home)
    assert len(kept) == 3
    let_all_be_old(home)
    build_context.key_of(listed)  # whatever was built of it is used
    assert prune(home) == kept
    let_all_be_old(home)
    assert prune(home) == set()
