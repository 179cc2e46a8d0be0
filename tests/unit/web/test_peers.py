"""The kernel says whose a connection is."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from launcher.web.peers import user_of

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2242 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:C001 0100007F:2242 01 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 0100007F:2242 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: broken
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a little-endian machine")
def test_a_line_of_the_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(TABLE)
    here = ("127.0.0.1", 0x2242)
    assert user_of(here, ("127.0.0.1", 0xC001), table) == 1000
    assert user_of(here, ("127.0.0.1", 0xC002), table) is None
    assert user_of(here, ("127.0.0.1", 0xC001), tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such table")
def test_an_own_connection() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as there,
        listener.accept()[0] as taken,
    ):
        assert user_of(taken.getsockname(), there.getsockname()) == os.getuid()
