"""Modules to import ahead of ranks, as a job asks for them; and the sentences about ranks that do without."""

from __future__ import annotations

import pytest

from launcher.cli.render.preload import preload_text, why_anew, why_cold, why_not_kept
from launcher.jobs import job_file, preload
from launcher.records import events as ev
from launcher.records.reasons import Cold, NotKept
from launcher.spec.errors import InputError


def test_names_come_alone_or_with_commas() -> None:
    assert preload.names(["torch, transformers", "torch._dynamo", "torch"]) == (
        "torch",
        "transformers",
        "torch._dynamo",
    )
    for bad in ("", "my-module", "a..b", "os;x", "größe"):
        with pytest.raises(ValueError, match="cannot be the name of a Python module"):
            preload.names([bad])


def test_only_frameworks_whose_ranks_launcher_starts() -> None:
    given = {"run": ("train.py",), "preload": "torch"}
    assert job_file.make({"flag": {**given, "framework": "torch"}}, {}).preload == ("torch",)
    with pytest.raises(InputError, match="launcher does not start the ranks of torchrun") as found:
        job_file.make({"flag": given}, {})
    assert "--framework torch" in found.value.hint


def test_one_line_tells_what_became_of_it() -> None:
    events = [
        ev.Preloaded(1.0, "gpu1", 2.5),
        ev.Preloaded(1.0, "gpu2", 2.0),
        ev.Preloaded(1.0, "gpu3", 2.0, Cold.THREADS, "3"),
        ev.StartedCold(2.0, "gpu2", Cold.SETS_VARIABLE, "train.py:3 OMP_NUM_THREADS"),
    ]
    assert preload_text(["torch"], events) == (
        "torch imported on gpu[1-2] in 2.5 s; not used on gpu3: the import has started 3 threads, which a "
        "fork would lose; not used on gpu2: train.py:3 OMP_NUM_THREADS is set before the import"
    )
    assert preload_text(["torch"], []) == ""


def test_one_line_tells_what_became_of_it_in_later_attempts() -> None:
    events = [
        *(ev.Preloaded(1.0, host, 2.0) for host in ("gpu1", "gpu2")),
        ev.Preloaded(5.0, "gpu1", 0.01, attempt=1, kept=True),
        ev.ImportedAnew(5.0, "gpu2", Cold.FILE_CHANGED, "/x/torch/__init__.py", 1),
        ev.Preloaded(7.0, "gpu2", 2.0, attempt=1),
        ev.Preloaded(9.0, "gpu1", 0.01, attempt=3, kept=True),
    ]
    assert preload_text(["torch"], events) == (
        "torch imported on gpu[1-2] in 2.0 s; used again on gpu1 by attempts 1,3; imported anew on gpu2: "
        "/x/torch/__init__.py has changed"
    )


def test_one_line_tells_what_stays_for_the_next_run() -> None:
    events = [
        ev.Preloaded(1.0, "gpu1", 0.01, kept=True),
        ev.Preloaded(1.0, "gpu2", 2.0),
        *(ev.KeptWarm(9.0, host, 600.0) for host in ("gpu1", "gpu2")),
        ev.KeptWarm(9.0, "gpu3", 600.0, False),  # of an earlier launcher: there was one reason
        ev.KeptWarm(
            9.0, "gpu4", 600.0, False, why=NotKept.NO_PLACE, detail="No space left on device"
        ),
    ]
    text = preload_text(["torch"], events)
    assert text.startswith(
        "torch imported on gpu2 in 2.0 s; left by an earlier run on gpu1; stays on "
    )
    assert "stays on gpu[1-2] until " in text and "does not stay on gpu3: systemd ends" in text
    assert text.endswith("does not stay on gpu4: launcher's folder there: No space left on device")


def test_what_is_kept_needs_modules_and_ends() -> None:
    given = {"run": ("train.py",), "framework": "torch", "keep_warm": "10m"}
    assert job_file.make({"flag": {**given, "preload": "torch"}}, {}).keep_warm == 600.0
    with pytest.raises(InputError, match="imports nothing ahead") as found:
        job_file.make({"flag": given}, {})
    assert "--preload torch --keep-warm 10m" in found.value.hint
    with pytest.raises(InputError, match="a day at most"):
        job_file.make({"flag": {**given, "preload": "torch", "keep_warm": "25h"}}, {})
    off = {"keep_warm": "0s"}  # instead of a file's
    assert job_file.make({"file": given, "flag": off}, {}).keep_warm == 0.0


@pytest.mark.parametrize("code", Cold)
def test_every_reason_has_a_sentence(code: Cold) -> None:
    assert why_cold(code, "detail") and why_anew(code, "detail")


@pytest.mark.parametrize("code", NotKept)
def test_every_reason_why_nothing_stays_has_a_sentence(code: NotKept) -> None:
    assert why_not_kept(code, "detail")
