"""What tests share: hosts that can be broken, the command as a user calls it, sample files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Tables of cases, and files of other systems.
CASE_FILES = ROOT / "tests" / "cases"
