"""Opens a browser without showing an address to other users."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from contextlib import suppress

from ..api.client import home, write_at_home


def has_screen() -> bool:
    """Return whether a browser would be seen by whoever sits here."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def show(address: str, file: str) -> None:
    """Open a browser on a private file of launcher's folder that leads to the address: arguments are
    seen by all users. The caller removes the file. Raises OSError."""
    write_at_home(file, f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">\n')
    page = (home() / file).as_uri()
    threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()


def remove(file: str, own: str) -> None:
    """Remove a file of launcher's folder, unless another process has written it anew, without
    ``own``."""
    with suppress(OSError, ValueError):
        if own in (home() / file).read_text("utf-8"):
            (home() / file).unlink()
