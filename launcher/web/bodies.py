"""Reads what a page sends: JSON of a bounded size that arrives in time, with values of known types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")

#: Most bytes of a request's body, and seconds to send it.
BODY, PATIENCE = 1 << 16, 10.0


async def read(request: Request, most: int = BODY) -> bytes:
    """Return the body of a request. Raises HTTPException."""
    data = b""
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise HTTPException(413, f"the body is larger than {most} bytes")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "the body did not arrive in time") from None
    return data


async def values(request: Request, most: int = BODY) -> Mapping[str, Any]:
    """Return the object in the body of a request. Raises HTTPException."""
    try:
        value = json.loads(await read(request, most))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return value


def typed(given: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """Return a value of the body, or the default where it is missing. Raises HTTPException."""
    value = given.get(name, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise HTTPException(400, f"{name} must be of type {kind.__name__}")
    return value


def words(given: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of texts of the body, empty where it is missing. Raises HTTPException."""
    value = typed(given, name, list, [])
    if not all(isinstance(one, str) for one in value):
        raise HTTPException(400, f"{name} must be a list of texts")
    return value


def number(given: Mapping[str, Any], name: str, most: float) -> float | None:
    """Return a number of the body from 0 on; None where it is missing. Raises HTTPException."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise HTTPException(400, f"{name} must be a number from 0 to {most:g}")
    return float(value)
