"""Pickles functions with the lines of those that travel by value, which tracebacks of ranks show."""

from __future__ import annotations

import io
import linecache
from collections import ChainMap
from types import CodeType
from typing import Any, ClassVar

#: What cloudpickle since 3.1.3 writes in place of a file's name.
_NAMELESS = "<dynamic-code>"

#: By file and number.
Lines = dict[str, dict[int, str]]


def pickled(cloudpickle: Any, value: object) -> tuple[bytes, Lines]:
    """Return a value as a pickle, and the lines of the functions that are in it.

    Their files stay here, and the cells of a notebook are none: without the lines, a traceback says
    little. Raises whatever pickling raises.
    """
    known, lines = cloudpickle.CloudPickler.dispatch_table, Lines()

    def reduced(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
        if found := _lines_of(code):
            lines.setdefault(code.co_filename, {}).update(found)
        make, values = known[CodeType](code)
        return make, tuple(
            code.co_filename if isinstance(one, str) and one == _NAMELESS else one for one in values
        )

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({CodeType: reduced}, known)

    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue(), lines


def _lines_of(code: CodeType) -> dict[int, str]:
    all_lines = linecache.getlines(code.co_filename)
    last = max((number for *_, number in code.co_lines() if number), default=0)
    return dict(enumerate(all_lines[code.co_firstlineno - 1 : last], code.co_firstlineno))
