"""Fills in a start request that was made before its GPUs and ports were known. Pure.

The launcher fills it, too: a request where that does not give what it would have sent cannot wait on a
host.
"""

from __future__ import annotations

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
) -> StartRequest:
    """Return a start request with GPUs and ports in the places of their tokens."""
    given: Given = {"gpus": list(indices), "names": list(names), "ports": list(ports)}
    more = {"gpus": list(indices), "port": ports[0], "ports": list(ports[1:])}
    processes = _processes(start, _pairs(tokens, given))
    return dict(start, processes=processes, **more)  # type: ignore[return-value]


def filled_together(
    start: StartRequest,
    tokens: Mapping[str, Mapping[str, Sequence[str]]],
    given: Mapping[str, Given],
) -> StartRequest:
    """Return the start request of one of several hosts with what each of them was given.

    It has tokens of all hosts; the fields with numbers have them as numbers.
    """
    pairs = [pair for host, own in tokens.items() for pair in _pairs(own, given[host])]
    number = {
        int(token): int(value) for token, value in pairs if value.isdigit() and token.isdigit()
    }
    made: Message = dict(start, processes=_processes(start, pairs))
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


def _pairs(tokens: Mapping[str, Sequence[str]], given: Given) -> list[tuple[str, str]]:
    """Return each token with what it stands for."""
    values = [*map(str, given["gpus"]), *given["names"], *map(str, given["ports"])]
    every = [*tokens["gpus"], *tokens["names"], *tokens["ports"]]
    return [(token, values[place]) for place, token in enumerate(every)]


def _processes(start: StartRequest, pairs: Sequence[tuple[str, str]]) -> list[Message]:
    def fill(text: str) -> str:
        for token, value in pairs:
            text = text.replace(token, value)
        return text

    return [
        dict(
            one,
            argv=[fill(word) for word in one["argv"]],
            env={name: fill(value) for name, value in one["env"].items()},
        )
        for one in start["processes"]
    ]
