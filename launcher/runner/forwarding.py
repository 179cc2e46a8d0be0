"""Forward a port of this machine to a host: TensorBoard, Jupyter, a debugger."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable

from ..fleet.fanout import Visited, visit
from ..spec.errors import ConnectionLost, HostError, InputError
from ..spec.model import Layout, Request
from ..transport.connection import Connection, Tunnel
from .remote_commands import chosen_nodes

#: Bytes that are passed on at once.
PIECE = 1 << 16


async def forward(
    request: Request,
    layout: Layout,
    number: int,
    port: int,
    local_port: int,
    on_ready: Callable[[str, int], None],
    on_refused: Callable[[HostError], None],
) -> None:
    """Pass connections to ``local_port`` here (0: any) on to ``port`` of a node, until cancelled.

    ``on_ready`` gets the host and the port here, ``on_refused`` the error of a connection that nothing
    takes there. Raises InputError if the port here is taken, HostError.
    """

    async def one(visited: Visited) -> None:
        connection, talking = visited.connection, set[asyncio.Task[None]]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            talking.add(task)
            try:
                await _pass_on(connection, port, reader, writer)
            except HostError as error:
                on_refused(error)
            finally:
                talking.discard(task)
                writer.close()

        server = await _listen(serve, local_port)
        agent = await visited.agent()  # notices when the connection is gone
        try:
            on_ready(visited.host, int(server.sockets[0].getsockname()[1]))
            await asyncio.shield(agent.closed)
        finally:
            server.close()
            await agent.close()
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
        raise ConnectionLost(visited.host, "the connection was lost", "forward it again")

    (result,) = (await visit(request, layout, one, chosen_nodes(layout, number))).values()
    if isinstance(result, HostError):
        raise result


async def _listen(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int
) -> asyncio.Server:
    try:
        return await asyncio.start_server(serve, "127.0.0.1", port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "in use" if error.errno == errno.EADDRINUSE else "not for this user"
        raise InputError(
            f"port {port} of this machine is {why}", "name another one in front: 16006:6006"
        ) from None


async def _pass_on(
    connection: Connection, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    tunnel = await connection.tunnel(port)
    try:
        going = asyncio.ensure_future(_send(reader, tunnel))
        try:
            while data := await tunnel.stdout.read(PIECE):
                writer.write(data)
                await writer.drain()
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
    except OSError:
        pass  # one side has hung up
    finally:
        tunnel.close()


async def _send(reader: asyncio.StreamReader, tunnel: Tunnel) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            tunnel.stdin.write(data)
        tunnel.stdin.write_eof()
