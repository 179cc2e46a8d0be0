"""What tests of other systems' documents share: the documents, and how a foreign command is refused."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli import cli
from launcher.spec.errors import InputError
from support import ROOT, environments
from support import lab as labs
from support.command import Launcher

#: Documents whose ways of starting work here: each has a module of tests, ``test_doc_NAME.py``.
DOCUMENTS = {
    "vessl": "VESSL, Distributed Experiments",
    "grid": "Grid, Multi-node training",
    "runai": "Run:ai, Distributed Training",
    "polyaxon": "Polyaxon, Distributed Experiments",
    "osmo": "OSMO, Using PyTorch Distributed (multi-node)",
}


def answered(words: str, hint: str, folder: Path) -> None:
    """Check that another launcher's command is refused, with a hint to what does the same here."""
    (folder / "train.py").touch()
    (folder / "inventory.yaml").write_text("hosts: {a: }\n")
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, words.split(), standalone_mode=False)
    assert isinstance(done.exception, InputError), (done.exception, done.output)
    assert done.exception.exit_code == 2
    assert hint in done.exception.hint, done.exception.hint


@contextlib.contextmanager
def hosts_with(
    name: str, specs: Sequence[labs.HostSpec], folder: Path, gpus: str = ""
) -> Iterator[Launcher]:
    """Start hosts whose Python has a framework (``torch``: that of the tests); yield the command.

    ``gpus`` is what the inventory says of each host. Skip the test without such an environment.
    """
    python = Path(sys.executable)
    if reason := labs.missing() or (environments.missing(name) if name != "torch" else ""):
        pytest.skip(reason)
    if name != "torch":
        python = environments.folder(name) / "bin" / "python"
    work = folder / "work folder's"
    work.mkdir()
    launcher = Launcher(folder / "inventory.yaml", work, folder / "home")
    with labs.Lab(specs, folder / "lab", share=[python.parent.parent, ROOT]) as standing:
        text = labs.inventory(standing, str(python))
        launcher.inventory.write_text(text.replace("{}", f"{{gpus: {gpus}}}") if gpus else text)
        yield launcher
