"""What becomes of a thread that is left open when its program ends."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, sys
from launcher.api.loop_thread import LoopThread

async def work():
    return await asyncio.to_thread(os.getpid)

def leave():
    assert thread.call(work()) == os.getpid()
    print("left", flush=True)
    thread.close()

thread = LoopThread(leave)
assert thread.call(work()) == os.getpid()
if "fork" in sys.argv:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        assert thread.call(work()) == os.getpid()
    else:
        for ask in (lambda: thread.call(work()), lambda: thread.soon(work)):
            try:
                ask()
            except Exception as error:
                assert "belongs to the process that forked this one" in str(error), error
            else:
                assert False
        thread.close()
        sys.stdout.write("child\\n")
"""


def _printed(*words: str) -> list[str]:
    argv = [sys.executable, "-c", PROGRAM, *words]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


def test_it_works_once_more_while_threads_still_do() -> None:
    assert _printed() == ["left"]


def test_a_forked_child_leaves_that_to_its_parent() -> None:
    """The thread is none of the child's, which would wait for it for ever."""
    assert sorted(_printed("fork")) == ["child", "left"]
