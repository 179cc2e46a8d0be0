"""What `python -m benchmarks` offers, and what its page says about it."""

from __future__ import annotations

import re

from benchmarks.__main__ import ALL
from support import ROOT


def test_every_benchmark_is_run_by_default_and_explained() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text()
    compared = page.partition("## What is compared")[2].partition("## Results")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", compared, re.MULTILINE)) == set(ALL)
