"""Hostile files of other tools: an error with file and line, in bounded time; nothing is executed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.fleet import inventory_file
from launcher.interop import inventories as imports
from launcher.spec import inventory as inventories
from launcher.spec.errors import DocumentError
from launcher.spec.inventory_writer import inventory_text
from support import CASE_FILES

CASES = yaml.safe_load((CASE_FILES / "imports.yaml").read_text())
#: Seconds of this processor that any file may take: a hundred times what the documented ones take, and a slow machine.
BOUND = 10.0

HOSTILE = {
    "a pool with a newline in a name": ("p:\n  hosts: ['a\\nb', \"a\\nb\"]", "x:2: 'a\\\\nb' cannot be the name of a h"),
    "shell in a name": ("gpu: {hosts: {'$(touch pwned)': }}", "x:1: '$(touch pwned)' cannot be the name of a host"),
    "shell in a hostfile": ("a;reboot slots=2", "x:1: 'a;reboot' cannot be the name of a host"),
    "backticks": ("[w]\n`id` ansible_user=x", "x:2: '`id`' cannot be the name of a host"),
    "an option as a name": ("p: {hosts: [-oProxyCommand=id]}", "x:1: '-oProxyCommand=id' cannot be the name"),
    "a line break in an address": ("g: {hosts: {a: {ansible_host: \"b\\nProxyCommand id\"}}}", "x:1: 'b\\nProxyCommand id' cannot be address"),
    "a quote in a user": ("g: {hosts: {a: {ansible_user: 'b\"c'}}}", "x:1: 'b\"c' cannot be user"),
    "a nodeset as an address": ("g: {hosts: {a: {ansible_host: 'b[1-9]'}}}", "x:1: 'b[1-9]' cannot be address"),
    "a port that is none": ("g: {hosts: {a: {ansible_port: 0}}}", "x:1: '0' cannot be port: a whole number from 1 to 65535"),
    "a port with many digits": ("[g]\na:" + "9" * 5000, "x:2: '999"),
    "a template": ("g: {hosts: {a: {ansible_host: '{{ x }}'}}}", "x:1: ansible_host is a template"),
    "a template in arguments": ("a ansible_ssh_common_args='-J {{ x }}'", "x:1: ansible_ssh_common_args is a template"),
    "a variable that is a list": ("g: {hosts: {a: {ansible_user: [b]}}}", "x:1: ansible_user must be text"),
    "a vault in a setting": ("g:\n  hosts:\n    a:\n      ansible_user: !vault |\n        $ANSIBLE_VAULT;1.1\n", "x:4: ansible_user is encrypted with ansible-vault"),
    "a vault": ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "x:1: encrypted with ansible-vault"),
    "an object": ("g: {hosts: {a: {ansible_user: !!python/object/apply:os.system ['touch pwned']}}}", "x:1: the YAML tag '!!python/object/apply:os.system' is not supported"),
    "an object as a key": ("p: {hosts: [a], ? !!python/name:os.system : 1}", "x:1: the YAML tag '!!python/name:os.system'"),
    "a tag of one's own": ("p: {hosts: [!boom a]}", "x:1: the YAML tag '!boom' is not supported"),
    "groups in a circle": ("[a:children]\nb\n[b:children]\nc\n[c:children]\na\n[a]\nh\n", "x:"),
    "a group in itself": ("[a:children]\na\n[a]\nh", "x:2: groups contain each other: a > a"),
    "an unknown child": ("[a]\nh\n[b:children]\nc", "x:4: there is no group 'c'"),
    "a circle in YAML": ("a: {children: {b: {children: {a: }}}, hosts: {h: }}", "x:1: groups contain each other"),
    "an anchor in itself": ("a: &a {children: {b: *a}, hosts: {h: }}", "x:1: its aliases (*) make it endless"),
    "a merge of itself": ("a: &a {<<: *a, hosts: {h: }}", "x:1: its aliases (*) make it endless"),
    "laughs": ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)) + "p: {hosts: *i}", "x:1: its aliases (*) make it"),
    "deep": ("a: " + "[" * 200_000, "x:1: nested more than 100 levels deep"),
    "deep blocks": ("- " * 200_000 + "a", "x:1: nested more than 100 levels deep"),
    "deep tabs": ("-\t" * 200_000 + "a", "x:1: "),
    "deep keys": ("? " * 200_000 + "a", "x:1: nested more than 100 levels deep"),
    "deep lines": ("".join(" " * n + "a:\n" for n in range(1500)), "x:10"),
    "a billion hosts": ("[w]\ngpu[1:999999999]", "x:2: '[1:999999999]' is not a range of 1 to 4096"),
    "many ranges": ("[w]\n" + "g[0:9]" * 9, "x:2: '[0:9]' is not a range"),
    "a step of nothing": ("[w]\ng[0:9:0]", "x:2: '[0:9:0]' is not a range"),
    "backwards": ("[w]\ng[9:0]", "x:2: '[9:0]' is not a range"),
    "a billion nodes": ("gpu: gpu[1-999999999]", "x:1: a nodeset of more than 4096 names"),
    "many dimensions": ("gpu: " + "g[0-9]" * 9, "x:1: a nodeset of more than 4096 names"),
    "too many hosts": ("\n".join(f"h{n}" for n in range(5000)), "x:4097: more than 4096 hosts"),
    "too many groups": ("h\n" + "\n".join(f"[g{n}]" for n in range(5000)), "x:4096: more than 4096 groups"),
    "groups of groups of groups": ("\n".join(f"g{n}: @g{n + 1},@g{n + 1}" for n in range(3000)) + "\ng3000: a", ""),
    "children of children": ("\n".join(f"[g{n}:children]\ng{n + 1}" for n in range(3000)) + "\n[g3000]\na", ""),
    "a circle of groups": ("a: @b\nb: @a,c", "x:"),
    "an unknown group": ("a: b,@c", "x:1: there is no group '@c'"),
    "half a nodeset": ("a: gpu[1-3\n", "x:1: not a node set: 'gpu[1-3'"),
    "two operators": ("a: b!&c\n", "x:1: '!&' cannot combine node sets"),
    "a pool without hosts": ("p: {user: a}\nq: {hosts: [b]}", "x:1: pool 'p' has no hosts"),
    "a host of nothing": ("p: {hosts: [{user: a}]}", "x:1: a host without an ip"),
    "a host that is a list": ("p: {hosts: [[a]]}", "x:1: p.hosts[0] must be text, not a list"),
    "one host, two users": ("p: {user: a, hosts: [h]}\nq: {user: b, hosts: [h]}", "x:2: host h appears twice with a different user"),
    "a fleet twice": ("type: fleet\nssh_config: {hosts: [a,\n a]}", "x:3: host a appears twice, first in line 2"),
    "a fleet in a cloud": ("type: fleet\nnodes: 2", "x:1: a fleet without ssh_config"),
    "Ray in a cloud": ("provider: {type: aws, region: x}", "x:1: provider type aws lists no hosts"),
    "slots of nothing": ("a slots=many", "x:1: slots is a number, not 'many'"),
    "an unknown section": ("[a:vars:b]\nc ansible_user=d", "x:1: not a section"),
    "an open quote": ("[a]\nb ansible_user='c", "x:2: No closing quotation"),
    "no value": ("[a:vars]\nb", "x:2: expected name=value, found 'b'"),
    "a key twice": ("p: {hosts: [a], hosts: [b]}", "x:1: \"hosts\" appears twice"),
    "half a line": ("Host a\n  User", "x:2: not a line of an ssh_config: 'User'"),
    "stars": ("Host " + "a" * 250 + " " + "*a" * 2000 + "b\n  User x", ""),
    "patterns for everybody": ("Host " + " ".join(f"h{n}" for n in range(4000)) + "\n" + "Host *x* *\n  User y\n" * 20_000, "x:"),
    "settings for everybody": ("[g]\nh[1:4000]\n[g:vars]\n" + "\n".join(f"launcher_env_A{n}=1" for n in range(20_000)), "x:"),
    "names for everybody": ("\n".join(f"Host h{n}\n  User u" for n in range(4000)), ""),
    "one host, often": ("h:1,h:1\n" * 40_000, "x:"),
    "one setting, often": ("Host *\n" + "User x\n" * 60_000 + "Host " + " ".join(f"h{n}" for n in range(4000)), "x:"),
    "a group and half a source": ("a: h1\nb: @a:,h2\n", "x:2: not a node set"),
    "a long name": ("a" * 254, "x:1: 'aaa"),
    "a long line": ("a " * 500_000, "x:1: not an inventory"),
    "many brackets": ("[" * 100_000 + "a", "x:1: "),
    "no list of hosts": ("Dear all,\nplease find attached", "x:1: not an inventory in any known format"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, error = HOSTILE[name]
    began = time.process_time()
    said, line = "", 1
    try:
        imports.read(text, "x")[1].inventory()
    except DocumentError as complaint:
        said, line = str(complaint), complaint.line
    assert time.process_time() - began < BOUND
    assert said.startswith(error) if error else not said
    assert line
    assert said.isprintable()
    assert len(said) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"gpu1\n\xff\xfe\x00", "FILE:2: not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "FILE:1: not a text file: it contains a NUL byte"),
        ("gpu1\n".encode("utf-16"), "FILE:1: not UTF-8 text"),
        (b"gpu1 slots=8\n" * 800_000, "inventory FILE: larger than 4000000 bytes"),
        (b"hosts: {gpu[1-999999999]: }", "FILE:1: a nodeset of more than 4096 names"),
        (b"hosts: " + b"{a: " * 100_000, "FILE:1: nested more than 100 levels deep"),
        (b"hosts: &a [*a]", "FILE:1: its aliases (*) make it endless"),
        (b"", "FILE:1: the file is empty"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_hostile_inventory(data: bytes, error: str, tmp_path: Path) -> None:
    file = tmp_path / "lab"
    file.write_bytes(data)
    began = time.process_time()
    with pytest.raises(DocumentError) as caught:
        inventory_file.load_inventory(file)
    assert str(caught.value).startswith(error.replace("FILE", str(file)))
    assert time.process_time() - began < BOUND


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_windows_wrote_it(case: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "lab"
    file.write_bytes(b"\xef\xbb\xbf" + case["text"].replace("\n", "\r\n").encode())
    expected = inventories.load(case["ours"], "ours")
    found = inventory_file.load_inventory(file)
    assert (found.hosts, found.groups) == (expected.hosts, expected.groups)


def test_a_mistake_in_a_file_of_ours_is_told_as_one(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("hosts: {a: {usr: b}}\n")
    with pytest.raises(DocumentError) as caught:
        inventory_file.load_inventory(file)
    assert "unknown key" in str(caught.value)
    assert caught.value.hint == 'did you mean "user"?'


#: What means something in one of the formats, or to a terminal.
PIECES = [*":[]{}'\"*@\n =#!,é\x1b", "", "&a", "- ", "9" * 5000]


@pytest.mark.thorough
@settings(max_examples=250)
@given(data=st.data())
def test_a_broken_sample_never_ends_in_a_traceback(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    form = data.draw(st.sampled_from([None, *imports.FORMATS]))
    text = case["text"]
    for _ in range(data.draw(st.integers(1, 4))):
        at, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        piece = data.draw(st.sampled_from(PIECES))
        text = text[:at] + piece + text[min(end, at + 20) :]
    try:
        inventory = imports.read(text, "x", form)[1].inventory()
    except DocumentError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert said.startswith("x:")
        assert said.isprintable()
        return
    again = inventories.load(inventory_text(inventory), "ours")
    assert (again.hosts, again.groups) == (inventory.hosts, inventory.groups)
