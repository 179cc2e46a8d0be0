"""Projects of an inventory: what they may say, and the line of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.records.codec import describe_run, read_run
from launcher.spec import inventory as inventories
from launcher.spec.errors import DocumentError
from launcher.spec.inventory_writer import inventory_text
from launcher.spec.model import Inventory, Job, Layout, Project, Request

HOSTS = "hosts: [h1]\n"
GOOD = (
    "projects:\n"
    "  team-a: {quota: 2, limit: 4, users: [u1, u2]}\n"
    "  b: {quota: 0, users: eve, min_runtime: 30m}\n"
)


def test_projects_are_read_and_written_again() -> None:
    read = inventories.load(HOSTS + GOOD, "inventory.yaml")
    assert read.projects == (
        Project("team-a", 2, ("u1", "u2"), 4),
        Project("b", 0, ("eve",), None, 1800.0),
    )
    again = inventories.load(inventory_text(read), "inventory.yaml")
    assert again.projects == read.projects


def test_a_run_keeps_its_project_and_a_record_without_one_is_as_before() -> None:
    read = inventories.load(HOSTS + GOOD, "inventory.yaml")
    request = Request(Job(("x",)), read, read.hosts, project="b", preemptible=True)
    found, _ = read_run(describe_run(request, Layout("run", ()), 1.0))
    assert (found.project, found.preemptible) == ("b", True)
    assert found.inventory.projects == read.projects
    plain = Request(Job(("x",)), Inventory(read.hosts), read.hosts)
    record: dict[str, Any] = describe_run(plain, Layout("run", ()), 1.0)
    assert not {"project", "preemptible"} & set(record)
    assert "projects" not in record["inventory"]


@pytest.mark.parametrize(
    ("text", "message", "hint", "line"),
    [
        ("projects:\n  a: {quota: -1, users: [u]}\n", "quota", "", 3),
        ("projects:\n  a:\n    quota: 4\n    limit: 2\n    users: [u]\n", "less than its quota of 4", "", 5),
        ("projects:\n  a: {users: [u]}\n", "project a has no quota", "quota: 2", 3),
        ("projects:\n  a: {quota: 1}\n", "project a has no users", "users: [ann", 3),
        ("projects:\n  a: {quota: 1, users: []}\n", "project a has no users", "", 3),
        ("projects:\n  a: {quota: 1, users: [a b]}\n", "a user's name is empty or has a space", "", 3),
        ("projects:\n  a: {qota: 1, users: [u]}\n", "unknown key", "quota", 3),
        ("projects:\n  a: {quota: 1, users: [u], min_runtime: soon}\n", "not a duration", "", 3),
        ("projects:\n  none: {quota: 1, users: [u]}\n", "cannot be the name of a project", "", 3),
        ("projects:\n  ../x: {quota: 1, users: [u]}\n", "cannot be the name of a project", "", 3),
        (f"projects:\n  {'t' * 21}: {{quota: 1, users: [u]}}\n", "cannot be the name", "20", 3),
        ("projects: [a]\n", "a mapping of projects", "", 2),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_line(text: str, message: str, hint: str, line: int) -> None:
    with pytest.raises(DocumentError) as found:
        inventories.load(HOSTS + text, "inventory.yaml")
    assert message in found.value.message
    assert hint in (found.value.hint or "")
    assert found.value.line == line
