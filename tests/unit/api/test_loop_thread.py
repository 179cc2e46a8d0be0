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


LOOKING = """
import asyncio, os, signal, threading
from launcher.api.loop_thread import LoopThread
from launcher.spec.frozen import frozen, looking

@frozen
class Value:
    a: int

begun = threading.Event()

def look():
    with looking:
        begun.set()
        threading.Event().wait(0.2)

async def work():
    asyncio.get_running_loop().call_later(0.05, look)  # once this call is over

thread = LoopThread()
thread.call(work())
assert begun.wait(20)
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(Value(7).a)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.close()
"""


def test_a_forked_child_looks_at_classes_whatever_the_thread_did() -> None:
    words = [sys.executable, "-c", LOOKING]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("7\n", "")
