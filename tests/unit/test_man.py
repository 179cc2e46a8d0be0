"""Man pages: one for each command, which troff reads without a complaint."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from types import ModuleType

import pytest

from support import ROOT


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("man", ROOT / "docs" / "man.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_command_has_a_page() -> None:
    pages = writer().pages()
    assert {"launcher", "launcher-run", "launcher-sweep-ls"} <= set(pages)
    run = pages["launcher-run"]
    for part in ('.SS "Where"', ".SH EXAMPLES", "\\-\\-gpus N|MODEL:N", "launcher run \\-d"):
        assert part in run
    assert writer()._roff(".it's C:\\x") == "\\&.it\\(aqs C:\\ex"


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_troff_reads_them_without_a_warning() -> None:
    text = "".join(writer().pages().values())
    read = ["groff", "-man", "-Tutf8", "-ww"]
    done = subprocess.run(read, input=text.encode(), capture_output=True, check=True)
    assert done.stderr == b""
