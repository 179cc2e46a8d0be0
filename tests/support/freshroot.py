"""A disk as an installer leaves it, for bare lab hosts: the smallest Debian, and sshd.

It knows nothing of launcher. The disk is made once by debootstrap, from the mirror that this
machine's own apt uses, and kept outside the clone; hosts get it as the lower layer of theirs. A
lab is offline, so the disk also has a folder with the packages that such a host may install: the only
repository of its apt.

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
    """No such disk can be made here, for this reason."""


def cache() -> Path:
    """Return the folder for what is made once for tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "launcher-tests"


def place() -> Path:
    """Return the folder of the disk for this machine's suite. Raise NoRoot."""
    return cache() / f"{suite()}-{VERSION}"


def ready() -> bool:
    """Return whether the disk is there."""
    with contextlib.suppress(NoRoot):
        return place().is_dir()
    return False


def require(*programs: str) -> None:
    """Raise NoRoot if a disk cannot be made here with these programs."""
    if os.geteuid() != 0:
        raise NoRoot("debootstrap needs root")
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            raise NoRoot(f"{program} is not installed")


def make() -> Path:
    """Return the folder; make the disk if it is not there. Raise NoRoot."""
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
    """Put the packages of ``OFFERED``, and all that they need, into a folder that apt reads."""
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
    """Yield the paragraphs of a package index: deb822, see apt-ftparchive(1)."""
    for package in sorted(folder.glob("*.deb")):
        data = package.read_bytes()
        fields = run("dpkg-deb", "--field", str(package)).strip()
        digest = hashlib.sha256(data).hexdigest()
        yield f"{fields}\nFilename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n"


@functools.cache
def suite() -> str:
    """Return the code name of this machine's Debian or Ubuntu. Raise NoRoot."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.M)
    if found is None or shutil.which("apt-get") is None:
        raise NoRoot("this machine is no Debian or Ubuntu")
    return found[1]


def mirror() -> str:
    """Return where this machine's apt finds the suite."""
    told = run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"
    )
    for uri, release in (line.split() for line in told.splitlines()):
        if release == suite():
            return uri
    raise NoRoot(f"this machine's apt has no source of {suite()}")


def chroot(root: Path, *words: str) -> None:
    """Run a command in a folder that holds a whole system. Raise NoRoot."""
    run("chroot", str(root), *words)


def run(*words: str) -> str:
    """Return the output of a command. Raise NoRoot if it fails."""
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
