"""Inventories of other tools: what the documented samples mean, and what is left out with a note."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from launcher.interop import inventories as imports
from launcher.spec import inventory as inventories
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.inventory_writer import inventory_text
from support import CASE_FILES

CASES = yaml.safe_load((CASE_FILES / "imports.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_documented_sample(case: dict[str, Any]) -> None:
    form, found = imports.read(case["text"], "their file")
    inventory = found.inventory()
    expected = inventories.load(case["ours"], "ours")
    assert form == case["found"]
    assert inventory.hosts == expected.hosts
    assert inventory.groups == expected.groups
    assert len(inventory.notes) == len(case.get("notes", [])), inventory.notes
    for note, start in zip(inventory.notes, case.get("notes", []), strict=True):
        assert note.startswith(start)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_is_written_reads_back_as_the_same(case: dict[str, Any]) -> None:
    inventory = imports.read(case["text"], "their file")[1].inventory()
    text = inventory_text(inventory, ["From \x1b[2J their\nfile"])
    again = inventories.load(text, "ours")
    assert (again.hosts, again.groups) == (inventory.hosts, inventory.groups)
    assert all(f"#   {note}\n" in text for note in inventory.notes)
    assert "secret" not in text
    assert "hunter2" not in text


def test_folding_is_short() -> None:
    inventory = imports.read("n[01-64] slots=8\nbig slots=8\n", "x")[1].inventory()
    assert inventory_text(inventory) == "defaults:\n  gpus: 8\nhosts:\n  n[01-64]:\n  big:\n"


def test_folding_keeps_the_order_of_the_file() -> None:
    text = "n3\nn1\nn2\nm1\n[g]\nn2\nn1\n"
    inventory = imports.read(text, "x", "ansible")[1].inventory()
    again = inventories.load(inventory_text(inventory), "ours")
    assert [host.name for host in again.hosts] == ["n3", "n1", "n2", "m1"]
    assert again.groups == {"g": ("n2", "n1")}


def test_a_format_can_be_named() -> None:
    text = "hosts: gpu[1-2]\n"  # a group called hosts, or a mistake in a file of ours
    assert imports.recognise(imports.Text(text, "x")) is None
    form, found = imports.read(text, "x", "clustershell")
    assert (form, list(found.hosts)) == ("clustershell", ["gpu1", "gpu2"])
    with pytest.raises(InputError) as caught:
        imports.read(text, "x", "clustershel")
    assert caught.value.hint == 'did you mean "clustershell"?'


@pytest.mark.parametrize("name", imports.FORMATS)
def test_nothing_of_ours_is_taken_for_theirs(name: str) -> None:
    for text in (
        "hosts: {a: {user: b}}\ngroup: {}",
        "defaults: {gpus: 8}",
        "hosts: a\n",
        "- a\n- b",
    ):
        assert imports.recognise(imports.Text(text, "x")) is None


@pytest.mark.parametrize("name", imports.FORMATS)
@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "{}", "[]", "a: [", "\t- :", "%"])
def test_nothing_in_it(name: str, text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        imports.read(text, "x", name)[1].inventory()
    assert str(caught.value).startswith(("x:1: ", "x:2: not YAML"))
