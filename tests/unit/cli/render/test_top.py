"""How the screen of `launcher top` is drawn."""

from __future__ import annotations

import time
from dataclasses import replace

from launcher.cli.render.top import top_text
from launcher.jobs.gpus import GpuState
from launcher.records.reasons import WaitReason
from launcher.runner.cluster import Cluster, HostNow, RunNow
from launcher.runner.queue import Holding, Queue, Waiting

NOW = time.mktime((2026, 11, 27, 14, 0, 0, 0, 0, -1))


def gpu(index: int, state: str = "free", **more: object) -> GpuState:
    known = GpuState(index, "NVIDIA H100", f"GPU-{index}", "nvidia", 81920, state)
    return replace(known, **{"percent": 0, "celsius": 30, **more})  # type: ignore[arg-type]


def test_equal_hosts_share_a_line_and_others_say_what_is_different() -> None:
    held = {"state": "held", "user": "ann", "run": "sweep-a", "since": NOW - 7200, "used": 71000}
    hosts = [
        HostNow(f"gpu{n}", tuple(gpu(i, **held, percent=90 + n % 8, celsius=70) for i in range(8)))
        for n in range(1, 61)
    ]
    stranger = gpu(
        1, "foreign", user="bob", command="python x.py " * 9, used=2048, since=NOW - 60, pid=7
    )
    hosts += [
        HostNow("gpu61", (gpu(0, percent=None, celsius=None), stranger)),
        HostNow("gpu62", problem="no answer for 20 s"),
        HostNow("gpu63", problem="no answer for 20 s"),
        HostNow("gpu64", problem="new fans", off=True),
    ]
    queue = Queue((Holding("sweep-a", "ann", {}, NOW - 7200, NOW + 600),), (), 482, 1)
    shown = top_text(Cluster(NOW, tuple(hosts), queue), 100, 24)
    assert shown == (
        "14:00:00  64 hosts, 482 GPUs: 480 held (mean use 93%), 1 free, 1 used outside launcher\n"
        "\n"
        "hosts      gpus  use     memory GB  °C  who\n"
        "gpu[1-60]  0-7   90-97%  69/80      70  ann sweep-a (2 h, until 14:10)\n"
        "gpu61      1     0%      2/80       30  bob (not launcher, 1 min) python x.py python x.py python x.…\n"
        "gpu61      0     -       0/80       -   free\n"
        "gpu[62-63]: no answer for 20 s\n"
        "gpu64: off: new fans"
    )


def test_hosts_that_are_all_away_are_one_line() -> None:
    hosts = [HostNow(f"gpu{n}", problem=f"cannot reach gpu{n} port 22") for n in range(1, 65)]
    hosts += [HostNow("big", problem="cannot reach big port 23"), HostNow("cpu")]
    shown = top_text(Cluster(NOW, tuple(hosts), Queue((), (), 0, 0)), 100, 24)
    assert shown.splitlines()[2:] == [
        "gpu[1-64]: cannot reach gpu1 port 22 (as gpu1 says)",
        "big: cannot reach big port 23",
        "cpu: no GPUs",
    ]


def test_runs_without_gpus_are_there() -> None:
    other = RunNow("prepare-1a2b", "bob", NOW - 60)
    hosts = (
        HostNow("gpu1", (gpu(0),), runs=(other,)),
        HostNow("gpu2", (gpu(0),), runs=(other, RunNow("long-3c4d", "eve"))),
    )
    shown = top_text(Cluster(NOW, hosts, Queue((), (), 2, 2)), 100, 24)
    assert shown.splitlines()[4:] == [
        "",
        "hosts     user  runs without GPUs  age",
        "gpu[1-2]  bob   prepare-1a2b       1 min",
        "gpu2      eve   long-3c4d",
    ]
    many = tuple(HostNow("a", runs=tuple(RunNow(f"r-{n}", "bob") for n in range(99))) for _ in "1")
    low = top_text(Cluster(NOW, many, Queue((), (), 0, 0)), 100, 12).splitlines()
    assert len(low) <= 12 and "and 97 more: launcher ls --all-users" in low


def test_a_long_user_leaves_room_for_runs_without_gpus() -> None:
    hosts = (HostNow("gpu1", runs=(RunNow("long-3c4d", "someone@" + "x" * 300),)),)
    shown = top_text(Cluster(NOW, hosts, Queue((), (), 0, 0)), 100, 24)
    assert "gpu1   someone@xxxxxxxxxxx…  long-3c4d" in shown.splitlines()


def test_what_does_not_fit_is_folded_by_user_and_then_counted() -> None:
    """64 hosts with 8 runs each are 512 lines."""
    users = ("ann", "bob", "eve")

    def cluster(distinct: bool) -> Cluster:
        hosts = [
            HostNow(
                f"gpu{n}",
                tuple(
                    gpu(i, "held", user=f"u{n}" if distinct else users[i % 3], run=f"r-{n}-{i}")
                    for i in range(8)
                ),
            )
            for n in range(1, 65)
        ]
        waiting = tuple(Waiting(f"w-{n}", "eve", n, 0, (8,), ("gpu1",), NOW) for n in range(1, 101))
        return Cluster(NOW, tuple(hosts), Queue((), waiting, 512, 0))

    folded = top_text(cluster(False), 200, 24).split("\n")
    assert len(folded) <= 24
    assert folded[3].split() == ["gpu[1-64]", "0,3,6", "0%", "0/80", "30", "ann", "192", "runs"]
    assert folded[-1] == "and 94 more: launcher queue"
    cut = top_text(cluster(True), 200, 24).split("\n")
    assert len(cut) <= 24
    assert any(line.endswith("more: launcher top --once") for line in cut)
    everything = top_text(cluster(True), 100_000, 100_000).split("\n")
    assert len(everything) == 3 + 512 + 1 + 101


def test_a_narrow_terminal_shows_why_runs_wait_below_them() -> None:
    held = Holding("sweep-a", "ann", {}, NOW - 7200)
    waiting = tuple(
        Waiting(
            f"pretrain-{n}", "bob", n, 0, (4, 4), ("gpu1", "gpu2"), NOW - 300, None,
            WaitReason.BUSY, ("sweep-a",), {"sweep-a": "ann"},
        )
        for n in range(1, 31)
    )  # fmt: skip
    cluster = Cluster(NOW, (), Queue((held,), waiting, 8, 0))
    lines = top_text(cluster, 72, 24).split("\n")
    assert lines[-8:] == [
        "   waiting     user  gpus  hosts     for    time  started by",
        "1  pretrain-1  bob   2x4   gpu[1-2]  5 min  -     its launcher",
        "    in use by ann (sweep-a)",
        "2  pretrain-2  bob   2x4   gpu[1-2]  5 min  -     its launcher",
        "    in use by ann (sweep-a)",
        "3  pretrain-3  bob   2x4   gpu[1-2]  5 min  -     its launcher",
        "    in use by ann (sweep-a)",
        "and 27 more: launcher queue",
    ]
    whole = top_text(cluster, 72, 100_000, whole=True).split("\n")
    assert sum("in use by ann (sweep-a)" in line for line in whole) == 30
    assert all(len(line) <= 72 for line in whole)
