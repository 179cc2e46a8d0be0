"""asyncssh, without two things that take long and are not needed here.

At import it searches for two C libraries, nettle (UMAC) and liboqs (sntrup761), by ldconfig and a
linker, five times: 35 ms at every start. Any OpenSSH of these ten years offers what remains.

For every connection it reads the whole of ssh_config, which has more lines the more hosts there are,
and splits each line: for 64 hosts half a second. Here a line that comes again is not split again.
"""

import ctypes.util
import functools
import shlex
import types

_search = ctypes.util.find_library
ctypes.util.find_library = lambda name: None
try:
    import asyncssh
    import asyncssh.config
finally:
    ctypes.util.find_library = _search


@functools.cache
def _split(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line))  # which nobody changes


vars(asyncssh.config)["shlex"] = types.SimpleNamespace(split=_split)

__all__ = ["asyncssh"]
