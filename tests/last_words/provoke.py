"""Provoke failures and keep the last words of each, as they are in ``corpus/``.

``python tests/last_words/provoke.py [NAME ...]`` with a Python that has the packages in ``provocations.py``
(those that it lacks fail with another error: look at what changed before you commit). It runs without a
network of its own, which needs root. ``tests/unit/records/test_corpus.py`` holds the right answers.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from provocations import PROVOCATIONS, Provocation

CORPUS = Path(__file__).parent / "corpus"
#: Where the script lies in what is kept, and the Python that ran it.
NEUTRAL = "/home/ana/proj"
#: Frames of libraries that are kept at the end of a traceback.
FRAMES = 2
MOST_LINES, WIDEST = 120, 400
_FRAME = re.compile(r'^(?P<before>.*?)  File "(?P<file>[^"]+)", line \d+')
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main(names: list[str]) -> None:
    """Provoke these failures, or all of them."""
    CORPUS.mkdir(exist_ok=True)
    unknown = set(names) - set(PROVOCATIONS)
    if unknown:
        sys.exit(f"no such provocation: {', '.join(sorted(unknown))}")
    for name, provocation in PROVOCATIONS.items():
        if not names or name in names:
            code, text = provoke(provocation)
            (CORPUS / f"{name}.txt").write_text(f"exit {code}\n{text}")
            print(f"{name:32} {code:4} {(text.splitlines() or [''])[-1][:120]}", flush=True)


def provoke(provocation: Provocation) -> tuple[int, str]:
    """Return the exit code and the last words of one failure."""
    folder = Path(tempfile.mkdtemp(prefix="words-"))
    try:
        for name, text in provocation.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        code, output = _run(provocation, folder)
        return code, trimmed(output, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(provocation: Provocation, folder: Path) -> tuple[int, str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **provocation.environment,
    }
    offline = [
        "unshare",
        "--net",
        "--mount",
        "--",
        "sh",
        "-c",
        f'ip link set lo up; {provocation.before}\nexec "$@"',
        "sh",
    ]
    process = subprocess.Popen(
        [*offline, *provocation.command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=provocation.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    return process.returncode, output.decode("utf-8", "replace")


def trimmed(output: str, folder: Path) -> str:
    """Return the output without most frames of libraries, and without names of this machine."""
    text = output.replace(str(folder), NEUTRAL)
    text = re.sub(r"/\S*?/site-packages/", "/home/ana/venv/lib/python3.11/site-packages/", text)
    text = text.replace(str(Path(sys.executable).parent.parent), "/home/ana/venv")
    text = text.replace(sys.base_prefix, "/usr")
    text = re.sub(rf"\b{re.escape(os.uname().nodename)}\b", "node1", text)
    for server in re.findall(r"^nameserver (\S+)", Path("/etc/resolv.conf").read_text(), re.M):
        text = text.replace(server, "192.0.2.53")
    lines = [line[:WIDEST] for line in _short(text.replace("\r\n", "\n").split("\n"))]
    return "\n".join(lines[-MOST_LINES:]).rstrip() + "\n"


def _short(lines: list[str]) -> list[str]:
    """Leave out frames of libraries, but for the last ones in a row."""
    kept: list[str] = []
    frames: list[list[str]] = []
    for line in lines:
        if (match := _FRAME.match(line)) and "/lib/python" in match["file"]:
            frames.append([line])
        elif (
            frames
            and _COLOUR.sub("", line).lstrip("| ").strip()
            and re.match(r"^[^A-Za-z]*    ", line)
        ):
            frames[-1].append(line)
        else:
            kept += [line for frame in frames[-FRAMES:] for line in frame]
            frames = []
            kept.append(line)
    return kept + [line for frame in frames[-FRAMES:] for line in frame]


if __name__ == "__main__":
    main(sys.argv[1:])
