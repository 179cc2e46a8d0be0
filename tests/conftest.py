"""What all tests share: a lab of real hosts, the command as a user calls it, and a watch for leaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab as labs
import pytest
from hypothesis import HealthCheck, settings

from launcher.spec.inventory import ASYNCSSH, TRANSPORTS

ROOT = Path(__file__).parent.parent

# The machine may be busy: how long an example takes says nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

#: `make test &` in a script hears no Ctrl-C, and all that it starts inherits that; tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SPECS = (
    labs.HostSpec("lab1", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("lab2", interface="enp3s0", own_name="127.0.0.1"),
    labs.HostSpec("lab3", interface="ib0", port=2222, behind="lab1"),
)


#: Whoever asks for one of these starts hosts.
_LAB = {
    *("lab", "own", "clean", "launcher", "inventory", "alike", "arena", "cluster", "four", "pair"),
    *("sandbox", "story"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--transport openssh``: hosts of the lab are reached by OpenSSH's client."""
    parser.addoption("--transport", choices=TRANSPORTS, default=ASYNCSSH)


def pytest_configure(config: pytest.Config) -> None:
    """Have all inventories of labs say so."""
    labs.transport = config.getoption("--transport")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as ``lab`` the tests that need real hosts, by their fixtures."""
    for item in items:
        if _LAB & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.lab)


def need_lab() -> None:
    """Skips a test where no lab can be made."""
    if reason := labs.missing():
        pytest.skip(f"no lab of real hosts here: {reason}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Three real hosts: other interface names, one on another port and only behind a jump host."""
    need_lab()
    # `sys.prefix` is the environment that runs the tests, with torch: read-only on every host.
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        yield standing


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[labs.Lab]:
    """A lab for one test alone, to be broken: the first two hosts, or the test's parameter."""
    need_lab()
    specs = getattr(request, "param", SPECS[:2])
    with labs.Lab(specs, tmp_path / "own") as standing:
        yield standing


@pytest.fixture
def inventory(lab: labs.Lab, tmp_path: Path) -> Path:
    """An inventory of the lab's hosts, with the Python that has torch."""
    file = tmp_path / "inventory.yaml"
    file.write_text(labs.inventory(lab, sys.executable))
    return file


@dataclass
class Ran:
    """What a user has after `launcher run`."""

    code: int
    out: str
    err: str
    home: Path

    @property
    def folder(self) -> Path:
        """The run's folder; there must be one."""
        (folder,) = (self.home / "runs").iterdir()
        return folder

    @property
    def receipt(self) -> dict[str, Any]:
        """The receipt on disk."""
        value: dict[str, Any] = json.loads((self.folder / "receipt.json").read_text())
        return value

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """The receipts of all runs so far, in their order."""
        found = [json.loads(f.read_text()) for f in (self.home / "runs").glob("*/receipt.json")]
        return sorted(found, key=lambda receipt: float(receipt["started"]))

    def log(self, name: str, attempt: int = 0) -> bytes:
        """One rank's log here."""
        return (self.folder / "logs" / f"attempt-{attempt}" / name).read_bytes()


@dataclass
class Launcher:
    """Calls the command line in a process of its own, in a work folder of its own."""

    inventory: Path
    work: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """A user's environment, with launcher's home in the test's folder."""
        return {**os.environ, "LAUNCHER_HOME": str(self.home), "PYTHONPATH": str(ROOT), **self.env}

    def argv(self, *words: str) -> list[str]:
        """``launcher run -i INVENTORY words``."""
        return [sys.executable, "-m", "launcher", "run", "-i", str(self.inventory), *words]

    def run(self, *words: str, timeout: float = 90, within: Sequence[str] = ()) -> Ran:
        """Runs to the end; ``within`` is a command that runs a command."""
        done = subprocess.run(
            [*within, *self.argv(*words)],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(), self.home)

    def start(self, *words: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Starts and returns at once; output goes to pipes."""
        return subprocess.Popen(
            [*within, *self.argv(*words)],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """``launcher words`` to its end: any command."""
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def script(self, text: str, name: str = "train.py") -> str:
        """Writes a script into the work folder; returns its name."""
        file = self.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return name


@pytest.fixture
def launcher(inventory: Path, tmp_path: Path) -> Launcher:
    """The command, an empty work folder with a space in its name, and the lab's inventory."""
    work = tmp_path / "work folder's"
    work.mkdir()
    return Launcher(inventory, work, tmp_path / "home")


@pytest.fixture
def clean(lab: labs.Lab) -> Iterator[labs.Lab]:
    """The lab, with all faults undone afterwards; fails a test that leaves a process on a host.

    That one alone: what it left is ended.
    """
    yield lab
    left = []
    for host in lab.hosts.values():
        for process in host.processes():
            if run := process.environ.get("LAUNCHER_RUN_ID"):
                left.append(f"{host.name}: {process.pid} of {run}: {' '.join(process.argv)}")
                host.run("kill", "-9", str(process.pid), check=False)
    assert not left, "processes are left on hosts"


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a pipe or a socket of this process behind.

    Not the lab's own tests: they boot hosts of a lab that goes on, which holds a pipe to each.
    """
    before = _open_files()
    yield
    if request.module.__name__ == "test_lab":
        return
    leaked = _open_files() - before
    assert not [kind for kind in leaked if kind.startswith(("socket", "pipe"))], leaked


def _open_files() -> set[str]:
    found = set()
    folder = "/proc/self/fd"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            found.add(os.readlink(f"{folder}/{name}"))
        except OSError:
            continue
    return found


def of_runs(host: labs.LabHost) -> list[labs.Process]:
    """What carries the mark of a run on a host."""
    return [process for process in host.processes() if "LAUNCHER_RUN_ID" in process.environ]


def wait_for(
    path: Path, text: bytes, process: subprocess.Popen[bytes], seconds: float = 30
) -> None:
    """Until a file holds a text; fails when the process ends before."""
    labs.wait_until(
        lambda: process.poll() is not None or (path.exists() and text in path.read_bytes()),
        f"{text!r} in {path}",
        seconds,
    )
