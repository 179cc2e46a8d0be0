"""Lists of files that may be a million: packed, so that none of them is an object of its own."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import eq
from typing import TypeVar, overload

T = TypeVar("T")

#: Most that a size or a time may be here.
LARGEST = (1 << 63) - 1


class PackedFiles:
    """Files as ``(path, size, time)``, in the order in which they came. Paths are those of files:
    without NUL, with surrogates for what is not UTF-8."""

    def __init__(self, files: Iterable[tuple[str, int, int]] = ()) -> None:
        self._paths = bytearray()  # each with a NUL behind it
        self._sizes, self._times = array("q"), array("q")
        self.extend(files)

    def extend(self, files: Iterable[tuple[str, int, int]]) -> None:
        """Add files, while the list is made."""
        for path, size, time in files:
            self._paths += _raw(path) + b"\0"
            self._sizes.append(size)
            self._times.append(time)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        return zip(_each(self._paths), self._sizes, self._times, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedFiles):
            return NotImplemented
        mine = (self._sizes, self._times, self._paths)
        return mine == (other._sizes, other._times, other._paths)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedFiles({list(self)})"

    @property
    def total(self) -> int:
        """The sizes of all together."""
        return sum(self._sizes)

    @property
    def paths(self) -> Iterator[str]:
        """The path of each."""
        return _each(self._paths)

    @property
    def names(self) -> bytes:
        """All paths as bytes, with a NUL behind each."""
        return bytes(self._paths)

    def only(self, keep: Callable[[str, int, int], bool]) -> PackedFiles:
        """Return the files for which ``keep(path, size, time)`` is true."""
        return PackedFiles(one for one in self if keep(*one))

    def smallest(self, room: int) -> PackedFiles:
        """Return as many files as fit into so many bytes, the smallest first."""
        chosen = bytearray(len(self))
        for index in sorted(range(len(self)), key=self._sizes.__getitem__):
            room -= self._sizes[index]
            if room < 0:
                break
            chosen[index] = 1
        return PackedFiles(one for one, is_in in zip(self, chosen, strict=True) if is_in)


class PackedNames:
    """Names in the order in which they came; asking for one is fast where most came sorted."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._data = bytearray()
        self._starts = array("Q")  # of the names that are larger than all before
        self._others: set[bytes] = set()
        self._last = b""
        self._count = 0
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name behind the others."""
        raw = _raw(name)
        if raw > self._last:
            self._starts.append(len(self._data))
            self._last = raw
        else:
            self._others.add(raw)
        self._data += raw + b"\0"
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return _each(self._data)

    def __contains__(self, name: str) -> bool:
        raw = _raw(name)
        if raw in self._others:
            return True
        index = bisect_left(self._starts, raw, key=self._at)
        return index < len(self._starts) and self._at(self._starts[index]) == raw

    def _at(self, start: int) -> bytes:
        return bytes(self._data[start : self._data.index(0, start)])


class Rows(Sequence[T]):
    """Items that are made when they are asked for."""

    def __init__(self, count: int, each: Callable[[], Iterator[T]]) -> None:
        self._count, self._each = count, each

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return self._each()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return tuple(self)[index]
        (found,) = islice(self, range(self._count)[index], range(self._count)[index] + 1)
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[tuple[T, ...]], tuple[tuple[T, ...]]]:
        return (tuple, (tuple(self),))  # a copy or a pickle holds the items

    def __repr__(self) -> str:
        return f"Rows of {self._count}"


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _each(data: bytearray) -> Iterator[str]:
    """Yield what stands before each NUL."""
    start, end = 0, data.find(0)
    while end >= 0:
        yield data[start:end].decode("utf-8", "surrogateescape")
        start = end + 1
        end = data.find(0, start)
