"""VESSL's commands are refused with a hint to what does the same here."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.documents import answered

THEIRS = {
    "experiment create --worker-count 2 --framework-type pytorch": "launcher run --nodes N SCRIPT",
    "run --worker-count 2 --framework-type pytorch train.py": "--worker-count: --nodes N",
    "run --framework-type pytorch train.py": "--framework torchrun is the default",
    "run --framework pytorch train.py": "torchrun: ",
    "run --framework torch python -m torch.distributed.launch train.py": "leave out --framework",
    "run --framework torch torchrun --nproc_per_node=2 train.py": "launcher takes this command over",
    "dataset create": "launcher data add NAME FOLDER",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    answered(words, THEIRS[words], tmp_path)
