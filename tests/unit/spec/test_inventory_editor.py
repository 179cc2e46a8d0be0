"""Edits of an inventory file that leave all else as it is."""

from __future__ import annotations

import pytest

from launcher.spec.errors import InputError
from launcher.spec.inventory import load
from launcher.spec.inventory_editor import with_hosts, with_interface

EDITS = [
    ("hosts:\n  a:\n  b: {}\n", "hosts:\n  a: { interface: x }\n  b: {}\n"),
    ("hosts:\n  b: {}\n  a: {}  # c\n", "hosts:\n  b: {}\n  a: {interface: x}  # c\n"),
    ("hosts: {a: {gpus: 8}, b: }\n", "hosts: {a: {gpus: 8, interface: x}, b: }\n"),
    ("hosts:\n  a: { gpus: 8 } # c\n", "hosts:\n  a: { gpus: 8, interface: x} # c\n"),
    (
        "hosts:\n  # one\n  a: # two\n    # three\n    gpus: 8 # four\n    env: {A: b}\n",
        "hosts:\n  # one\n  a: # two\n    # three\n    interface: x\n    gpus: 8 # four\n    env: {A: b}\n",
    ),
    ("hosts:\n  a: {interface: old} # c\n", "hosts:\n  a: {interface: x} # c\n"),
    ('hosts:\n  "a": # c\n', 'hosts:\n  "a": { interface: x } # c\n'),
]


@pytest.mark.parametrize(("before", "after"), EDITS)
def test_an_edit_changes_nothing_else(before: str, after: str) -> None:
    assert with_interface(before, "i.yaml", {"a": "x"}) == after


def test_a_node_set_is_edited_as_a_whole() -> None:
    text = "hosts:\n  gpu[1-2]: {gpus: 8}\n  c:\n"
    edited = with_interface(text, "i.yaml", {"gpu1": "x", "gpu2": "x"})
    assert {h.name: h.interface for h in load(edited, "").hosts} == {
        "gpu1": "x",
        "gpu2": "x",
        "c": None,
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hosts:\n  gpu[1-2]: {gpus: 8}\n", {"gpu1": "x"}),
        ("hosts:\n  gpu[1-2]: {gpus: 8}\n", {"gpu1": "x", "gpu2": "y"}),
        ("hosts: [gpu1, gpu2]\n", {"gpu1": "x"}),
        ("x: &h {gpus: 1}\n".replace("x:", "defaults:") + "hosts:\n  gpu1: *h\n  b: *h\n", {"gpu1": "x"}),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_is_refused_with_the_line_to_add(
    text: str, wanted: dict[str, str]
) -> None:
    with pytest.raises(InputError) as caught:
        with_interface(text, "i.yaml", wanted)
    assert "gpu1: {interface: x}" in caught.value.hint


NEW = {"d": "d: # 4 cores\n  user: alice\n", "e": "e: # not probed\n"}
ADDED = "  d: # 4 cores\n    user: alice\n  e: # not probed\n"
GROWN = [
    ("hosts:\n  a:\n  b: {}\n", "hosts:\n  a:\n  b: {}\n" + ADDED),
    ("hosts:\n  a: # last", "hosts:\n  a: # last\n" + ADDED),
    (
        "hosts:\n  a:\n    env: # c\n      A: b # d\n\n# end\ngroups: {all: a}\n",
        "hosts:\n  a:\n    env: # c\n      A: b # d\n" + ADDED + "\n# end\ngroups: {all: a}\n",
    ),
    (
        "hosts:\n    a: {gpus: 8,\n        port: 1}\ndefaults: {user: x}\n",
        "hosts:\n    a: {gpus: 8,\n        port: 1}\n"
        + ADDED.replace("  d:", "    d:")
        .replace("    user", "      user")
        .replace("  e:", "    e:")
        + "defaults: {user: x}\n",
    ),
]


@pytest.mark.parametrize(("before", "after"), GROWN)
def test_hosts_are_added_below_the_others(before: str, after: str) -> None:
    assert with_hosts(before, "i.yaml", NEW) == after


@pytest.mark.parametrize(
    "text", ["hosts: [a, b]\n", "hosts:\n- a\n", "hosts: {a: {gpus: 8}}\n", "a slots=8\n"]
)
def test_what_cannot_be_added_safely_is_told(text: str) -> None:
    with pytest.raises(InputError, match="cannot be edited safely") as raised:
        with_hosts(text, "i.yaml", NEW)
    assert "d: # 4 cores user: alice" in raised.value.hint
