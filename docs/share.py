"""Write what belongs below ``share`` of a system: ``python docs/share.py FOLDER``.

Man pages of all commands, and the completions of bash, zsh and fish.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import man

COMPLETIONS = {
    "bash": "bash-completion/completions/launcher",
    "zsh": "zsh/site-functions/_launcher",
    "fish": "fish/vendor_completions.d/launcher.fish",
}


def main(folder: Path) -> None:
    """Write all files below ``folder``."""
    man.main(folder / "man")
    for shell, name in COMPLETIONS.items():
        argv = [sys.executable, "-m", "launcher", "completion", "show", shell]
        script = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(script)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
