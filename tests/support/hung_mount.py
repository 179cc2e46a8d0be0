"""Mounts a file system that stops to answer when it is told to, as one of a network whose server is gone:
``hung_mount.py PLACE`` until SIGTERM; after SIGUSR1, whoever asks waits, and cannot even be killed.

It is one of FUSE with an empty folder, and needs root, /dev/fuse, and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import sys

_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_NO_ANSWER = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_GETATTR, _STATFS, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 3, 17, 26, 27, 28, 29


def main(place: str) -> None:
    """Serve the file system."""
    device = os.open("/dev/fuse", os.O_RDWR)
    about = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", os.fsencode(place), b"fuse.hung", 0, about):
        raise OSError(ctypes.get_errno(), "mount")
    hangs = False

    def hang(*_: object) -> None:
        nonlocal hangs
        hangs = True

    signal.signal(signal.SIGUSR1, hang)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print("ready", flush=True)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # it was unmounted
            continue
        operation, number = _IN.unpack_from(request)[1:3]
        if not hangs and operation not in _NO_ANSWER:
            failed, answer = _answer(operation)
            os.write(device, _OUT.pack(_OUT.size + len(answer), -failed, number) + answer)


def _answer(operation: int) -> tuple[int, bytes]:
    if operation == _INIT:
        return 0, struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 1, 1, 0, 0)
    if operation == _GETATTR:
        times = (0,) * 9
        return 0, struct.pack("=QII6Q3I7I", 0, 0, 0, 1, 0, 0, *times[:6], 0o40755, 2, 0, 0, 0, 0, 0)
    if operation == _STATFS:
        return 0, bytes(80)
    if operation in (_OPENDIR, _READDIR, _RELEASEDIR):
        return 0, bytes(16) if operation == _OPENDIR else b""
    return errno.ENOENT if operation == 1 else errno.ENOSYS, b""


if __name__ == "__main__":
    main(sys.argv[1])
