"""Models of GPUs as people write them (``A100``, ``a100-80gb``, ``rtx3090``), and as tools name them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COUNT = re.compile(r"\d{1,4}\Z")
_MODEL = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}\Z")
_MEMORY = re.compile(r"(\d{1,4})g(?:i?b)?\Z")
#: Words that make another model of a name: a 3090 is no 3090 Ti.
_OTHER_MODEL = frozenset(("ti", "super"))
#: How far the memory that a tool reports may be from what the model is sold with.
_MEMORY_OFF = 0.06
#: What vendors put in front of a model.
_MAKERS = re.compile(r"(?i)(nvidia|amd|intel(\(r\))?|tesla|geforce|quadro|instinct)\s+")


def read_count(text: str) -> tuple[str | None, int]:
    """Return the model and the number of GPUs that ``A100:4`` or ``4`` names. Raises ValueError."""
    model, _, count = text.rpartition(":")
    if not _COUNT.match(count) or (model and not is_model(model)) or text.startswith(":"):
        hint = f"{text}:1" if is_model(text) else "4 or A100:4"
        raise ValueError(f"{text!r} is no number of GPUs, such as {hint}")
    return model or None, int(count)


def is_model(text: str) -> bool:
    """Return whether a text may be the name of a model."""
    return _MODEL.match(text) is not None


def count_text(model: str | None, count: int) -> str:
    """Return ``A100:4``, or ``4`` for any model."""
    return f"{model}:{count}" if model else str(count)


def is_of(model: str, name: str, memory: int = 0) -> bool:
    """Return whether a GPU that its tool calls ``name``, with so many MiB, is of a ``model``.

    Case and dashes do not matter, nor what stands before and after: ``a100`` is every "NVIDIA
    A100-SXM4-80GB", ``A100-80GB`` only one with that memory, and an A10 is no A100.
    """
    words = _words(name)
    wanted = _words(model)
    if not _names_variant(wanted, words):
        return False
    return all(_is_in(word, words) or _is_memory(word, words, memory) for word in wanted)


def short(name: str) -> str:
    """Return a model without its maker: ``RTX A6000`` for "NVIDIA RTX A6000"."""
    while match := _MAKERS.match(name):
        name = name[match.end() :]
    return name


def tally(names: Iterable[str]) -> str:
    """Return ``4x RTX A6000, 2x A100`` for the names of GPUs."""
    kinds: dict[str, int] = {}
    for name in names:
        kind = short(name) or "GPU of unknown model"
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count}x {kind}" for kind, count in kinds.items())


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _names_variant(wanted: list[str], words: list[str]) -> bool:
    """Return whether the wanted model says that it is a Ti or a Super, if the GPU is one."""
    variants = _OTHER_MODEL & set(words)
    return all(one in "".join(wanted) for one in variants)


def _is_in(wanted: str, words: list[str]) -> bool:
    """Return whether a word is one of a name, or several of them written together."""
    return any(
        "".join(words[first:last]) == wanted
        for first in range(len(words))
        for last in range(first + 1, len(words) + 1)
    )


def _is_memory(wanted: str, words: list[str], memory: int) -> bool:
    """Return whether a word is the memory of a GPU; True where neither name nor tool tell it."""
    match = _MEMORY.match(wanted)
    if not match:
        return False
    told = [int(found[1]) for found in map(_MEMORY.match, words) if found]
    size = float(match[1])
    if told:
        return size in told
    return not memory or abs(memory / 1024 - size) <= _MEMORY_OFF * size
