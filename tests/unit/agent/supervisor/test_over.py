"""Pythons whose script is over, and which hang all the same: how each hangs is told from its stacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.agent.supervisor import stacks
from support import lab as labs

#: Objects that are freed as Python ends, in C, with Python's lock held: each waits there for a signal.
AT_END = """
import ctypes, sys

libc = ctypes.CDLL(None)
make = ctypes.pythonapi.PyCapsule_New
make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
sys.held = [make(1, None, ctypes.cast(libc.pause, ctypes.c_void_p)) for _ in range(50)]
"""
#: A thread of C, as torch's gloo has one.
WITH_GLOO = (
    AT_END
    + """
import threading
named = threading.Event()
def run():
    libc.prctl(15, b"pt_gloo_runloop")
    named.set()
    while True:
        libc.sleep(600)
threading.Thread(target=run, daemon=True).start()
named.wait()
"""
)
FOR_THREADS = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
#: A thread of C with the name of gloo's, which waits for Python's lock; the script holds it and waits for the thread.
GLOO_WAITS = """
import ctypes, sys

sys.setswitchinterval(600)
libc, named = ctypes.PyDLL(None), ctypes.c_ulong()  # it keeps the lock
libc.pthread_create(ctypes.byref(named), None, ctypes.pythonapi.PyGILState_Ensure, None)
libc.pthread_setname_np(named, b"pt_gloo_runloop")
libc.pthread_join(named, None)
"""
#: A script that has not ended, whose threads wait as well.
WAITS = FOR_THREADS + "threading.Event().wait()\n"
#: It waits where a script calls what Python calls at its end.
CALLS = FOR_THREADS + "def _shutdown(): threading._shutdown()\n_shutdown()\n"


@pytest.mark.parametrize("by", ["py-spy", "a signal"])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (AT_END, "at-end"),
        (WITH_GLOO, "with-gloo"),
        (FOR_THREADS, "for-threads"),
        (GLOO_WAITS, "gloo-waits"),
        (WAITS, ""),
        (CALLS, ""),
    ],
    ids=["at its end", "with gloo", "for threads", "gloo waits", "waits", "calls"],
)
def test_how_a_python_hangs_whose_script_is_over(
    script: str, code: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = dict(os.environ)
    stacks.StackTaker(lambda *_, **__: None, wanted=by == "a signal").prepare(env)
    if by == "py-spy" and shutil.which("py-spy", path=os.path.dirname(sys.executable)) is None:
        pytest.skip("there is no py-spy here: pip install -e '.[test]'")
    if by == "a signal":
        monkeypatch.setattr(stacks, "_py_spy", lambda path: None)
    monkeypatch.chdir(tmp_path)
    # a shell in front of it, as a wrapper is
    words = [
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
        sys.executable,
        "-c",
        "print(flush=True)\n" + script,
    ]
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    try:
        process.stdout.readline()
        expected = {"rank-1": code} if code else {}
        labs.wait_until(
            lambda: stacks.write({"rank-1": process.pid}, "now", "gpu2", "") == expected, "its end"
        )
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()
