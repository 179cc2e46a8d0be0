"""The lean parts of the library: they do what the modules above them do, and bring none of those along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import launcher.agent
from launcher.agent.base import lean

AGENT = Path(launcher.agent.__file__).parent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.thorough
@settings(max_examples=40)
@given(JSON)
def test_lean_json_is_json(value: object) -> None:
    assert lean.dumps(value) == json.dumps(value, separators=(",", ":"))
    assert lean.loads(f" {json.dumps(value, indent=1)}\n") == value


@pytest.mark.parametrize("text", ["", "{", "[1] 2", '{"a":}', '"\x01"', "nan", "\ufeff1"])
def test_lean_json_refuses_what_json_refuses(text: str) -> None:
    for read in (json.loads, lean.loads):
        with pytest.raises(ValueError):  # noqa: PT011
            read(text)


@pytest.mark.parametrize("text", ["", "{", '{"x', '["', '"\\', "[1,", "nul"])
def test_what_was_cut_is_a_value_error_where_nobody_has_json(text: str) -> None:
    """As in a relay: the C scanner has no exception to raise there."""
    program = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom agent.base import lean\n"
        "try: lean.loads(sys.argv[2])\n"
        "except ValueError as error: print('ValueError', 'json' in sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, str(AGENT.parent), text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "ValueError False\n", done.stderr


#: Prints what they do, and which large modules are there.
LEAN = """
import os, sys
if "json" in sys.argv:
    sys.modules["_json"] = None
if "ctypes" in sys.argv:
    import _ctypes
    del _ctypes.call_function
import agent.relay.relay
from agent.base import lean
print(lean.dumps({"a": [1.5, None, "\\u00e9"]}), lean.loads('[1, {"b": true}]'), lean.prctl(36, 1))
with lean.Socket(lean.socket.AF_UNIX, lean.socket.SOCK_STREAM) as listener:
    listener.bind("")
    listener.listen()
    with lean.Socket(lean.socket.AF_UNIX, lean.socket.SOCK_STREAM) as caller:
        caller.connect(listener.getsockname())
        accepted = listener.accept()[0]
        caller.sendall(b"hello")
        print(accepted.recv(9), os.get_inheritable(accepted.fileno()), int(lean.signal.SIGKILL))
print(*sorted({"ctypes", "enum", "json", "re", "selectors", "signal", "socket"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("lacking", "imported"), [("", []), ("json", ["enum", "json", "re"]), ("ctypes", ["ctypes"])]
)
def test_a_relay_imports_a_large_module_only_where_its_core_is_lacking(
    lacking: str, imported: list[str]
) -> None:
    program = f"import sys; sys.path[:0] = [{str(AGENT.parent)!r}]\n{LEAN}"
    argv = [sys.executable, "-I", "-S", "-c", program, lacking]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        '{"a":[1.5,null,"\\u00e9"]} [1, {\'b\': True}] True',
        "b'hello' False 9",
        " ".join(imported),
    ]
