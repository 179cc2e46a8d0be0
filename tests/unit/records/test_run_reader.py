"""Logs are read in pieces, whatever their size."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.records import run_reader
from launcher.records.run_reader import PIECE, RunReader


@given(st.lists(st.sampled_from([b"", b"a", b"long" * 5, b"\r", b"\0"])), st.booleans(), st.data())
def test_the_last_lines_begin_where_they_would_in_one_reading(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ended: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    whole = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path.write_bytes(whole)
    count = data.draw(st.integers(0, 5))
    parts = whole.split(b"\n")
    kept = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    expected = b"".join(kept[len(kept) - count :] if count < len(kept) else kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_reader, "BLOCK", data.draw(st.integers(1, 9)))
        offset = run_reader._offset_of_last_lines(path, count)
    assert whole[offset:] == expected


@pytest.mark.thorough
@pytest.mark.parametrize("how", [{"tail": 5}, {"merged": True}, {}])
def test_memory_stays_flat(tmp_path: Path, how: dict[str, int]) -> None:
    folder = tmp_path / "run"
    (folder / "logs" / "attempt-0").mkdir(parents=True)
    log = folder / "logs" / "attempt-0" / "rank-0.out"
    with log.open("wb") as file:
        file.truncate(200_000_000)
        file.seek(200_000_000)
        file.write(b"\nlast 1\nlast 2\n")
    (folder / "times.jsonl").write_text('[1.0, "attempt-0/rank-0.out", 200000000]\n')
    (folder / "events.jsonl").touch()
    reader = RunReader(folder)
    reader._log_hosts["attempt-0/rank-0"] = "gpu1"
    tracemalloc.start()
    try:
        count = sum(len(piece.data) for piece in reader.logs(**how))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count >= 200_000_000
    assert peak < 4 * PIECE


def test_bytes_without_a_note_of_their_own_are_as_old_as_the_last_note(tmp_path: Path) -> None:
    """A log is noted once a second: what came right after a note is not new for ever."""
    log = tmp_path / "logs" / "attempt-0" / "rank-0.out"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"old\nlast\n")
    (tmp_path / "events.jsonl").write_text("")
    (tmp_path / "times.jsonl").write_text(json.dumps([time.time() - 60, "attempt-0/rank-0.out", 4]))
    assert list(RunReader(tmp_path).logs(since=30)) == []
    reader = RunReader(tmp_path)
    assert reader._arrived_by("attempt-0/rank-0.out", [(100.0, 4)], 100.5) == 4
