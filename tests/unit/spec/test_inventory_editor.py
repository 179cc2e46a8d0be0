"""Edits of an inventory file that leave all else as it is."""

from __future__ import annotations

import pytest

from launcher.spec.errors import InputError
from launcher.spec.inventory import load
from launcher.spec.inventory_editor import with_hosts, with_interface, with_share

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


USERS = "users: [ann]"
#: A project p in the text of an inventory, its new quota and limit, and the text afterwards.
SHARES = [
    (f"p: {{quota: 2, limit: 4, {USERS}}} # c", 3, 6, f"p: {{quota: 3, limit: 6, {USERS}}} # c"),
    (f"p: {{quota: 2, {USERS}}}", 3, 6, f"p: {{quota: 3, limit: 6, {USERS}}}"),
    (f"p: {{{USERS}, quota: 2, limit: 4}}", 2, None, f"p: {{{USERS}, quota: 2}}"),
    (f"p: {{limit: 4, quota: 2, {USERS}}}", 0, None, f"p: {{quota: 0, {USERS}}}"),
    (
        f"p:\n    # one\n    quota: 2 # two\n    {USERS}\n",
        12,
        24,
        f"p:\n    # one\n    quota: 12 # two\n    limit: 24\n    {USERS}\n",
    ),
    (
        f"p:\n    limit: 4 # of old\n    {USERS}\n    quota: 2",
        1,
        None,
        f"p:\n    {USERS}\n    quota: 1",
    ),
    (f"p:\n    {USERS}\n    quota: 2", 2, 2, f"p:\n    {USERS}\n    quota: 2\n    limit: 2"),
    (
        f"p: {{quota: 2, # own\n      {USERS}, # who\n      # all of it:\n      limit: 4}}",
        2,
        None,
        f"p: {{quota: 2, # own\n      {USERS}, # who\n      # all of it:\n      }}",
    ),
    (
        f"p: {{quota: 2, limit: 4, # most\n      # who\n      {USERS}}}",
        1,
        None,
        f"p: {{quota: 1, # most\n      # who\n      {USERS}}}",
    ),
    (f"p: &p\n    quota: 2\n    {USERS}", 2, 3, f"p: &p\n    quota: 2\n    limit: 3\n    {USERS}"),
    (f'"p": {{"quota": 2, {USERS}}}', 2, None, f'"p": {{"quota": 2, {USERS}}}'),
]


@pytest.mark.parametrize(("before", "quota", "limit", "after"), SHARES)
def test_a_share_changes_and_nothing_else(
    before: str, quota: int, limit: int | None, after: str
) -> None:
    around = "# top\nprojects:\n  q: {{quota: 1, users: [eve]}}\n  {}\nhosts: [a, b] # end\n"
    text = around.format(before)
    edited = with_share(text, "i.yaml", "p", quota, limit)
    assert edited == around.format(after)
    (_, share) = load(edited, "").projects
    assert (share.quota, share.limit, share.users) == (quota, limit, ("ann",))


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("projects: {p: {quota: 1, users: [a]}}\n", "q", "there is no such project in i.yaml"),
        ("", "p", "there is no such project in i.yaml"),
        ("projects:\n  p: &p {quota: 1, users: [a]}\n  q: *p\n", "q", "edited safely"),
        ("projects:\n  p: &p {quota: 1, users: [a]}\n  q: *p\n", "p", "edited safely"),
        ("projects: {p: {quota: &n 1, users: [a]}, q: {quota: *n, users: [a]}}\n", "p", "safely"),
        ("projects: {p: {quota: 1, users: [a]}}\n", "p", "a limit of 2 is less than a quota of 3"),
    ],
)
def test_a_share_that_cannot_be_changed_is_refused(text: str, name: str, says: str) -> None:
    limit = 2 if "limit" in says else 9
    with pytest.raises(InputError, match=says):
        with_share(text + "hosts: [a]\n", "i.yaml", name, 3, limit)
