"""json, signal, sockets and prctl from the interpreter's C modules, for what runs on every host.

The standard modules around them import re, enum, selectors and collections, which takes longer than
everything a relay does in a short run. Where a C module is missing or behaves differently than
expected, the standard module takes its place.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    import socket as socket
    from collections.abc import Callable, Iterable
    from typing import Any
else:
    import _signal as signal  # noqa: F401
    import _socket as socket


class Socket(socket.socket):
    """The C socket with the two things that ``socket.socket`` adds and we need."""

    def accept(self) -> tuple[Socket, Any]:
        """Accept a connection; its descriptor is not inherited."""
        fd, address = self._accept()  # type: ignore[attr-defined] # of the class below
        return Socket(fileno=fd), address

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reading:
    """The defaults of ``json.JSONDecoder``."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int, parse_constant = float, int, float


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _read = make_scanner(_Reading)  # type: ignore[arg-type] # any object with these attributes
    _FORM = (None, None, encode_basestring_ascii, None, ":", ",", False, False, True)
    _write: Callable[[object, int], Iterable[str]] = make_encoder(*_FORM)  # type: ignore[arg-type]
    if _read(' {"a":[1]}', 1) != ({"a": [1]}, 10) or "".join(_write({"a": [1]}, 0)) != '{"a":[1]}':
        raise ImportError("the C parts of json behave differently")
except (ImportError, TypeError, AttributeError):
    import json

    _read = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # set in its __init__

    def _write(value: object, _: int) -> Iterable[str]:
        return json.dumps(value, separators=(",", ":"))


def dumps(value: object) -> str:
    """Return ``value`` as JSON in ASCII, without spaces."""
    return "".join(_write(value, 0))


def loads(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError."""
    text = text.strip(" \t\n\r")
    try:
        value, end = _read(text, 0)
    except (
        StopIteration,
        SystemError,
    ):  # SystemError: it has no json.decoder to take its error from
        end = -1
    if end != len(text):
        raise ValueError("not JSON: %.80r" % text)
    return value


def prctl(option: int, value: int) -> bool:
    """Call prctl(2); return False where the interpreter or the kernel lacks it."""
    try:
        try:
            from _ctypes import call_function, dlopen, dlsym
        except ImportError:
            import ctypes

            return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
        own = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type] # dlopen(3): the program itself
        return bool(call_function(dlsym(own, "prctl"), (option, value, 0, 0, 0)) == 0)
    except Exception:  # another libc: the scan of environments still finds all processes
        return False
