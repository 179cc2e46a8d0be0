"""The environment that every process of a run gets from its host."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base.messages import PreloadRequest, StartRequest

#: Variables of the login that started the supervisor, which ends before the run. Others with XDG_ name
#: folders, and stay.
_OF_THE_LOGIN = (
    "SSH_",
    "XDG_CURRENT_DESKTOP",
    "XDG_RUNTIME_DIR",
    "XDG_SEAT",
    "XDG_SESSION_",
    "XDG_VTNR",
)


def environment(
    request: StartRequest | PreloadRequest, login: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the login's environment, with the secrets and our PATH.

    A PATH of the job or of the inventory comes after the folders that make ``python`` the host's
    Python.
    """
    env = {name: value for name, value in login.items() if not name.startswith(_OF_THE_LOGIN)}
    path = request.get("own_path") or env.get("PATH", os.defpath)
    env["PATH"] = os.pathsep.join(list(request["path"]) + [path])
    env.update(request.get("secrets") or {})
    return env


def early_environment(
    request: PreloadRequest, login: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment that the processes of the next stage will have."""
    found = environment(request, login)
    return {**found, **request["process"]["env"], "PATH": found["PATH"]}
