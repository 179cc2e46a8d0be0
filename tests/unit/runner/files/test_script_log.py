"""What a batch script printed, in the file of the workdir that it names."""

from __future__ import annotations

import json
from pathlib import Path

from launcher.records import events as ev
from launcher.runner.files.script_log import _write

OUT, ERR = "attempt-1/node-0.out", "attempt-1/node-0.err"


def run_with(folder: Path, *came: tuple[str, bytes]) -> Path:
    """A run's folder, to whose logs these pieces came a second apart."""
    (folder / "logs" / "attempt-1").mkdir(parents=True)
    started = (ev.ProcessStarted(1.0, "gpu1", 1, key, None, 7) for key in ("node-0", "x"))
    lines = (json.dumps(ev.encode(one)) + "\n" for one in started)
    (folder / "events.jsonl").write_text("".join(lines))
    sizes: dict[str, int] = {}
    for second, (name, data) in enumerate(came):
        with (folder / "logs" / name).open("ab") as log:
            log.write(data)
        sizes[name] = sizes.get(name, 0) + len(data)
        with (folder / "times.jsonl").open("a") as times:
            times.write(json.dumps([1000.0 + second, name, sizes[name]]) + "\n")
    return folder


def test_streams_that_share_a_file_come_in_whole_lines_in_their_order(tmp_path: Path) -> None:
    came = ((OUT, b"one\ntw"), (ERR, b"trouble\n"), (OUT, b"o\nlast"), ("attempt-1/x.out", b"no\n"))
    run = run_with(tmp_path / "run", *came)
    work = tmp_path / "work"
    work.mkdir()
    assert _write(run, {OUT, ERR}, work, "logs/deep/a.out") == ""
    assert (work / "logs" / "deep" / "a.out").read_bytes() == b"one\ntrouble\ntwo\nlast"
    assert _write(run, {ERR}, work, "a.err") == ""
    assert (work / "a.err").read_bytes() == b"trouble\n"


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", (OUT, b"x"))
    work = tmp_path / "work"
    (work / "logs").mkdir(parents=True)
    assert _write(run, {OUT}, work, "logs") == "Is a directory"
    (work / "file").touch()
    assert _write(run, {OUT}, work, "file/a.out") in ("File exists", "Not a directory")
    assert _write(run, {OUT}, tmp_path / "of another machine", "a.out") is None


def test_hosts_write_no_file_of_a_machine_that_takes_up_their_run(tmp_path: Path) -> None:
    """Where the file is, and what is in it, would both be their word."""
    run = run_with(tmp_path / "run", (OUT, b"ssh-ed25519 AAAA mallory"))
    (run / "adopted.json").write_text("{}")
    home = tmp_path / ".ssh"
    home.mkdir()
    assert _write(run, {OUT}, home, "authorized_keys") is None
    assert list(home.iterdir()) == []
