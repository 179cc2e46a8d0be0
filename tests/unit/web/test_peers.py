"""The kernel says whose a connection is."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from launcher.web.peers import GONE, user_of

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2242 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:C001 0100007F:2242 01 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 0100007F:2242 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: broken
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a little-endian machine")
def test_a_line_of_the_table(tmp_path: Path) -> None:
    tables = tmp_path / "tcp", tmp_path / "tcp6"
    here = ("127.0.0.1", 0x2242)
    assert user_of(here, ("127.0.0.1", 0xC001), tables) is None
    tables[0].write_text(TABLE)
    assert user_of(here, ("127.0.0.1", 0xC001), tables) == 1000
    assert user_of(here, ("127.0.0.1", 0xC002), tables) == GONE


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such table")
@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_an_own_connection(address: str) -> None:
    """Also of a socket of IPv6."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        there = socket.create_connection((address, port))
        with there, listener.accept()[0] as taken:
            assert user_of(taken.getsockname(), taken.getpeername()) == os.getuid()
        assert user_of(("127.0.0.1", port), ("127.0.0.1", 1)) == GONE
