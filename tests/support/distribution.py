"""Build sdist and wheel, and use the wheel as a stranger does: ``python -m support.distribution``.

Beside both come a bill of materials (CycloneDX) and the notes of the release.

The wheel is built from the sdist, installed with what it needs into an empty environment of each Python that
it is for, as far as this machine has it, and runs a job on embedded hosts from a folder in which nothing of
the repository is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from launcher.spec.version import DISTRIBUTION, __version__
from support import ROOT, pythons

DIST = ROOT / "dist"
#: What a wheel has to have, and what it may not.
NEEDED = (
    r"launcher/py\.typed",
    r"launcher/agent/main\.py",
    r"launcher/runner/allreduce/measure\.py",
    r"hydra_plugins/launcher\.py",
    r"torchx_plugins/schedulers/launcher\.py",
    r"launcher/web/static/.*\.js",
    r".*\.dist-info/licenses/LICENSE",
    r".*\.data/data/share/man/man1/launcher-run\.1",
    r".*\.data/data/share/bash-completion/completions/launcher",
    r".*\.data/data/share/zsh/site-functions/_launcher",
    r".*\.data/data/share/fish/vendor_completions\.d/launcher\.fish",
)
#: Exits with what is wrong with a bill.
VALIDATE = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text())
sys.exit(wrong and str(wrong))
"""
UNWANTED = (r"tests/.*", r".*\.pyc", r".*\.yaml", r"(launcher-ssh.*/)?examples/.*")


def main() -> None:
    """Build, look, install and run. Raises what fails."""
    shutil.rmtree(DIST, ignore_errors=True)
    share = ROOT / "build" / "share"
    shutil.rmtree(share, ignore_errors=True)
    _run(sys.executable, ROOT / "docs" / "share.py", share)
    with tempfile.TemporaryDirectory(prefix="launcher-dist-") as name:
        scratch = Path(name)
        builder = _environment(scratch / "builder")
        _pip(builder, "install", "hatchling>=1.25")
        _run(builder, "-m", "hatchling", "build", "-t", "sdist", "-d", DIST, cwd=ROOT)
        (sdist,) = DIST.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch / "source", filter="data")
        (source,) = (scratch / "source").iterdir()
        _run(builder, "-m", "hatchling", "build", "-t", "wheel", "-d", DIST, cwd=source)
        (wheel,) = DIST.glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            _look(files.namelist())
        used = []
        for version, python in _pythons():
            place = scratch / version
            place.mkdir()
            user = _environment(place / "user", python)
            _use(user, wheel, place)
            used.append(version)
        site = _run(user, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        bill = _run(sys.executable, ROOT / "docs" / "sbom.py", site)
        _validate(bill, scratch)
    (DIST / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json").write_text(bill, "utf-8")
    notes = [sys.executable, ROOT / "docs" / "release_notes.py"]
    (DIST / "notes.md").write_text(_run(*notes), "utf-8")
    sys.stdout.write(
        f"{sdist.name} and {wheel.name} in {DIST}: installed, and a job ran, by Python "
    )
    sys.stdout.write(f"{', '.join(used)}\n")


def _pythons() -> Iterator[tuple[str, str]]:
    """Yield the versions that the classifiers name and this machine has, each with its program."""
    text = (ROOT / "pyproject.toml").read_text()
    for version in re.findall(r"Programming Language :: Python :: (3\.\d+)", text):
        with contextlib.suppress(pytest.skip.Exception):
            yield version, pythons.find(version)


def _look(names: Iterable[str]) -> None:
    names = list(names)
    for pattern in NEEDED:
        assert any(re.fullmatch(pattern, name) for name in names), f"the wheel lacks {pattern}"
    for pattern in UNWANTED:
        found = [name for name in names if re.fullmatch(pattern, name)]
        assert not found, f"the wheel has {found[0]}"


def _use(python: Path, wheel: Path, scratch: Path) -> None:
    """Install the wheel, and run a job as the guide for first runs does."""
    _pip(python, "install", f"{wheel}[all]")
    command, work = python.parent / "launcher", scratch / "work"
    work.mkdir()
    (work / "inventory.yaml").write_text("sandbox: true\nhosts: ['local[1-2]']\n")
    (work / "hello.py").write_text("import os\nprint('rank', os.environ['RANK'])\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LAUNCHER_HOME": str(scratch / "home")}
    assert _run(command, "--version", cwd=work, env=env).split()[-1] == __version__
    argv = ["run", "--framework", "torch", "--nodes", "2", "--nproc-per-node", "1", "hello.py"]
    said = _run(command, *argv, cwd=work, env=env)
    assert "rank 0" in said, said
    assert "rank 1" in said, said
    page = python.parent.parent / "share" / "man" / "man1" / "launcher-run.1"
    assert page.exists(), f"no {page}"
    ask = f"from importlib.metadata import version; print(version({DISTRIBUTION!r}))"
    assert _run(python, "-c", ask, cwd=work, env=env).strip() == __version__


def _validate(bill: str, scratch: Path) -> None:
    """Hold a bill against the schema of CycloneDX."""
    python, file = _environment(scratch / "checker"), scratch / "bill.json"
    file.write_text(bill, "utf-8")
    _pip(python, "install", "cyclonedx-python-lib[json-validation]==11.12.0")
    _run(python, "-c", VALIDATE, file)


def _environment(folder: Path, python: str = sys.executable) -> Path:
    _run(python, "-m", "venv", "--without-pip", folder)  # Debian's Python has no pip to put there
    return folder / "bin" / "python"


def _pip(python: Path, *words: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "--python", python, *words)


def _run(*argv: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
