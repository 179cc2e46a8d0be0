"""The folder of a login by OpenSSH: its ssh_config, and the socket of its master."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "launcher-login-"
#: Bytes of a path that leave room for ours below it: a socket's has at most 104, of which ssh(1) needs
#: 17 while it starts.
LONGEST = 104 - 17 - len(f"/{PREFIX}12345678/master") - 1


class LoginFolder:
    """A private folder in the place for temporary files, locked for as long as it is in use."""

    def __init__(self, config: str) -> None:
        """Make it, and remove those of launchers that were killed. Raises OSError."""
        place = tempfile.gettempdir()
        if len(os.fsencode(place)) > LONGEST:
            place = "/tmp"  # private to us
        _remove_stale(place)
        hidden = tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place)
        # Nobody looks for a hidden one, which is not locked yet.
        self._lock = os.open(Path(hidden, "config"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._lock, config.encode())
        self.path = os.path.join(place, os.path.basename(hidden)[1:])
        os.rename(hidden, self.path)

    @property
    def config(self) -> str:
        """The path of the ssh_config."""
        return os.path.join(self.path, "config")

    @property
    def socket(self) -> str:
        """Where the master listens."""
        return os.path.join(self.path, "master")

    def remove(self) -> None:
        """Remove it; a second time, do nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_stale(place: str) -> None:
    for path in Path(place).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if path.lstat().st_uid != os.getuid():
                continue
            lock = os.open(path / "config", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
