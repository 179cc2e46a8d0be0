"""Who comes in says soon what they want, or has to leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from launcher.web import doorkeeper
from launcher.web.doorkeeper import Doorkeeper


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_half_a_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = uvicorn.Config(_app, lifespan="off", log_level="error")
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Doorkeeper(config, state, {}), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for patience, data, answer in (
            (0.05, b"GET / HT", b""),
            (60.0, b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", b"HTTP/1.1 204"),
        ):
            monkeypatch.setattr(doorkeeper, "PATIENCE", patience)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert (await reader.read()).startswith(answer)
            writer.close()
            await writer.wait_closed()
    assert not state.connections
