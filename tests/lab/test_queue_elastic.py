"""An elastic run that waits is started by as many of its hosts as are free, whatever becomes of its
launcher."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, kill_follower
from support.hosts import need_lab
from support.waiting import Queue

HOSTS = tuple(labs.HostSpec(f"gpu{n}", gpus=1) for n in (1, 2, 3))
#: Counts the ranks in a group until a file is there; torchrun makes a new group where one is lost.
TRAIN = """
import datetime, os, pathlib, time
import torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=4))
rank, world = dist.get_rank(), dist.get_world_size()
print(f"rank {rank} of {world} has {os.environ['CUDA_VISIBLE_DEVICES']}", flush=True)
while True:
    over = torch.tensor(int(pathlib.Path("/tmp/over").exists()))
    dist.all_reduce(over)
    if int(over):
        break
    time.sleep(0.05)
dist.destroy_process_group()  # or gloo's threads may abort a rank whose peer has gone, and torchrun waits for minutes
print("done with", world, flush=True)
"""
PROJECTS = """
projects:
  team-a: {quota: 2, limit: 3, users: [root]}
"""
ELASTIC = ("--nodes", "1:3", "--nproc-per-node", "1", "--gpus", "3", "--max-restarts", "3")


@pytest.fixture
def queue(tmp_path: Path, launcher: Launcher) -> Iterator[Queue]:
    """Three hosts with torch, each with a run of its name that has its only GPU."""
    need_lab()
    with labs.Lab(HOSTS, tmp_path / "own", share=[Path(sys.prefix)]) as lab:
        made = Queue(lab, launcher)
        launcher.inventory.write_text(labs.inventory(lab, sys.executable) + PROJECTS)
        launcher.script(TRAIN, "train.py")
        try:
            made.occupy(lab.hosts, gpus=1)
            yield made
        finally:
            made.close()


def detached(queue: Queue, *words: str, among: str = "gpu[1-3]", name: str = "second") -> Path:
    """Start an elastic run that waits, and kill its follower; return its folder."""
    done = queue.launcher.call(
        "run", "-i", str(queue.launcher.inventory), "-d", "--name", name, "--wait", "forever",
        *ELASTIC, *words, "train.py",
    )  # fmt: skip
    assert (
        f"waits for its turn on 1 to 3 of {among}; as many as are free start it" in done.stderr
    ), done.stderr
    assert f"1 to 3 of {among}" in queue.launcher.call("ls").stdout
    (folder,) = queue.launcher.home.glob(f"runs/{name}-*")
    queue.until_met(name, everywhere="--project" in words)
    kill_follower(folder)
    return folder


def until_printed(queue: Queue, host: str, run: str, text: str) -> None:
    """Wait until the first rank, on this host, has printed something."""
    there = f"/root/.launcher/host/runs/{run}/logs/attempt-0/rank-0.out"

    def has() -> bool:
        try:
            return text in queue.lab.hosts[host].read(there).decode()
        except labs.LabError:
            return False

    labs.wait_until(has, f"{text!r} on {host}", 90)


def test_as_many_hosts_as_are_free_start_it_with_nobody_in_touch(queue: Queue) -> None:
    """Two become free one after the other: it begins on both, and attach finds everything."""
    folder = detached(queue)
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert (shown["run"], shown["by_itself"]) == (folder.name, True)
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("on-gpu3", "on-gpu2")
    for name in ("gpu2", "gpu3"):
        assert queue.until_there(name, folder.name, "BegunThere")["hosts"] == ["gpu2", "gpu3"]
    queue.until_there("gpu1", folder.name, "HostEnded")
    until_printed(queue, "gpu2", folder.name, "of 2 has 0")
    queue.let_go("over")
    for host in queue.lab.hosts.values():
        host.unblock()
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert all(f"rank {n} of 2 has 0" in attached.stdout for n in range(2)), attached.stdout
    assert "done with 2" in attached.stdout
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["status"] == "succeeded"
    assert [one["host"] for one in receipt["hosts"]] == ["gpu2", "gpu3"]
    assert not queue.recorded("gpu1", folder.name), "nothing is left where it did not begin"


@pytest.mark.slow
def test_one_that_began_by_itself_goes_on_without_a_host_once_it_is_followed(
    queue: Queue, tmp_path: Path
) -> None:
    """By another machine, which cannot ask the host that leads, and learns from the others who began."""
    folder = detached(queue, "--lost-after", "4s", "--grace", "2s")
    queue.let_go("on-gpu3", "on-gpu2")
    queue.until_there("gpu1", folder.name, "HostEnded")
    until_printed(queue, "gpu2", folder.name, "of 2 has 0")
    queue.lab.hosts["gpu1"].drop_packets()
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    words = ("attach", "--trust-record", "-i", str(queue.launcher.inventory), folder.name)
    attached = elsewhere.start_command(*words)
    queue.started.append(attached)
    there = elsewhere.home / "runs" / folder.name
    file = there / "events.jsonl"
    labs.wait_until(lambda: file.exists() and "AllStarted" in file.read_text(), "it is known", 90)
    queue.lab.hosts["gpu3"].power_cut()
    until_printed(queue, "gpu2", folder.name, "of 1 has 0")
    queue.lab.hosts["gpu2"].write("/tmp/over", b"")
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, b"done with 1" in out) == (0, True), (out, err)
    receipt = json.loads((there / "receipt.json").read_text())
    assert (receipt["status"], receipt["reason"]) == ("succeeded", "finished-on-1-of-2-hosts")
    assert [one["host"] for one in receipt["hosts"]] == ["gpu2", "gpu3"]


@pytest.mark.slow
def test_it_waits_for_the_least_and_takes_all_that_there_are(queue: Queue) -> None:
    """With a launcher in touch, which is killed: all three hosts are freed one after the other."""
    words = ("--wait", "forever", "--name", "second", *ELASTIC, "train.py")
    process = queue.launcher.start(*words)
    queue.started.append(process)
    queue.until("second", "WaitsOnHosts")
    queue.until_met("second")
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert shown["shares"] == [1]
    process.kill()
    process.communicate()
    (folder,) = queue.launcher.home.glob("runs/second-*")
    queue.let_go("on-gpu1", "on-gpu3", "on-gpu2")
    for name in queue.lab.hosts:
        begun = queue.until_there(name, folder.name, "BegunThere")
        assert begun["hosts"] == ["gpu1", "gpu2", "gpu3"]
    until_printed(queue, "gpu1", folder.name, "of 3 has 0")
    queue.let_go("over")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert all(f"rank {n} of 3 has 0" in attached.stdout for n in range(3)), attached.stdout


def hosts_of(queue: Queue, name: str) -> list[str]:
    """Return the hosts on which a run ended."""
    found = [
        json.loads(file.read_text())
        for file in queue.launcher.home.glob(f"runs/{name}-*/receipt.json")
    ]
    (receipt,) = (one for one in found if one["status"] == "succeeded")
    return [one["host"] for one in receipt["hosts"]]


def used_by_team(queue: Queue) -> dict[str, int]:
    """Return the GPUs that each run of the project has, by the first word of its name."""
    shown = queue.launcher.call("project", "ls", "-i", str(queue.launcher.inventory), "--json")
    assert shown.returncode == 0, shown.stderr
    (team,) = json.loads(shown.stdout)["projects"]
    return {one["run"].partition("-")[0]: one["gpus"] for one in team["runs"]}


def test_without_waiting_it_begins_on_as_many_hosts_as_are_free(queue: Queue) -> None:
    """Or on none, where these are fewer than the least."""
    words = ("--no-wait", "--name", "second", *ELASTIC, "train.py")
    refused = queue.launcher.run(*words)
    assert (refused.code, "1 host with 1 free GPU" in refused.err) == (75, True), refused.err
    queue.let_go("on-gpu3", "on-gpu2", "over")
    for host in ("gpu2", "gpu3"):
        queue.until(f"on-{host}", "HostEnded")
    done = queue.launcher.run(*words)
    assert done.code == 0, done.err
    assert all(f"rank {n} of 2 has 0" in done.out for n in range(2)), done.out
    assert hosts_of(queue, "second") == ["gpu2", "gpu3"]


@pytest.mark.slow
def test_one_that_waits_with_its_launcher_begins_on_as_many_hosts_as_are_free(queue: Queue) -> None:
    """Two become free one after the other. It has too few ports for its hosts to start it."""
    words = ("--name", "second", "--master-port", "29500", *ELASTIC, "train.py")
    over = queue.launcher.run("--wait", "2s", "--name", "third", *words[2:])
    assert (over.code, "the time to wait is over" in over.err) == (75, True), over.err
    process = queue.launcher.start("--wait", "30m", *words)
    queue.started.append(process)
    queue.until("second", "RunWaits")
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert (shown["shares"], shown["by_itself"]) == ([1], False)
    queue.let_go("on-gpu3", "on-gpu2", "over")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, b"of 2 has 0" in out) == (0, True), (out, err)
    assert hosts_of(queue, "second") == ["gpu2", "gpu3"]


OF_TEAM = ("--project", "team-a")


def test_within_a_project_it_begins_on_as_many_as_the_quota_allows(queue: Queue) -> None:
    """Three are free: with a launcher in touch it takes two, and so it does with nobody in touch, which
    a quota without room for its least holds back."""
    queue.let_go("on-gpu1", "on-gpu2", "on-gpu3")
    for host in queue.lab.hosts:
        queue.until(f"on-{host}", "HostEnded")
    words = ("--no-wait", "--name", "first", *OF_TEAM, *ELASTIC, "train.py")
    queue.started.append(queue.launcher.start(*words))
    queue.until("first", "AllStarted")
    assert used_by_team(queue) == {"first": 2}
    folder = detached(queue, *OF_TEAM)
    labs.wait_until(
        lambda: "beyond the quota" in queue.call().stdout, "the quota holds it back", 60
    )
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("over")
    begun = queue.until_there("gpu1", folder.name, "BegunThere")["hosts"]
    for host in queue.lab.hosts.values():
        host.unblock()
    assert begun == ["gpu1", "gpu2"]
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert "done with 2" in attached.stdout
    assert (hosts_of(queue, "first"), hosts_of(queue, "second")) == (["gpu1", "gpu2"], begun)


@pytest.mark.slow
def test_a_preemptible_one_borrows_with_nobody_in_touch(queue: Queue) -> None:
    """Up to the limit, which is beyond the quota: the books have all that it took."""
    folder = detached(queue, *OF_TEAM, "--preemptible")
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("on-gpu1", "on-gpu2", "on-gpu3")
    begun = queue.until_there("gpu1", folder.name, "BegunThere")
    for host in queue.lab.hosts.values():
        host.unblock()
    assert begun["hosts"] == ["gpu1", "gpu2", "gpu3"]
    until_printed(queue, "gpu1", folder.name, "of 3 has 0")
    assert used_by_team(queue) == {"second": 3}
    queue.let_go("over")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert "done with 3" in attached.stdout


def locked(queue: Queue) -> int:
    """Return how many GPUs are locked on all hosts, as their kernels say."""
    names = {
        (host, name)
        for host in queue.lab.hosts
        for name in re.findall(r"@launcher/gpu/\d+$", queue.sockets(host), re.MULTILINE)
    }
    return len(names)


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.timeout(400)
def test_those_that_begin_at_once_never_have_more_than_the_quota(queue: Queue) -> None:
    """Three runs of up to three GPUs each, for a quota of two: hosts start two of them with nobody in
    touch, and a launcher the third."""
    one, two = (detached(queue, *OF_TEAM, name=name) for name in ("one", "two"))
    words = ("--wait", "30m", "--name", "three", "--master-port", "29500", *OF_TEAM)
    three = queue.launcher.start(*words, *ELASTIC, "train.py")
    queue.started.append(three)
    queue.until("three", "RunWaits")
    queue.let_go("on-gpu1", "on-gpu2", "on-gpu3")
    for host in queue.lab.hosts:
        queue.until(f"on-{host}", "HostEnded")
    labs.wait_until(lambda: used_by_team(queue), "one has begun", 60)
    for _ in range(5):
        assert locked(queue) <= 2
        assert sum(used_by_team(queue).values()) <= 2
    others = [queue.launcher.start_command("attach", one.name) for one in (one, two)]
    queue.started += others
    queue.let_go("over")

    def are_over() -> bool:
        assert locked(queue) <= 2
        return all(process.poll() is not None for process in (three, *others))

    labs.wait_until(are_over, "all have had their turn", 120)
    assert [process.returncode for process in (three, *others)] == [0, 0, 0]


TWELVE = tuple(labs.HostSpec(f"gpu{n:02}", gpus=1) for n in range(1, 13))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("free", [("gpu07",), ("gpu03", "gpu11")])
def test_it_may_have_any_number_of_ways(
    tmp_path: Path, launcher: Launcher, free: tuple[str, ...]
) -> None:
    """298 for one to three of twelve hosts, which are too many to list."""
    need_lab()
    with labs.Lab(TWELVE, tmp_path / "own", share=[Path(sys.prefix)]) as lab:
        queue = Queue(lab, launcher)
        launcher.inventory.write_text(labs.inventory(lab, sys.executable))
        launcher.script(TRAIN, "train.py")
        others = ",".join(name for name in lab.hosts if name not in free)
        try:
            queue.start("held", "--gpus", str(12 - len(free)), "--hosts", others)
            queue.start("soon", "--gpus", str(len(free)), "--hosts", ",".join(free))
            for name in ("held", "soon"):
                queue.until(name, "AllStarted")
            folder = detached(queue, among="gpu[01-12]")
            for host in lab.hosts.values():
                host.drop_packets()
            queue.let_go("soon")
            for name in free:
                assert queue.until_there(name, folder.name, "BegunThere")["hosts"] == [*free]
            until_printed(queue, free[0], folder.name, f"of {len(free)} has 0")
            queue.let_go("over")
            for host in lab.hosts.values():
                host.unblock()
            attached = launcher.call("attach", "second")
            assert attached.returncode == 0, attached.stderr
            assert f"done with {len(free)}" in attached.stdout
            assert hosts_of(queue, "second") == [*free]
        finally:
            queue.close()
