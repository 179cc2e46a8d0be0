"""What tells two logins apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from launcher.agent.processes.inherited import differing, group_of_logins, inherited

SAYS = (
    "import json, sys\nsys.path.insert(0, sys.argv[1])\n"
    "from launcher.agent.processes.inherited import inherited\nprint(json.dumps(inherited()))\n"
)


@pytest.mark.parametrize(
    ("front", "name"),
    [
        ("", ""),
        ("ulimit -n 64;", "Max open files"),
        ("umask 0123;", "Umask"),
        ("exec nice -n 3", "nice value"),
        ("exec taskset -c 0", "Cpus_allowed"),
        ("echo 500 > /proc/self/oom_score_adj;", "oom_score_adj"),
    ],
)
def test_what_differs_is_named(front: str, name: str) -> None:
    here = os.getcwd()
    script = f'{front} "$0" -c "$1" "$2"'
    argv = ["bash", "-c", script, sys.executable, SAYS, here]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert differing(inherited(), json.loads(said)) == name


def test_each_login_has_a_scope_of_its_own_and_the_same_limits() -> None:
    one, other = (
        group_of_logins(f"0::/user.slice/user-0.slice/session-{name}.scope\n")
        for name in ("3", "c12")
    )
    assert one == other != group_of_logins("0::/system.slice/ssh.service\n")
