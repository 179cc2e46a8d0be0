"""Reads scalars from TensorBoard's event files, also from one that still grows. Pure.

A file is records of a length, its checksum, a protobuf ``Event`` and a checksum; the checksums are not
looked at. What is not a scalar is skipped.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes of the largest event with scalars: those of graphs and images are skipped unread.
LARGEST = 1 << 20
#: Letters of a tag.
LONGEST = 200

_HEAD, _FOOT = 12, 4
#: How TensorFlow 2 writes a number of each type: its data type, and its format.
_RAW = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}


class Point(NamedTuple):
    """One value: its tag, step, and when it was written, in seconds since the epoch."""

    tag: str
    step: int
    time: float
    value: float


class NoEvents(ValueError):
    """The bytes are no event file."""


def points(data: bytes) -> tuple[list[Point], int]:
    """Return the scalars in ``data``, which begins with a record, and how many bytes to skip before the
    next call: more than there are if the last record is large. Raises NoEvents."""
    found: list[Point] = []
    at = 0
    while at + _HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if length > 1 << 32:
            raise NoEvents("a record of more than 4 GiB")
        end = at + _HEAD + length + _FOOT
        if length <= LARGEST:
            if end > len(data):
                break
            try:
                found += _event(data[at + _HEAD : end - _FOOT])
            except (IndexError, struct.error):
                raise NoEvents("a record that is no event") from None
        at = end
    return found, at


def _event(data: bytes) -> Iterator[Point]:
    time, step, summary = 0.0, 0, b""
    for number, field in _fields(data):
        if number == 1 and isinstance(field, bytes):
            (time,) = struct.unpack("<d", field)
        elif number == 2 and isinstance(field, int):
            step = field
        elif number == 5 and isinstance(field, bytes):
            summary = field
    for number, field in _fields(summary):
        if number == 1 and isinstance(field, bytes):
            tag, value = _value(field)
            if value is not None and math.isfinite(value) and 0 <= step < 1 << 62:
                yield Point(tag[:LONGEST], step, time if math.isfinite(time) else 0.0, value)


def _value(data: bytes) -> tuple[str, float | None]:
    tag, value = "", None
    for number, field in _fields(data):
        if not isinstance(field, bytes):
            continue
        if number == 1:
            tag = field.decode("utf-8", "replace")
        elif number == 2:
            value = _number("<f", field)
        elif number == 8:
            value = _tensor(field)
    return tag, value


def _tensor(data: bytes) -> float | None:
    """Return the number of a tensor without dimensions; None of others."""
    kind, shaped, value = 0, False, None
    raw = b""
    for number, field in _fields(data):
        if isinstance(field, int):
            kind = field if number == 1 else kind
        elif number == 2:
            shaped = bool(field)
        elif number == 4:
            raw = field
        elif number == 5:
            value = _number("<f", field[:4])
        elif number == 6:
            value = _number("<d", field[:8])
    if raw and kind in _RAW:
        value = _number(_RAW[kind], raw)
    return None if shaped else value


def _number(form: str, data: bytes) -> float | None:
    return float(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise IndexError(kind)
        if at + size > end:
            raise IndexError(size)
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError(shift)
