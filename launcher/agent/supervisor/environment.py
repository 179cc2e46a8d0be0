"""The environment that every process of a run has from its host."""

import os


def environment(request):
    """What every process has from this host: the login's environment, secrets, and our PATH.

    A PATH of the job or of the inventory stands behind the folders that make ``python`` mean the
    host's Python.
    """
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "XDG_"))
    }
    path = request.get("own_path") or env.get("PATH", os.defpath)
    env["PATH"] = os.pathsep.join(list(request["path"]) + [path])
    env.update(request.get("secrets") or {})
    return env
