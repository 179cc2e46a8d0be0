"""Files of images on this machine, while hosts get them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from launcher.cli.render.event_lines import line_of
from launcher.records import events as ev
from launcher.runner import doings
from launcher.runner.images import copying, talk
from launcher.runner.images.bringing import Bringing
from launcher.runner.images.cache import linked
from launcher.runner.reached import Connected
from launcher.spec.environments import Environment
from launcher.spec.errors import HostError
from launcher.transport.answers.images import Image


def test_a_link_stays_while_another_host_copies_from_it(tmp_path: Path) -> None:
    """Removed and made again, it would be gone for a moment, and the other copy would fail."""
    file = tmp_path / "tiny.tar"
    file.write_bytes(b"tar")
    first = linked(tmp_path / "cache", file, "0c1e.tar")
    before = first.lstat()
    assert linked(tmp_path / "cache", file, "0c1e.tar") == first
    assert first.lstat() == before
    assert first.read_bytes() == b"tar"


#: A FAKE of podman on this machine: it writes three megabytes, and cannot go on once it is told to.
PODMAN = """#!/bin/sh
case "$*" in
  *Size*) echo 9000000;;
  image*) echo sha256:%s;;
  save*) while [ "$1" != --output ]; do shift; done
    head -c 3000000 /dev/zero >"$2"; read -r word <"$0.fifo"; exit 1;;
esac
"""


@dataclass
class Lacking:
    """A FAKE host that lacks the image and has no registry; its first look takes two questions."""

    name: str = "gpu1"
    asked: int = 0

    @property
    def agent(self) -> Any:
        return SimpleNamespace(answer=self._answer)

    async def _answer(self, kind: type[Image], op: str, *, do: str, **request: object) -> Image:
        self.asked += 1
        if do == "look":
            said = "its first start, 1 s so far"
            return Image("working", said=said) if self.asked == 1 else Image("missing")
        return Image("failed", said="no registry")


def test_what_this_machine_saves_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of nothing look like a program that hangs."""
    program = tmp_path / "podman"
    program.write_text(PODMAN % ("a" * 64))
    program.chmod(0o755)
    os.mkfifo(f"{program}.fifo")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    quick = ((talk, "PAUSE"), (copying, "PAUSE"), (doings, "TELL"), (doings, "FIRST"))
    for module, name in quick:
        monkeypatch.setattr(module, name, 0.001)
    told: list[ev.ImageBringing] = []

    def hear(event: ev.Event) -> None:
        if isinstance(event, ev.ImageBringing) and event.done == 3000000 and event.total:
            if not told:
                Path(f"{program}.fifo").write_text("stop\n")
            told.append(event)

    bringing = Bringing(Environment(image="x:1"), lambda host: {}, tmp_path / "cache", hear)
    host = Lacking()
    with pytest.raises(HostError, match="there is no image x:1"):
        asyncio.run(bringing.give([cast("Connected", host)]))
    assert (told[0].hosts, told[0].said) == (("gpu1",), "this machine saves it")
    line = line_of(told[0])
    assert line
    assert line.text.startswith(
        "preparing the image on gpu1: gpu1: this machine saves it, 3.0 MB of 9.0 MB"
    )
