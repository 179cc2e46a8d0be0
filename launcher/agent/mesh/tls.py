"""TLS between the hosts of a run, which accepts the certificates of this run only."""

from __future__ import annotations

import os
import ssl

from ..base import frames
from ..base.memory_files import in_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Tuple

    from ..base.messages import PeerSpec

    #: The two directions of a connection.
    Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


def context(spec: PeerSpec, purpose: ssl._SSLMethod) -> ssl.SSLContext:
    """Return a TLS context that accepts only the certificates of this run; ``spec`` holds our own."""
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the caller compares the name with the plan's, not with DNS's
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=spec["authority"])
    own = in_memory(spec["certificate"] + spec["key"])  # OpenSSL reads keys from files only
    try:
        context.load_cert_chain("/proc/self/fd/%d" % own)
    finally:
        os.close(own)
    return context


def name_in(writer: asyncio.StreamWriter) -> str | None:
    """Return the host that the other end's certificate names, or None."""
    certificate = writer.get_extra_info("peercert") or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return names[0] if len(names) == 1 else None


async def join(one: Streams, other: Streams) -> None:
    """Pass bytes on in both directions until one of them ends."""
    import asyncio  # slow to load, and a copy of data does not need it

    from .commands import LOST

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.read(frames.PIECE)
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except LOST:
            pass

    copies = [asyncio.ensure_future(copy(*one)), asyncio.ensure_future(copy(*other))]
    await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    for task in copies:
        task.cancel()
    await asyncio.gather(*copies, return_exceptions=True)
