"""asyncssh, imported without its search for two C libraries that are not needed here.

For nettle (UMAC) and liboqs (sntrup761) it asks ldconfig and a linker, five times: 35 ms at every
start. Any OpenSSH of these ten years offers what remains.
"""

import ctypes.util

_search = ctypes.util.find_library
ctypes.util.find_library = lambda name: None
try:
    import asyncssh
finally:
    ctypes.util.find_library = _search

__all__ = ["asyncssh"]
