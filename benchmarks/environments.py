"""An environment of many packages on hosts without a registry: by launcher, and by hand.

The index is on the loopback of this machine, which no host reaches, and links have a limit. Each contender
begins with nothing: no wheels here, no environment there. uv is on the hosts, as after their first run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .data import _limited
from .measure import Sample, race, ratios, run, spread, table
from .place import ROOT, Place, place

sys.path.append(str(ROOT / "tests"))
from support.package_index import PackageIndex

HOSTS, MBIT = 8, 1000
#: What people train with, besides torch; all that these need comes as well.
PACKAGES = (
    *("numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "pillow", "sympy", "networkx"),
    *("requests", "aiohttp", "httpx", "fsspec", "pyyaml", "tqdm", "rich", "click", "jinja2"),
    *("psutil", "protobuf", "regex", "tokenizers", "safetensors", "huggingface-hub", "lxml"),
    *("msgpack", "orjson", "pydantic"),
)
#: Two words, so no shell comes between.
PLAIN = ("--framework", "env", "--", "true", "x")
FOLDER = "/root/by-hand"
UV = Path(sys.prefix, "bin", "uv")


def main(rounds: int, torch: bool = False) -> str:
    """Two tables."""
    with place(HOSTS) as here:
        folder, work = here.scratch / "index", here.scratch / "work"
        work.mkdir()
        wanted = work / "requirements.txt"
        wanted.write_text("\n".join([*PACKAGES, *(["torch"] if torch else [])]) + "\n")
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
        subprocess.run([*download, "-d", str(folder), "-r", str(wanted)], check=True)
        wheels = [path.stat().st_size for path in folder.iterdir()]
        with PackageIndex(folder).serving() as index, _limited(here, MBIT):
            here.env |= {"UV_DEFAULT_INDEX": index.url, "UV_CACHE_DIR": str(here.scratch / "uv")}
            here.env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url}
            first = _first(here, work, rounds, sum(wheels))
            again = _again(here, work, rounds)
    what = f"{len(wheels)} wheels, {sum(wheels) / 1e6:.0f} MB, for {HOSTS} hosts"
    return f"{what}, all links {MBIT} Mbit/s:\n\n{first}\n\n{again}"


class _Fresh:
    """A command that begins with nothing, and the bytes that have left here each time."""

    def __init__(self, here: Place, argv: Sequence[str]) -> None:
        self._here, self._once = here, here.timed(argv, limit=900.0)
        self.sent: list[int] = []

    def __call__(self) -> Sample:
        for path in (self._here.home / "wheels", self._here.scratch / "uv", _here(self._here)):
            shutil.rmtree(path, ignore_errors=True)
        gone = f"chmod -R u+w $d/data; rm -rf $d/data $d/envs {FOLDER} /root/.cache"
        # At once: thousands of files are gone soon, and their removal is not part of it.
        words = ("sh", "-c", f"d=/root/.launcher/host; {gone}")
        with ThreadPoolExecutor(HOSTS) as pool:
            done = [
                pool.submit(host.run, *words, check=False) for host in self._here.lab.hosts.values()
            ]
            for one in done:
                one.result()
        os.sync()
        before = self._here.lab.sent()
        sample = self._once()
        self.sent.append(self._here.lab.sent() - before)
        return sample


def _first(here: Place, work: Path, rounds: int, size: int) -> str:
    pip = f"{sys.executable} -m venv env && env/bin/pip install"
    uv = f"{UV} venv -q -p {sys.executable} env && {UV} pip install -q --offline --python env/bin/python"
    contenders: dict[str, Callable[[], Sample]] = {
        "launcher": _Fresh(here, _run(here, work)),
        "rsync, and pip on each": _Fresh(here, _by_hand(here, work, f"{pip} -q")),
        "rsync, and uv on each": _Fresh(here, _by_hand(here, work, uv)),
    }
    run(_run(here, work), env=here.env, cwd=here.empty, limit=900.0)  # brings the agent, and uv
    samples = race(contenders, rounds, warm=0)
    rows = [
        [
            name,
            spread([one.wall for one in its], ".1f"),
            "1" if name == "launcher" else spread(ratios(samples["launcher"], its)),
            spread([sent / size for sent in contenders[name].sent]),  # type: ignore[attr-defined]
            spread([one.hosts for one in its], ".0f"),
        ]
        for name, its in samples.items()
    ]
    head = ["way", "wall, s", "launcher / it", "sent from here, of the wheels"]
    return table([*head, "CPU on all hosts, s"], rows)


def _again(here: Place, work: Path, rounds: int) -> str:
    """The next run, which finds the environment, and one without any."""
    run(_run(here, work), env=here.env, cwd=here.empty, limit=900.0)
    samples = race(
        {
            "with the environment": here.timed(_run(here, work)),
            "without": here.timed(here.launcher(HOSTS, *PLAIN, workdir=work)),
        },
        rounds * 3,
    )
    rows = [
        [name, spread([one.wall for one in its]), spread([one.cpu for one in its])]
        for name, its in samples.items()
    ]
    more = [a.wall - b.wall for a, b in zip(*samples.values(), strict=True)]
    told = f"What the environment adds to the next run (goal: at most 0.2 s): {spread(more)} s."
    return f"{table(['next run', 'wall, s', 'CPU here, s'], rows)}\n\n{told}"


def _run(here: Place, work: Path) -> list[str]:
    words = ("--uv", ".", "--wheels", "fetch", *PLAIN)
    return here.launcher(HOSTS, *words, workdir=work)


def _here(here: Place) -> Path:
    return here.scratch / "wheels"


def _by_hand(here: Place, work: Path, install: str) -> list[str]:
    """Fetch wheels to this machine, copy them to all hosts at once, and install there."""
    wheels, listed = _here(here), work / "requirements.txt"
    download = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"]
    lines = [shlex.join([*download, "-d", str(wheels), "-r", str(listed)]) + " || exit"]
    there = f"cd {FOLDER} && {install} --no-index --find-links . -r requirements.txt && true"
    for name in here.lab.hosts:
        copy = f"rsync -a -e {shlex.quote(here.ssh())} {wheels}/ {listed} {name}:{FOLDER}/"
        lines.append(f"{{ {copy} && {here.ssh()} {name} {shlex.quote(there)}; }} & p+=($!)")
    return ["bash", "-c", "\n".join([*lines, 'for one in "${p[@]}"; do wait $one || exit; done'])]
