"""Our frozen values are what ``@dataclass(frozen=True)`` makes, to everybody who uses them."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import (
    FrozenInstanceError,
    asdict,
    dataclass,
    field,
    fields,
    is_dataclass,
    replace,
)
from typing import Any

import pytest

from launcher.spec.frozen import frozen


@frozen
class Ours:
    a: int
    b: str = "x"
    c: tuple[int, ...] = field(default_factory=tuple)


@frozen
class More(Ours):
    d: float = field(default=0.5, kw_only=True)

    def __repr__(self) -> str:
        return "More!"


@dataclass(frozen=True)
class Theirs:
    a: int
    b: str = "x"
    c: tuple[int, ...] = field(default_factory=tuple)


def test_they_are_made_shown_compared_and_hashed_alike() -> None:
    for words in ((1,), (1, "y"), (1, "y", (2,))):
        ours, theirs = Ours(*words), Theirs(*words)
        assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
        assert hash(ours) == hash(theirs)
        assert asdict(ours) == asdict(theirs)
        assert ours == Ours(*words)
        assert ours != theirs
        assert ours != Ours(2, *words[1:])
        assert ours != More(*words), "another class, with the same fields and more"
    assert repr(More(1)) == "More!"
    assert More(1) != More(1, d=0.25)


@pytest.mark.parametrize("value", [Ours(1), More(1), Theirs(1)], ids=repr)
def test_nothing_of_them_changes(value: Any) -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        value.a = 2
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'other'"):
        value.other = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'b'"):
        del value.b
    assert replace(value, a=2).a == 2
    assert value.a == 1
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value


def test_a_case_takes_them_apart() -> None:
    match Ours(1, "y"):
        case Ours(a, b):
            assert (a, b) == (1, "y")


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((), {}, "missing required arguments: 'a'"),
        ((1,), {"z": 2}, "unexpected keyword argument 'z'"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ((1, "y", (), 0.5), {}, "takes 3 positional arguments but 4 were given"),
        ((1, "y", (), 0.5), {"a": 2}, "takes 3 positional arguments but 4 were given"),
    ],
)
def test_wrong_arguments_are_refused_as_by_any_function(
    args: tuple[Any, ...], kwargs: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        More(*args, **kwargs)
    with pytest.raises(TypeError):
        Theirs(*args, **kwargs)


@frozen
class Checked:
    inner: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inner.append(1)


def test_post_init_sees_the_fields_and_each_value_has_its_own_default() -> None:
    one, other = Checked(), Checked()
    assert one.inner == other.inner == [1]
    assert one.inner is not other.inner


def test_fields_keep_their_order_whatever_the_order_of_arguments() -> None:
    assert list(vars(More(d=1.0, b="y", a=1))) == ["a", "b", "c", "d"]


def test_the_first_looks_of_many_threads_see_the_same() -> None:
    """Fields are looked at when somebody first asks for them: of a class, or of one derived from it."""
    for _ in range(20):

        @frozen
        class Base:
            a: int
            b: list[int] = field(default_factory=list)

        @frozen
        class Derived(Base):
            c: str = "c"

        barrier = threading.Barrier(8)

        def make(number: int, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait()
            return (Derived if number % 2 else Base)(number)

        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(make, range(8)))
        assert [asdict(one) for one in made] == [
            {"a": number, "b": []} | ({"c": "c"} if number % 2 else {}) for number in range(8)
        ]


def test_a_class_that_is_derived_without_frozen_has_the_same_fields() -> None:
    @frozen
    class Base:
        a: int

    class Plain(Base):
        pass

    assert is_dataclass(Plain) and [one.name for one in fields(Plain)] == ["a"]
    assert repr(Plain(1)).endswith("Plain(a=1)")


def test_a_signature_tells_the_fields() -> None:
    """As editors, ``help`` and notebooks show it."""
    ours, theirs = inspect.signature(Ours), inspect.signature(Theirs)
    assert str(ours) == str(theirs)
    assert [one.kind for one in ours.parameters.values()] == [
        one.kind for one in theirs.parameters.values()
    ]
    assert [*inspect.signature(More).parameters] == ["a", "b", "c", "d"]
    assert inspect.signature(More).parameters["d"].kind is inspect.Parameter.KEYWORD_ONLY
    text = pydoc.render_doc(Ours, renderer=pydoc.plaintext)
    assert f"Ours{ours}" in text
    assert "= _init" not in text and "= _equal" not in text, "names that a reader cannot look up"


def test_a_signature_is_of_the_class_that_was_asked() -> None:
    class Plain(Ours):
        pass

    class Other(Ours):
        def __init__(self, text: str) -> None:
            super().__init__(len(text))

    class Callable(Ours):
        def __call__(self, step: int) -> None: ...

    assert inspect.signature(Plain) == inspect.signature(Ours)
    assert [*inspect.signature(Other).parameters] == ["text"]
    assert [*inspect.signature(Callable(1)).parameters] == ["step"]
    with pytest.raises(TypeError, match="not a callable object"):
        inspect.signature(Ours(1))  # type: ignore[arg-type]


def test_copy_replace_works_before_anybody_has_looked() -> None:
    """``copy.replace`` of Python 3.13 calls this method of the class."""

    @frozen
    class Fresh:
        a: int
        b: str = "x"

    assert Fresh.__replace__(Fresh(1), a=2) == Fresh(2)  # type: ignore[attr-defined]
