"""A disk as an installer leaves it, for lab hosts that shall be bare: Debian's smallest, and sshd.

It knows nothing of the launcher. The disk is made once by debootstrap, from the mirror that this
machine's own apt uses, and kept outside the clone; hosts get it as the lower layer of theirs. A
lab has no way out, so the packages that such a host may want to install lie on it as well, as a
repository in a folder, and its apt knows no other.

As a command: `PYTHONPATH=tests python -m support.freshroot` makes it, and prints where it is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: What is on the disk besides Debian's smallest, and what can be installed from the folder.
INSTALLED = ("openssh-server", "sudo")
OFFERED = ("rsync", "python3", "python3-venv")
#: Where its packages lie on the host.
REPOSITORY = "/opt/packages"
#: Part of the disk's name: a new one when what is above or below changes.
VERSION = 4
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ENV = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


class NoRoot(Exception):
    """No such disk can be made here; says why."""


def cache() -> Path:
    """Where what is made once for tests is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "launcher-tests"


def place() -> Path:
    """The folder of the disk for this machine's suite. Raises NoRoot."""
    return cache() / f"{suite()}-{VERSION}"


def ready() -> bool:
    """Whether it is there already."""
    with contextlib.suppress(NoRoot):
        return place().is_dir()
    return False


def require(*programs: str) -> None:
    """Raises NoRoot where a disk cannot be made with these."""
    if os.geteuid() != 0:
        raise NoRoot("debootstrap needs root")
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            raise NoRoot(f"{program} is not installed")


def make() -> Path:
    """The folder, made when it is not there. Raises NoRoot."""
    target = place()
    if target.is_dir():
        return target
    require("debootstrap")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        root = Path(scratch, "root")
        run(
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(INSTALLED)}",
            suite(),
            str(root),
            mirror(),
        )
        _offer(root)
        with contextlib.suppress(OSError):  # somebody else was faster
            root.rename(target)
    return target


def _offer(root: Path) -> None:
    """Puts the packages of ``OFFERED`` and all that they need into a folder that apt reads."""
    own = root / "etc/apt/sources.list"
    # A test's host needs to survive no power cut, and nobody reads its manuals.
    (root / "etc/dpkg/dpkg.cfg.d/quick").write_text(
        "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
    )
    chroot(root, "apt-get", "-qq", "update")
    install = ["install", "-y", "-qq", "--no-install-recommends", "--download-only"]
    chroot(root, "apt-get", *install, *OFFERED)
    folder = root / REPOSITORY.lstrip("/")
    folder.mkdir(parents=True)
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.rename(folder / package.name)
    (folder / "Packages").write_text("\n".join(_described(folder)))
    own.write_text(f"deb [trusted=yes] file:{REPOSITORY} ./\n")
    for lists in (root / "var/lib/apt/lists").iterdir():  # as new: never updated
        shutil.rmtree(lists) if lists.is_dir() else lists.unlink()


def _described(folder: Path) -> Iterator[str]:
    """The paragraphs of an index: deb822, see apt-ftparchive(1)."""
    for package in sorted(folder.glob("*.deb")):
        data = package.read_bytes()
        fields = run("dpkg-deb", "--field", str(package)).strip()
        digest = hashlib.sha256(data).hexdigest()
        yield f"{fields}\nFilename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n"


@functools.cache
def suite() -> str:
    """The code name of this machine's Debian or Ubuntu. Raises NoRoot."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    if found is None or shutil.which("apt-get") is None:
        raise NoRoot("this machine is no Debian or Ubuntu")
    return found[1]


def mirror() -> str:
    """Where this machine's own apt finds the suite."""
    told = run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"
    )
    for uri, release in (line.split() for line in told.splitlines()):
        if release == suite():
            return uri
    raise NoRoot(f"this machine's apt has no source of {suite()}")


def chroot(root: Path, *words: str) -> None:
    """Runs a command in a folder that is a whole system. Raises NoRoot."""
    run("chroot", str(root), *words)


def run(*words: str) -> str:
    """What a command says. Raises NoRoot when it fails."""
    done = subprocess.run(
        words, capture_output=True, text=True, env=_ENV, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NoRoot(f"{' '.join(words)}: {' / '.join(said)}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(make())
    except NoRoot as error:
        sys.exit(str(error))
