"""How the queue is shown."""

from __future__ import annotations

import time

from launcher.cli.render.queue import queue_text
from launcher.records.reasons import WaitReason
from launcher.runner.queue import Holding, Queue, Waiting

NOW = time.mktime((2026, 11, 27, 14, 0, 0, 0, 0, -1))


def test_who_holds_and_who_waits() -> None:
    hosts = {f"gpu{number}": (0, 1, 2, 3) for number in range(1, 65)}
    queue = Queue(
        holding=(
            Holding("calm-otter-1234", "ann", hosts, NOW - 7200, NOW + 600),
            Holding("", "bob", {"gpu70": (1,)}),
        ),
        waiting=(
            Waiting(
                "new-run-99aa", "eve", 1, 1, (4, 4, 2), ("gpu1", "gpu2", "gpu3"), NOW - 60, 3600.0,
                WaitReason.BUSY, ("", "calm-otter-1234"), {"": "bob", "calm-otter-1234": "ann"},
                NOW + 600,
            ),
            Waiting("next-0000", "eve", 0, 0, (1,), ("gpu1",), NOW, elsewhere=2, by_itself=True),
            Waiting("full-0000", "eve", 0, 0, (1,), ("gpu1",), NOW, None, WaitReason.NO_ROOM, full=("gpu1",)),
            Waiting("lone-0000", "eve", None, 0, (1,), ("gpu1", "gpu2"), NOW, by_itself=True, why=WaitReason.NO_LEADER),
            Waiting("both-0000", "eve", None, 0, (1,), ("gpu1", "gpu2"), NOW, by_itself=True, why=WaitReason.MAY_HAVE_BEGUN),
            Waiting("last-0000", "eve", None, 0, (1,), ("gpu1",), NOW, why=WaitReason.TOO_LARGE),
        ),
        gpus=260,
        free=3,
    )  # fmt: skip
    assert queue_text(queue, NOW) == (
        "run              user  gpus           since  ends by\n"
        "calm-otter-1234  ann   gpu[1-64] 0-3  2 h    14:10\n"
        "(not launcher)   bob   gpu70 1        -      -\n"
        "\n"
        "     waiting       user  gpus   hosts            for    time  started by    why\n"
        "1    new-run-99aa  eve   2x4+2  gpu[1-3]         1 min  1 h   its launcher  high priority, in use "
        "by bob outside launcher, ann (calm-otter-1234); by 14:10\n"
        "now  next-0000     eve   1      gpu1 and 2 more  0 s    -     its hosts     prepares its start\n"
        "now  full-0000     eve   1      gpu1             0 s    -     its launcher  no space left on gpu1 "
        "to write down that it begins: launcher df\n"
        "-    lone-0000     eve   1      gpu[1-2]         0 s    -     its hosts     too few of its hosts "
        "are in touch with each other to begin it\n"
        "-    both-0000     eve   1      gpu[1-2]         0 s    -     its hosts     may have begun on hosts "
        "that are out of reach: launcher attach\n"
        "-    last-0000     eve   1      gpu1             0 s    -     its launcher  too few of its hosts "
        "can be reached from where it was started\n"
        "\n"
        "260 GPUs, 3 free; 6 runs wait"
    )


def test_an_empty_queue() -> None:
    assert queue_text(Queue((), (), 4, 4), NOW) == "4 GPUs, 4 free; nobody waits"


def test_a_narrow_terminal_shows_the_reasons_below_the_runs() -> None:
    waiting = (
        Waiting(
            "pretrain-90aa", "bob", 1, 0, (4, 4), ("gpu1", "gpu2", "gpu3"), NOW - 300, None,
            WaitReason.BUSY, ("", "calm-otter-1234"), {"": "bob", "calm-otter-1234": "ann"}, NOW + 600,
        ),
        Waiting("next-0000", "eve", 0, 0, (1,), ("gpu1",), NOW, elsewhere=2, by_itself=True),
    )  # fmt: skip
    text = queue_text(Queue((), waiting, 12, 3), NOW, 80)
    assert text == (
        "     waiting        user  gpus  hosts            for    time  started by\n"
        "1    pretrain-90aa  bob   2x4   gpu[1-3]         5 min  -     its launcher\n"
        "    in use by bob outside launcher, ann (calm-otter-1234); by 14:10\n"
        "now  next-0000      eve   1     gpu1 and 2 more  0 s    -     its hosts\n"
        "    prepares its start\n"
        "\n"
        "12 GPUs, 3 free; 2 runs wait"
    )
    assert queue_text(Queue((), waiting, 12, 3), NOW, 200) == queue_text(
        Queue((), waiting, 12, 3), NOW
    )
