"""Projects share GPUs: quotas, what is borrowed, and what is taken back, by two real users."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launcher.spec.frozen import frozen
from launcher.transport.object_store import Bucket
from support import lab as labs
from support import object_store
from support.command import Launcher
from support.waiting import Queue

#: Two hosts have no GPUs: they decide all the same.
HOSTS = (
    labs.HostSpec("gpu1", gpus=4, own_name=""),
    labs.HostSpec("gpu2", gpus=0, own_name=""),
    labs.HostSpec("gpu3", gpus=0, own_name=""),
)
TWO_OF_FOUR = (HOSTS[0], labs.HostSpec("gpu2", gpus=4, own_name=""), HOSTS[2])
PROJECTS = """
projects:
  team-a: {quota: 2, limit: 4, users: [root]}
  team-b: {quota: 1, users: [u2], min_runtime: 0s}
"""
#: Counts on from what its outputs say, and saves when it is asked to stop.
COUNTS = """
import os, pathlib, signal, sys, time
step = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "step.txt")
done = int(step.read_text()) if step.exists() else 0
def save(*_):
    step.write_text(str(done + 7))
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("from step", done, "attempt", os.environ["LAUNCHER_ATTEMPT"], flush=True)
while not pathlib.Path("/tmp", sys.argv[1]).exists():
    time.sleep(0.02)
"""
#: Writes which attempt it is, and waits.
WRITES = """
import os, pathlib, sys, time
path = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "attempt.txt")
path.write_text(os.environ["LAUNCHER_ATTEMPT"])
print("from step 0", flush=True)
while not pathlib.Path("/tmp", sys.argv[1]).exists():
    time.sleep(0.02)
"""
#: Says that its run is within the quota of team-a, and wants the GPUs of whoever has some.
FORGE = """
import binascii, socket, time
kept = []
def hold(name):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind("\\0launcher/" + name)
    kept[-1].listen()
mine = "%08x" % binascii.crc32(b"evil")
for name in ("wait/evil/n.1.1.0.1.1x2.q", "of/team-a/evil/2.0.wq"):
    hold(name)
open("/tmp/forged", "w").close()
while True:
    for line in open("/proc/net/unix"):
        name = line.partition("@launcher/of/team-b/")[2].partition("/")[0]
        if name and ("take/%s/" % name) not in line:
            try:
                hold("take/%s/%s" % (name, mine))
                open("/tmp/asked", "w").close()
            except OSError:
                pass
    time.sleep(0.1)
"""


@pytest.fixture
def users(own: labs.Lab, launcher: Launcher, tmp_path: Path) -> Any:
    """Root's queue, and that of u2 on the same hosts."""
    for host in own.hosts.values():
        host.add_user("u2", "not needed")
        host.let_in("u2", own.identity_file.with_suffix(".pub").read_bytes())
    (tmp_path / "u2").mkdir()
    one = Queue(own, launcher)
    two = Queue(own, Launcher(tmp_path / "u2.yaml", tmp_path / "u2", tmp_path / "home of u2"))
    text = one.launcher.inventory.read_text() + PROJECTS
    one.launcher.inventory.write_text(text)
    text = text.replace("user: root", "user: u2").replace('"python3"', '"/usr/bin/python3"')
    two.launcher.inventory.write_text(text)
    try:
        yield one, two
    finally:
        one.close()
        two.close()


def until_it_counts(queue: Queue, name: str) -> None:
    """Wait until a run counts, and saves when it is asked to stop, and its hosts have what they need to
    take it back into the queue."""
    queue.until(name, "AllStarted")
    for host in [host for host in queue.lab.hosts if host != "gpu1"]:
        labs.wait_until(
            lambda host=host: f"/witness/{name}-" in queue.sockets(host),  # type: ignore[misc]
            f"{host} decides with them",
            60,
        )
    logs = f"runs/{name}-*/logs/attempt-0/*.out"
    labs.wait_until(
        lambda: any(b"from step 0" in f.read_bytes() for f in queue.launcher.home.glob(logs)),
        f"{name} counts",
        60,
    )


def shares(queue: Queue) -> dict[str, Any]:
    """Return what `launcher project ls` says of each project."""
    named = ("-i", str(queue.launcher.inventory))
    done = queue.launcher.call("project", "ls", *named, "--json")
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["projects"]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_who_borrows_gives_back_and_continues_where_it_was(users: tuple[Queue, Queue]) -> None:
    """Another user's run obeys one that is within its quota, and no forged one."""
    root, u2 = users
    host = root.lab.hosts["gpu1"]
    host.add_user("mallory", "not needed")
    host.write("/srv/forge.py", FORGE.encode())
    u2.launcher.script(COUNTS, "counts.py")
    of_b = ("--hosts", "gpu1", "--gpus", "4", "--project", "team-b")
    words = (*of_b, "--preemptible", "--preload", "json.tool", "python3", "counts.py")
    borrower = u2.start("borrower", *words, command="borrower")
    until_it_counts(u2, "borrower")
    host.spawn("runuser", "-u", "mallory", "--", "/usr/bin/python3", "/srv/forge.py")
    labs.wait_until(lambda: host.exists("/tmp/asked"), "mallory asks", 30)
    assert (shares(root)["team-b"]["used"], shares(root)["team-b"]["borrowed"]) == (4, 3)
    owner = root.start("owner", "--hosts", "gpu1", "--gpus", "2", "--project", "team-a")
    labs.wait_until(lambda: root.until("owner", "RunWaits")["why"] == "taking-back", "its turn", 60)
    assert list(root.until("owner", "RunWaits")["users"].values()) == ["u2"]
    root.until("owner", "AllStarted")
    back = u2.until("borrower", "TakenBack")
    assert (back["user"], back["project"]) == ("root", "team-a")
    assert back["run"].startswith("owner-")
    again = u2.until("borrower", "WaitsAgain")
    assert (again["attempt"], again["hosts"]) == (1, ["gpu1"])
    (folder,) = u2.launcher.home.glob("runs/borrower-*")
    labs.wait_until(
        lambda: [one.read_text() for one in folder.glob(".hosts/*/outputs/step.txt")] == ["7"],
        "what it wrote is here",
        60,
    )
    shown = json.loads(root.call("--json").stdout)
    assert [one["project"] for one in shown["waiting"] if one["user"] == "u2"] == ["team-b"]
    host.run("pkill", "-u", "mallory")  # who waits first keeps GPUs, as anybody may
    root.let_go("owner")
    labs.wait_until(
        lambda: u2.until("borrower", "AllStarted")["attempt"] == 1, "the second attempt", 60
    )
    u2.let_go("borrower")
    out, err = borrower.communicate(timeout=60)
    assert borrower.returncode == 0, err
    assert b"from step 0 attempt 0" in out and b"from step 7 attempt 1" in out
    taken = [one["kept"] for one in u2.events("borrower") if one["event"] == "Preloaded"]
    assert taken == [False, True], err
    assert owner.wait(60) == 0
    assert {name: one["used"] for name, one in shares(root).items()} == {"team-a": 0, "team-b": 0}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_hosts_take_gpus_back_for_a_run_that_nobody_follows(users: tuple[Queue, Queue]) -> None:
    """Of another user's run, which has them for as long as its project lets it."""
    root, u2 = users
    for queue in users:
        text = queue.launcher.inventory.read_text()
        queue.launcher.inventory.write_text(text.replace("min_runtime: 0s", "min_runtime: 12s"))
    u2.launcher.script(COUNTS, "counts.py")
    words = ("--hosts", "gpu1", "--gpus", "4", "--project", "team-b", "--preemptible")
    u2.start("borrower", *words, command="python3 counts.py borrower")
    until_it_counts(u2, "borrower")
    owner = root.detached(
        "owner", "--hosts", "gpu1", "--gpus", "2", "--project", "team-a",
        where="gpu1, which starts it",
    )  # fmt: skip
    assert not [one for one in u2.events("borrower") if one["event"] == "TakenBack"]
    assert "take/borrower-" in root.sockets("gpu1")
    begun = root.until_there("gpu1", owner.name, "BegunThere")
    back = u2.until("borrower", "TakenBack")
    assert (back["user"], back["project"], back["run"]) == ("root", "team-a", owner.name)
    assert u2.until("borrower", "WaitsAgain")["attempt"] == 1
    assert begun["hosts"] == ["gpu1"]
    assert shares(root)["team-a"]["used"] in (0, 2)
    attached = root.launcher.call("attach", "owner")
    assert attached.returncode == 0, attached.stderr
    u2.let_go("borrower")


@frozen
class Preempted:
    """A run of u2 that gave its GPUs back to root's `owner`, and waits again; its outputs go to a store."""

    process: subprocess.Popen[bytes]
    name: str
    bucket: Bucket

    @property
    def manifest(self) -> Any:
        """What the store says of the run's outputs."""
        return json.loads(self.stored(".launcher.json"))

    def has(self, path: str) -> bool:
        """Return whether the store has a file of the run, and says which it has."""
        names = {one.key for one in self.bucket.objects(f"runs/{self.name}/")}
        return {f"runs/{self.name}/{path}", f"runs/{self.name}/.launcher.json"} <= names

    def stored(self, path: str) -> bytes:
        """Return a file of the run as the store has it."""
        return self.bucket.get(f"runs/{self.name}/{path}")


@contextmanager
def preempted(
    users: tuple[Queue, Queue], folder: Path, script: str, *options: str
) -> Iterator[Preempted]:
    root, u2 = users
    u2.launcher.script(script, "script.py")
    with object_store.running(folder / "weed", root.lab.address) as store:
        store.put("kept", {})
        u2.launcher.env |= store.environment
        of_b = ("--gpus", "4", "--project", "team-b", "--preemptible")
        words = (*of_b, "--output-to", "s3://kept/runs", *options, "python3", "script.py")
        process = u2.start("borrower", *words, command="borrower")
        until_it_counts(u2, "borrower")
        root.start("owner", "--hosts", "gpu1", "--gpus", "2", "--project", "team-a")
        assert u2.until("borrower", "WaitsAgain")["attempt"] == 1
        (run,) = u2.launcher.home.glob("runs/borrower-*")
        yield Preempted(process, run.name, store.bucket("kept"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
@pytest.mark.slow
def test_what_a_run_wrote_is_in_its_store_before_it_waits_again(
    users: tuple[Queue, Queue], tmp_path: Path
) -> None:
    """It may wait for long, and go on elsewhere. Only at its end the store says that it has all."""
    root, u2 = users
    there = ("--hosts", "gpu1", "--keep-on-host", "*")
    with preempted(users, tmp_path, COUNTS, *there) as run:
        labs.wait_until(lambda: run.has("step.txt"), "it is stored", 60)
        assert run.stored("step.txt") == b"7"
        assert run.manifest["whole"] is False
        root.let_go("owner")
        u2.let_go("borrower")
        _, err = run.process.communicate(timeout=90)
        assert run.process.returncode == 0, err
        assert run.manifest["whole"] is True
        assert [one["path"] for one in run.manifest["files"]] == ["step.txt"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [TWO_OF_FOUR], indirect=True)
@pytest.mark.slow
def test_the_store_has_the_newest_after_a_preemption_and_a_lost_host(
    users: tuple[Queue, Queue], tmp_path: Path
) -> None:
    """Under the name that the lost one's file had: `pull --from store` would bring the old one else."""
    root, u2 = users
    again = ("--nodes", "1", "--max-restarts", "1", "--lost-after", "3s")
    with preempted(users, tmp_path, WRITES, *again) as run:
        labs.wait_until(lambda: run.has("attempt.txt"), "it is stored", 60)
        assert run.stored("attempt.txt") == b"0"
        root.let_go("owner")
        for attempt, then in ((1, root.lab.hosts["gpu1"].power_cut), (2, lambda: None)):
            labs.wait_until(
                lambda now=attempt: u2.until("borrower", "AllStarted")["attempt"] == now,  # type: ignore[misc]
                f"attempt {attempt}",
                90,
            )
            then()
        root.lab.hosts["gpu2"].write("/tmp/borrower", b"")
        _, err = run.process.communicate(timeout=90)
        assert b"gpu2 replaces gpu1" in err
        manifest = run.manifest
        found = [(one["path"], one["host"]) for one in manifest["files"]]
        assert found == [("attempt.txt", "gpu2")], manifest
        assert manifest["missing"].keys() == {"gpu1"}, "its host does not answer"
        u2.launcher.call("pull", run.name, str(tmp_path / "to"), "--from", "store")
        assert (tmp_path / "to" / "attempt.txt").read_bytes() == b"2"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
@pytest.mark.slow
def test_a_quota_holds_and_most_hosts_decide(users: tuple[Queue, Queue]) -> None:
    root, _ = users
    stranger = root.launcher.run(
        "--framework", "env", "--project", "team-b", "--gpus", "1", "--wait", "forever", "true"
    )
    assert "root on gpu1 may not use project team-b: its users are u2" in stranger.err
    assert stranger.code == 2
    root.start("first", "--gpus", "2", "--project", "team-a")
    root.until("first", "AllStarted")
    at_once = root.launcher.run(
        "--framework", "env", "--no-wait", "--gpus", "1", "--project", "team-a", "true"
    )
    assert (at_once.code, "--preemptible" in at_once.err) == (75, True), at_once.err
    second = root.start("second", "--gpus", "1", "--project", "team-a")
    told = root.until("second", "RunWaits")
    assert (told["why"], told["used"], told["most"]) == ("quota", 2, 2)
    third = root.start("third", "--gpus", "1")  # of no project, and held back by nobody's rule
    root.until("third", "AllStarted")
    assert "beyond the quota of project team-a" in root.call().stdout
    for name in ("gpu2", "gpu3"):
        root.lab.hosts[name].power_cut()
    labs.wait_until(
        lambda: root.until("second", "RunWaits")["why"] == "no-majority", "too few hosts", 60
    )
    for name in ("first", "third", "second"):
        root.lab.hosts["gpu1"].write(f"/tmp/{name}", b"")
    root.lab.hosts["gpu2"].boot()
    assert (second.wait(60), third.wait(60)) == (0, 0)


THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2, own_name="") for n in (1, 2, 3))
SHARED = """
projects:
  team-c: {quota: 2, users: [root, u2]}
"""


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_runs_of_two_users_in_one_project_decide_at_once_and_agree(
    users: tuple[Queue, Queue],
) -> None:
    """Two are started by their hosts, and two by launchers: none begins before the one before has ended."""
    root, u2 = users
    for queue in users:
        file = queue.launcher.inventory
        file.write_text(file.read_text().replace(PROJECTS, SHARED))
    of_c = ("--gpus", "2", "--nodes", "1", "--project", "team-c")
    root.start("first", *of_c, "--hosts", "gpu1")
    root.until("first", "AllStarted")
    few = ("--master-port", "29500-29505")
    runs = []
    for number, (queue, options) in enumerate([(root, ()), (u2, few), (root, few), (u2, ())]):
        name = f"run{number}"
        runs.append((queue, name, queue.start(name, *of_c, *options, command="true")))
        queue.until(name, "RunWaits")
    shown = json.loads(root.call("--json").stdout)["waiting"]
    by_itself = {one["run"].partition("-")[0]: one["by_itself"] for one in shown}
    assert by_itself == {"run0": True, "run1": False, "run2": False, "run3": True}
    root.let_go("first")
    spans = []
    for queue, name, process in runs:
        assert process.wait(120) == 0, process.communicate()[1]
        found = {one["event"]: one["time"] for one in queue.events(name)}
        spans.append((found["ProcessStarted"], found["ProcessExited"]))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), spans


ALONE = (labs.HostSpec("gpu1", gpus=2),)


@pytest.mark.parametrize("own", [ALONE], indirect=True)
def test_a_reservation_counts_for_its_project(own: labs.Lab, launcher: Launcher) -> None:
    """That of the flag, or else of the settings; what would borrow is refused."""
    queue = Queue(own, launcher)
    launcher.inventory.write_text(
        launcher.inventory.read_text()
        + PROJECTS.replace("u2", "root").replace("limit: 4", "limit: 6")
    )
    named = ("-i", str(launcher.inventory), "--for", "1h", "--no-wait")
    for words, told in (
        (
            ("--gpus", "3", "--project", "team-a"),
            "a reservation does not borrow: reserve 2 at most",
        ),
        (("--gpus", "1", "--project", "team-c"), "there is no such project"),
    ):
        refused = launcher.call("reserve", *words, *named)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    assert launcher.call("project", "set", "team-a").returncode == 0
    made = launcher.call("reserve", "--gpus", "2", *named, "--json")
    assert made.returncode == 0, made.stderr
    assert shares(queue)["team-a"]["used"] == 2
    assert launcher.call("stop", json.loads(made.stdout)["run"]).returncode == 0
    other = launcher.call("reserve", "--gpus", "1", "--project", "none", *named, "--json")
    assert other.returncode == 0, other.stderr
    assert shares(queue)["team-a"]["used"] == 0
    assert launcher.call("stop", json.loads(other.stdout)["run"]).returncode == 0
