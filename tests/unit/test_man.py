"""Man pages: one for each command, which troff reads without a complaint."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from support import docs_scripts


def test_each_command_has_a_page() -> None:
    pages = docs_scripts.load("man").pages()
    assert {"launcher", "launcher-run", "launcher-sweep-ls"} <= set(pages)
    run = pages["launcher-run"]
    for part in ('.SS "Where"', ".SH EXAMPLES", "\\-\\-gpus N|MODEL:N", "launcher run \\-d"):
        assert part in run
    assert docs_scripts.load("man")._roff(".it's C:\\x") == "\\&.it\\(aqs C:\\ex"


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_troff_reads_them_without_a_warning() -> None:
    text = "".join(docs_scripts.load("man").pages().values())
    read = ["groff", "-man", "-Tutf8", "-ww"]
    done = subprocess.run(read, input=text.encode(), capture_output=True, check=True)
    assert done.stderr == b""
