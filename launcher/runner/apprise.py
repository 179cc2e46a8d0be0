"""Send news by apprise to the services that it knows: ``apprise:tgram://TOKEN/CHAT`` (extra ``notify``).

What its URLs mean is at https://appriseit.com/services/. It is only imported where one is named.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from ..spec.errors import InputError
from ..spec.version import installs

if TYPE_CHECKING:
    import apprise

#: How words that are for apprise begin.
PREFIX = "apprise:"
#: Characters from which on a part of a URL may be a secret.
_SECRET = 4


def check(url: str) -> None:
    """Raise InputError for a URL of which apprise makes nothing, and without apprise."""
    _service(url)


def send(url: str, text: str, kind: str) -> None:
    """Send a text, and wait for the service; ``kind`` is info, success, warning or failure.

    Raises InputError, and OSError with what apprise says, without the parts of the URL.
    """
    import apprise

    sender = apprise.Apprise([_service(url)])
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:
        sent = sender.notify(title="launcher", body=text, notify_type=kind)
        complaints = said.getvalue().strip().splitlines()
    if not sent:
        raise OSError(_without(url, complaints[-1]) if complaints else "apprise could not send it")


def _service(url: str) -> apprise.NotifyBase:
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise InputError(
            f"--notify {PREFIX}...: this needs {error.name}", installs("notify")
        ) from None
    service = apprise.Apprise.instantiate(url)
    if service is None:
        raise InputError(
            f"--notify {PREFIX}{_scheme(url)}...: apprise cannot read this URL",
            "its services and their URLs: https://appriseit.com/services/",
        )
    return service


def _scheme(url: str) -> str:
    found = re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE)
    return found[0] if found else ""


def _without(url: str, text: str) -> str:
    """Return a text without the parts of a URL."""
    parts = re.split(r"[/:@?&=#]+", url.partition("://")[2])
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SECRET:
            text = text.replace(part, "…")
    return text
