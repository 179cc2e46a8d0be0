"""Hosts found in files that are already here, for `launcher init`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.fleet import discovery
from launcher.fleet.discovery import Candidate
from launcher.spec import inventory as inventories
from launcher.spec.errors import InputError
from launcher.spec.gpus import MIG
from launcher.spec.model import Facts, Gpu


def test_what_files_name() -> None:
    known, hashed = discovery.from_known_hosts(
        "# a comment\n|1|x|y ssh-rsa A\n@cert-authority *.lab ssh-rsa A\n"
        "gpu1,10.0.0.1 ssh-ed25519 A\n[gpu2]:2222 ssh-rsa A\n*.wild ssh-rsa A\ngpu1 ssh-rsa B\n"
    )
    assert known == (Candidate("gpu1"), Candidate("gpu2", port=2222))
    assert hashed == 1
    config = 'Host a b *.c !d "e"\n  HostName x\nhost=f\nMatch host g\nInclude conf.d/* ~/more\n'
    assert [c.name for c in discovery.from_ssh_config(config)] == ["a", "b", "e", "f"]
    assert discovery.includes(config) == ("conf.d/*", "~/more")
    lines = "gpu[1-2] slots=8\n\n# no\nbig:4 # four\nplain\n"
    assert [(c.name, c.gpus) for c in discovery.from_hostfile(lines, "hosts")] == [
        ("gpu1", 8),
        ("gpu2", 8),
        ("big", 4),
        ("plain", None),
    ]
    with pytest.raises(InputError, match="hosts:2: 'a;b' is not a host"):
        discovery.from_hostfile("a\na;b\n", "hosts")
    assert discovery.from_words("alice@gpu[1-2]:22, big") == (
        Candidate("gpu1", "alice", 22),
        Candidate("gpu2", "alice", 22),
        Candidate("big"),
    )


def test_a_comment_cannot_become_a_setting() -> None:
    """What a host says of itself is text of a stranger."""
    text = discovery.inventory_text([Candidate("a")], {"a": "x\n  evil: {}\x1b[2J"}, "today")
    assert [host.name for host in inventories.load(text, "it").hosts] == ["a"]


def _facts(*gpus: Gpu) -> Facts:
    return Facts("a", "a", "/", "python3", "3.11.2", 8, gpus=gpus, rsync="3.2.7")


def test_gpus_that_were_found_are_a_setting() -> None:
    """Or else a dry run, a --gpus and an exported script would know of none."""
    many = _facts(*(Gpu(index, "NVIDIA RTX A6000") for index in range(4)))
    mig = _facts(Gpu(MIG, "NVIDIA A100 MIG 1g"))
    bound = replace(many, visible={"CUDA_VISIBLE_DEVICES": "0"})
    found = {"a": many, "b": _facts(), "c": mig, "d": many, "e": "no answer", "f": bound}
    chosen = [*map(Candidate, "abcef"), Candidate("d", gpus=2)]
    text = discovery.inventory_text(chosen, found, "today")
    assert "a: # 4 x NVIDIA RTX A6000, 8 cores" in text
    gpus = {host.name: host.gpus for host in inventories.load(text, "it").hosts}
    assert gpus == {"a": 4, "b": None, "c": None, "e": None, "f": None, "d": 2}
