"""A host whose agent does as a test wants: it tells launcher whatever it likes."""

from __future__ import annotations

import json
from pathlib import Path

from support import lab as labs

PYTHON = "/usr/local/bin/hostile-python"

#: An interpreter that changes the agent before it serves. The agent's own files stay as they are.
_INTERPRETER = """\
#!/bin/sh
[ -n "$LAUNCHER_START" ] || exec python3 "$@"
shift 4
exec python3 -I -S -c '
import os
serve = "from agent.main import main"
change = "import agent.relay.relay as relay; exec(open(\\"/etc/hostile.py\\").read()); "
exec(os.environ.pop("LAUNCHER_START").replace(serve, change + serve))
' "$@"
"""

#: Says messages of its own behind the first piece of a log.
_BEHIND_A_LOG = """\
say, left = relay.Relay._say, {messages!r}
def _say(self, message, payload=b""):
    say(self, message, payload)
    while "log" in message and left:
        say(self, *left.pop(0))
relay.Relay._say = _say
"""

#: Answers one request with something else.
_ANSWERS = """\
def answer(self, request):
    return {answer!r}
setattr(relay.Relay, "do_{op}", answer)
"""


def corrupt(host: labs.LabHost, code: str) -> None:
    """Have the host's agent run ``code``, which sees its module ``relay``, before it serves."""
    host.write("/etc/hostile.py", code.encode())
    host.write(PYTHON, _INTERPRETER.encode(), 0o755)


def say(host: labs.LabHost, *messages: object, payload: bytes = b"") -> None:
    """Have the host say these messages behind the first piece of a log."""
    corrupt(host, _BEHIND_A_LOG.format(messages=[(one, payload) for one in messages]))


def answer(host: labs.LabHost, op: str, value: object) -> None:
    """Have the host answer one kind of request with a value."""
    corrupt(host, _ANSWERS.format(op=op, answer=value))


def inventory(lab: labs.Lab, file: Path, hostile: str = "lab2") -> None:
    """Write an inventory in which one host is hostile."""
    hosts = {name: {"python": PYTHON if name == hostile else "python3"} for name in lab.hosts}
    value = {"ssh_config": str(lab.ssh_config), "defaults": {"user": "root"}, "hosts": hosts}
    file.write_text(json.dumps(value))
