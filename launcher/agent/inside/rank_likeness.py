"""What makes a fork of a Python that has imported modules look like any rank: to itself, and to others.

Standard library, Python 3.8.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Tuple

#: Bytes of a PyConfig (CPython 3.8 to 3.14) at most: it is a part of something larger.
CONFIG = 1024
#: How the variable begins that made this Python a helper.
MADE_HELPER = b"LAUNCHER_PRELOAD="


def move(place: str, folder: str) -> None:
    """Have the folder of the run where the place of the helper is in a variable: in PATH, and in what
    the environment has made of that."""
    for name, value in list(os.environ.items()):
        if place in value:
            os.environ[name] = value.replace(place, folder)


def find_script(started: str, folder: str) -> None:
    """Have the interpreter open its script in the folder of this run. It has made the path absolute as
    it started: in ``started``, which leads here as well, but tracebacks should not say that."""
    try:
        import ctypes

        python = ctypes.pythonapi
        python._Py_GetConfig.restype = python.PyMem_RawMalloc.restype = ctypes.c_void_p
        config, size = python._Py_GetConfig(), ctypes.sizeof(ctypes.c_wchar)
        prefix = (started + "/").encode("utf-32-le", "surrogateescape")
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            for at, text in _pointers(memory, config, len(prefix)):
                if size == 4 and text == prefix:
                    rest = ctypes.wstring_at(ctypes.c_void_p.from_address(at).value or 0)
                    path = ctypes.create_unicode_buffer(folder + rest[len(started) :])
                    # Python frees it in the end.
                    new = python.PyMem_RawMalloc(ctypes.c_size_t(ctypes.sizeof(path)))
                    ctypes.memmove(new, path, ctypes.sizeof(path))
                    ctypes.c_void_p.from_address(at).value = new
    except Exception:  # another Python: the path leads to the script all the same
        pass


def _pointers(memory: Any, config: int, size: int) -> Iterator[Tuple[int, bytes]]:
    """Yield the places in the configuration of Python that may be pointers, and what these point to."""
    memory.seek(config)
    words = memory.read(CONFIG)
    for at in range(0, len(words) - 7, 8):
        try:
            memory.seek(int.from_bytes(words[at : at + 8], sys.byteorder))
            yield config + at, memory.read(size)
        except (OSError, OverflowError, ValueError):
            continue


def show_arguments(own: int, arguments: list[str]) -> None:
    """Have ps(1) show these arguments instead of the last ``own`` ones, where there is room."""
    try:
        with open("/proc/self/stat", "rb") as file:
            text = file.read()
        start, end = (int(word) for word in text[text.rfind(b")") + 2 :].split()[45:47])
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        new = [*words[: len(words) - own], *map(os.fsencode, arguments)]
        shown = b"".join(word + b"\0" for word in new)
        if len(shown) <= end - start:
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(shown.ljust(end - start, b"\0"))
    except (OSError, ValueError):
        pass


def show_variables(own: list[str]) -> None:
    """Have others see the variables of this rank (``/proc/PID/environ``) instead of those that made this
    Python a helper. Nothing points to these any more. They are the last ones there, unless a program in
    between has ordered them anew; then what is left of them stays."""
    try:
        with open("/proc/self/stat", "rb") as file:
            text = file.read()
        start = int(text[text.rfind(b")") + 2 :].split()[47])
        with open("/proc/self/environ", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        at = next(n for n, word in enumerate(words) if word.startswith(MADE_HELPER))
        first, is_last = at, at == len(words) - 1
        path, new = os.environb.get(b"PYTHONPATH"), []
        before = words[at - 1] if at else b""
        if before.startswith(b"PYTHONPATH=") and before != b"PYTHONPATH=" + (path or b""):
            first -= 1
            new += [] if path is None else [b"PYTHONPATH=" + path + b"\0"]
        room = sum(len(word) + 1 for word in words[first : at + 1])
        left = room - sum(map(len, new)) - (0 if is_last else len(MADE_HELPER) + 1)
        # Those by which others find the processes of a run come first.
        for word in sorted((os.fsencode(one) + b"\0" for one in own), key=_rank_of):
            if len(word) <= left:
                new.append(word)
                left -= len(word)
        shown = b"".join(new) if is_last else b"".join([*new, MADE_HELPER, b" " * left, b"\0"])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start + sum(len(word) + 1 for word in words[:first]))
            memory.write(shown.ljust(room, b"\0"))
    except (OSError, ValueError, StopIteration):
        pass


def _rank_of(word: bytes) -> tuple[bool, int]:
    return not word.startswith(b"LAUNCHER_"), len(word)


def show_printed(printed: list[bytes]) -> None:
    """Print what the imports have printed, as every rank does that imports for itself."""
    for number, text in enumerate(printed, 1):
        try:
            os.write(number, text)
        except OSError:  # a full disk
            pass


def join(group: str, must: bool) -> None:
    try:
        fd = os.open(os.path.join(group, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
    except OSError:
        if must:
            raise


def be_different() -> None:
    """Draw anew what each Python draws when it imports a module, and read the clock anew by which
    ``logging`` counts. ``random`` draws by itself."""
    import importlib
    import time

    importlib.invalidate_caches()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)
    logging: Any = sys.modules.get("logging")
    began = getattr(logging, "_startTime", None)
    if began is not None:  # in nanoseconds since Python 3.13
        logging._startTime = time.time_ns() if isinstance(began, int) else time.time()
