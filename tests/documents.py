"""What the tests of other systems' documents share: the five of them, and how a command is answered."""

from __future__ import annotations

import contextlib
from pathlib import Path

from click.testing import CliRunner

from launcher.cli import cli
from launcher.errors import InputError

#: Documents whose ways of starting work here: each has a module of tests, ``test_doc_NAME.py``.
DOCUMENTS = {
    "vessl": "VESSL, Distributed Experiments",
    "grid": "Grid, Multi-node training",
    "runai": "Run:ai, Distributed Training",
    "polyaxon": "Polyaxon, Distributed Experiments",
    "osmo": "OSMO, Using PyTorch Distributed (multi-node)",
}


def answered(words: str, hint: str, folder: Path) -> None:
    """Checks that what others call so is refused, in an empty folder, with a hint to what does it
    here."""
    (folder / "train.py").touch()
    (folder / "inventory.yaml").write_text("hosts: {a: }\n")
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, words.split(), standalone_mode=False)
    assert isinstance(done.exception, InputError), (done.exception, done.output)
    assert done.exception.exit_code == 2
    assert hint in done.exception.hint, done.exception.hint
