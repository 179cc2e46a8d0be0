"""Fills in a start request that was made before its GPUs and ports were known. Pure.

The launcher fills it, too: a request where that does not give what it would have sent cannot wait on a
host.
"""

from __future__ import annotations

import binascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..base.messages import Given, Message, StartRequest


def filled(
    start: StartRequest,
    tokens: Mapping[str, Sequence[str]],
    indices: Sequence[int],
    names: Sequence[str],
    ports: Sequence[int],
    packed: Sequence[str] = (),
) -> StartRequest:
    """Return a start request with GPUs and ports in the places of their tokens.

    Of a word that begins with one of ``packed``, the rest is in base64.
    """
    given: Given = {"gpus": list(indices), "names": list(names), "ports": list(ports)}
    more = {"gpus": list(indices), "port": ports[0], "ports": list(ports[1:])}
    processes = _processes(start, _pairs(tokens, given), packed)
    return dict(start, processes=processes, **more)  # type: ignore[return-value]


def filled_together(
    start: StartRequest,
    tokens: Mapping[str, Mapping[str, Sequence[str]]],
    given: Mapping[str, Given],
    packed: Sequence[str] = (),
) -> StartRequest:
    """Return the start request of one of several hosts with what each of them was given.

    It has tokens of all hosts; the fields with numbers have them as numbers.
    """
    pairs = [pair for host, own in tokens.items() for pair in _pairs(own, given[host])]
    number = {
        int(token): int(value) for token, value in pairs if value.isdigit() and token.isdigit()
    }
    made: Message = dict(start, processes=_processes(start, pairs, packed))
    if start.get("port") is not None:
        made["port"] = number.get(start["port"] or 0, start["port"])
    for field in ("gpus", "ports"):
        numbers: list[int] = start.get(field) or []  # type: ignore[assignment]
        made[field] = [number.get(one, one) for one in numbers]
    for field in ("news", "share"):
        if start.get(field):
            line: Message = start[field]  # type: ignore[literal-required]
            made[field] = dict(line, port=number.get(line["port"], line["port"]))
    return made  # type: ignore[return-value]


def filled_for_place(
    start: StartRequest,
    pairs: Sequence[tuple[str, str]],
    entries: Sequence[Message],
    packed: Sequence[str] = (),
) -> StartRequest:
    """Return the start request of a place with the hosts of a way: ``entries`` are theirs in /etc/hosts,
    if the run has one of its own."""
    made: Message = dict(start, processes=_processes(start, pairs, packed))
    if start.get("news"):
        known = dict(pairs)
        line: Message = start["news"]  # type: ignore[assignment]
        made["news"] = dict(line, hub=known[line["hub"]], address=known[line["address"]])
    if start.get("own_hosts") is not None:
        made["own_hosts"] = list(entries)
    return made  # type: ignore[return-value]


def of_attempt(
    start: StartRequest, token: str, attempt: int, packed: Sequence[str] = ()
) -> StartRequest:
    """Return the start request of an attempt, which has a token in the place of its number."""
    processes = _processes(start, [(token, str(attempt))], packed)
    return dict(start, processes=processes, attempt=attempt)  # type: ignore[return-value]


def _pairs(tokens: Mapping[str, Sequence[str]], given: Given) -> list[tuple[str, str]]:
    """Return each token with what it stands for."""
    values = [*map(str, given["gpus"]), *given["names"], *map(str, given["ports"])]
    every = [*tokens["gpus"], *tokens["names"], *tokens["ports"]]
    return [(token, values[place]) for place, token in enumerate(every)]


def _processes(
    start: StartRequest, pairs: Sequence[tuple[str, str]], packed: Sequence[str]
) -> list[Message]:
    def fill(text: str) -> str:
        for token, value in pairs:
            text = text.replace(token, value)
        return text

    def fill_word(word: str) -> str:
        for name in packed:
            if word.startswith(name):
                inner = _unpacked(word[len(name) :])
                # what has no token in it, the user has written: it stays as it is
                return fill(word) if fill(inner) == inner else name + _packed(fill(inner))
        return fill(word)

    return [
        dict(
            one,
            argv=[fill_word(word) for word in one["argv"]],
            env={name: fill(value) for name, value in one["env"].items()},
        )
        for one in start["processes"]
    ]


def _unpacked(text: str) -> str:
    """Return what is in this base64; "" where nothing is."""
    try:
        return binascii.a2b_base64(text.replace("-", "+").replace("_", "/")).decode("utf-8")
    except ValueError:
        return ""


def _packed(text: str) -> str:
    data = binascii.b2a_base64(text.encode("utf-8"), newline=False)
    return data.decode("ascii").replace("+", "-").replace("/", "_")
