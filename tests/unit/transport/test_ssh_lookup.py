"""ssh(1) is asked about each host once, and its defaults once, whoever needs them first."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path

import pytest

from launcher.spec.errors import ConnectError
from launcher.spec.model import Host, Inventory
from launcher.transport import ssh_settings
from launcher.transport.ssh_lookup import SshLookup

#: A named fake of `ssh -G`: it notes what it was asked, and answers for the host in its last argument.
FAKE = """#!/bin/sh
for host; do :; done
echo "$host" >> {asked}
[ "$host" = broken ] && { echo "Bad configuration option: nonsense" >&2; exit 255; }
printf 'hostname %s.example\\nport 22\\nuser me\\n' "$host"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the fake notes the hosts it was asked about."""
    file, program = tmp_path / "asked", tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(FAKE.replace("{asked}", str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(ssh_settings, "_defaults", cache(ssh_settings._defaults.__wrapped__))
    return file


INVENTORY = Inventory(tuple(Host(name) for name in ("gpu1", "gpu2", "broken")))


def test_each_host_is_asked_about_once(asked: Path) -> None:
    async def ask() -> list[str]:
        lookup = SshLookup(INVENTORY)
        lookup.ask_ahead(["gpu1", "gpu2"])
        found = await asyncio.gather(*(lookup.settings(n) for n in ("gpu1", "gpu1", "gpu2")))
        await lookup.close()
        return [one.host for one in found]

    assert asyncio.run(ask()) == ["gpu1.example", "gpu1.example", "gpu2.example"]
    assert sorted(asked.read_text().split()) == ["gpu1", "gpu2", "host"], "host: ssh's own defaults"


def test_an_error_is_told_to_whoever_asks_and_to_nobody_else(
    asked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        lookup = SshLookup(INVENTORY)
        lookup.ask_ahead(["broken", "gpu1"])
        assert (await lookup.settings("gpu1")).host == "gpu1.example"
        with pytest.raises(ConnectError, match="Bad configuration option"):
            await lookup.settings("broken")
        nobody = SshLookup(INVENTORY)
        nobody.ask_ahead(["broken"])
        await asyncio.gather(*nobody._asked.values(), return_exceptions=True)

    asyncio.run(ask())
    assert not caplog.records, "an error that nobody asked for is no warning"
