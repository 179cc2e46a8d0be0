"""A table of a TOML file, as nodes with lines."""

from __future__ import annotations

import pytest

from launcher.spec.errors import DocumentError
from launcher.spec.toml_document import table
from launcher.spec.yaml_document import text, text_map, texts, truth, whole_number

TEXT = """\
[project]
name = "launcher"
grace = "not ours"

[tool.launcher]
python = "conda:vision"
max_restarts = 2
detach = true
secrets = [
  "A",
  "B",
]
"on_stall" = "stop"

[tool.launcher.envs]
LR = 0.1
WORD = "\\u0007 [x] = 1"

[tool.ruff]
src = ["."]
"""


def test_values_and_lines() -> None:
    root = table(TEXT, "pyproject.toml", ("tool", "launcher"))
    assert root is not None
    found = {name: (key.line, value) for name, key, value in root.items()}
    assert {name: line for name, (line, _) in found.items()} == {
        "python": 6,
        "max_restarts": 7,
        "detach": 8,
        "secrets": 9,
        "on_stall": 13,
        "envs": 15,
    }
    assert text(found["python"][1]) == "conda:vision"
    assert whole_number(0)(found["max_restarts"][1]) == 2
    assert truth(found["detach"][1]) is True
    assert texts(found["secrets"][1]) == ("A", "B")
    assert text_map(found["envs"][1]) == {"LR": "0.1", "WORD": "\x07 [x] = 1"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("tool.launcher.grace = '5s'\n", 1),
        ("[tool]\n[tool.other]\n[tool.launcher]\n\n grace='5s'", 5),
        ("[tool]\nlauncher = {grace = '5s'}\n", 2),
    ],
)
def test_other_ways_to_write_it(content: str, line: int) -> None:
    root = table(content, "x", ("tool", "launcher"))
    assert root is not None
    ((name, key, value),) = root.items()
    assert (name, key.line, text(value)) == ("grace", line, "5s")


def test_no_table_and_what_is_none() -> None:
    assert table("[tool.other]\n", "x", ("tool", "launcher")) is None
    with pytest.raises(DocumentError, match="must be a table"):
        table("[tool]\nlauncher = 1\n", "x", ("tool", "launcher"))
    with pytest.raises(DocumentError, match="not TOML") as raised:
        table("[tool.launcher]\ngrace = 5s\n", "x", ("tool", "launcher"))
    assert raised.value.line == 2
    with pytest.raises(DocumentError, match="too deep"):
        table("x = " + "[" * 5000, "x", ("tool", "launcher"))
