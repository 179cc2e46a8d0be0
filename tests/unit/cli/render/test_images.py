"""How images of many hosts look."""

from __future__ import annotations

from launcher.cli.render.event_lines import line_of
from launcher.cli.render.images import listed_text
from launcher.records import events as ev
from launcher.transport.answers.images import ImagesThere, ImageThere, RuntimeTrouble

NOW = 1_000_000.0
LONG = "docker.io/pytorch/pytorch:2.9.1-cuda12.8-cudnn9-devel-of-a-team-with-long-names"


def one(number: int, **more: object) -> ImageThere:
    fields = {
        "key": f"{number:020x}",
        "runtime": "podman",
        "id": f"{number:064x}",
        "names": (f"localhost/train:{number}",),
        "bytes": 8_100_000_000,
        "used": NOW - 600 * number,
    }
    return ImageThere(**{**fields, **more})  # type: ignore[arg-type]


def test_a_command_that_is_shown_quotes_a_path() -> None:
    event = ev.ImageUnchanged(2.0, "/my work/Dockerfile", "1" * 64, 1.0, ("python:3.12",))
    line = line_of(event)
    assert line is not None
    assert "launcher image build --pull '/my work/Dockerfile' builds" in line.text


def test_64_hosts_fit_a_screen_the_latest_image_first() -> None:
    there = {
        f"gpu{n:02d}": ImagesThere(
            (one(2, names=(LONG,)), one(1, runs=("calm-otter-3f9a",) if n < 9 else ()))
        )
        for n in range(1, 65)
    }
    lines = listed_text(there, NOW, 100).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:5] == ["train:1", "0" * 12, "8.1", "GB", "podman"]
    assert "gpu[01-64]" in lines[1]
    assert lines[1].endswith("calm-otter-3f9a")
    assert max(map(len, lines)) <= 100
    assert lines[2].split()[0].startswith("…")
    assert "long-names" in lines[2]


def test_it_fits_80_columns_with_long_names_of_images_and_runs() -> None:
    runs = ("pretraining-of-a-large-model-otter-3f9a", "evaluation-of-it-heron-77c1")
    there = {f"gpu{n}": ImagesThere((one(1, names=(LONG,), runs=runs),)) for n in range(1, 9)}
    lines = listed_text(there, NOW, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].endswith("…")
    wide = listed_text(there, NOW, 300).splitlines()
    assert LONG.removeprefix("docker.io/") in wide[1]
    assert wide[1].endswith(", ".join(runs))


def test_users_beyond_two_are_counted_and_what_has_no_size_has_none() -> None:
    mine = one(1, runs=("a-1", "b-2"), containers=("byhand",), bytes=None, id="", names=("/srv/x",))
    (_, row) = listed_text({"gpu1": ImagesThere((mine,))}, NOW, 80).splitlines()
    assert row.split()[:4] == ["/srv/x", "-", "-", "podman"]
    assert row.endswith("a-1, b-2 and 1 more")


def test_a_runtime_that_does_not_answer_is_named_once_for_all_hosts() -> None:
    trouble = {"docker": RuntimeTrouble("denied", "permission denied")}
    there = {f"gpu{n}": ImagesThere((), trouble) for n in (1, 2)}
    lines = listed_text(there, NOW, 80).splitlines()
    assert lines[0].startswith("no images that a run has used")
    assert lines[1] == "gpu[1-2]: docker does not tell of its images: permission denied"
