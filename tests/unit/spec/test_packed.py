"""Lists of files that may be a million."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.spec.packed import LARGEST, PackedFiles, PackedNames, Rows

#: Names as a file system has them, also those that are not UTF-8.
NAMES = (
    st.binary(min_size=1, max_size=8)
    .filter(lambda raw: 0 not in raw)
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
NUMBERS = st.integers(0, LARGEST)


@pytest.mark.thorough
@given(st.lists(st.tuples(NAMES, NUMBERS, st.integers(-LARGEST, LARGEST))))
def test_files_are_what_was_put_in(files: list[tuple[str, int, int]]) -> None:
    packed = PackedFiles(files)
    assert list(packed) == files
    assert list(packed.paths) == [path for path, _, _ in files]
    assert (len(packed), packed.total) == (len(files), sum(size for _, size, _ in files))
    assert packed == PackedFiles(files)
    assert packed != PackedFiles([*files, ("more", 0, 0)])
    large = packed.only(lambda path, size, time: size > 99)
    assert list(large) == [one for one in files if one[1] > 99]


@given(st.lists(NAMES), st.lists(NAMES))
def test_names_are_found_in_any_order(names: list[str], others: list[str]) -> None:
    packed = PackedNames(names)
    assert list(packed) == names
    for name in (*names, *others):
        assert (name in packed) is (name in names)


def test_the_smallest_files_are_those_that_fit() -> None:
    files = PackedFiles([("huge", 1 << 40, 1), ("b", 10, 1), ("a", 5, 1)])
    assert list(files.smallest(100).paths) == ["b", "a"]
    assert list(files.smallest(9).paths) == ["a"]
    assert list(files.smallest(0).paths) == []
    assert list(PackedFiles([("empty", 0, 1)]).smallest(0).paths) == ["empty"]


def test_a_file_costs_its_name_and_two_numbers() -> None:
    files = PackedFiles((f"folder/sample-{number:08d}", number, number) for number in range(10_000))
    parts = (files._paths, files._sizes, files._times)
    assert sum(map(sys.getsizeof, parts)) < 10_000 * 55


def test_rows_are_a_sequence() -> None:
    rows = Rows(3, lambda: iter("abc"))
    assert (list(rows), rows[0], rows[-1], rows[1:]) == (["a", "b", "c"], "a", "c", ("b", "c"))
    assert rows == ("a", "b", "c")
    assert rows != ("a", "b")
    with pytest.raises(IndexError):
        rows[3]
    assert pickle.loads(pickle.dumps(rows)) == copy.deepcopy(rows) == ("a", "b", "c")
