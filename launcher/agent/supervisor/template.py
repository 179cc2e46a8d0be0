"""Fills in a start request that was made before its GPUs and ports were known. Pure.

The launcher fills it, too: a request where that does not give what it would have sent cannot wait on a
host.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..base.messages import StartRequest


def filled(
    start: StartRequest,
    tokens: Mapping[str, Sequence[str]],
    indices: Sequence[int],
    names: Sequence[str],
    ports: Sequence[int],
) -> StartRequest:
    """Return a start request with GPUs and ports in the places of their tokens."""
    values = [*map(str, indices), *names, *map(str, ports)]
    every = [*tokens["gpus"], *tokens["names"], *tokens["ports"]]
    pairs = [(token, values[place]) for place, token in enumerate(every)]

    def fill(text: str) -> str:
        for token, value in pairs:
            text = text.replace(token, value)
        return text

    processes = [
        dict(
            one,
            argv=[fill(word) for word in one["argv"]],
            env={name: fill(value) for name, value in one["env"].items()},
        )
        for one in start["processes"]
    ]
    more = {"gpus": list(indices), "port": ports[0], "ports": list(ports[1:])}
    return dict(start, processes=processes, **more)  # type: ignore[return-value]
