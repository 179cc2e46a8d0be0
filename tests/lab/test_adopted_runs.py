"""A run of another machine, of which only its hosts hold a record: what they say is a claim."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.records.run_lock import holder
from support import hostile
from support import lab as labs
from support.command import Launcher, kill_follower, of_runs
from support.terminal import Terminal

#: Fails as soon as somebody writes /tmp/fail on its host.
WAITS = "while [ ! -e /tmp/fail ]; do sleep 0.1; done; exit 1"
SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalr-topsecret", "SSH_AUTH_SOCK": "/tmp/agent.sock"}
RUNS = "/root/.launcher/host/runs"


@pytest.fixture
def begun(own: labs.Lab, launcher: Launcher) -> str:
    """A run on both hosts that nobody follows any more; return its name."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    ran = launcher.call(
        "run", "-i", str(launcher.inventory), "-d", "--no-check", "--nodes=2",
        "--framework=torch", "--max-restarts=2", "--", "sh", "-c", WAITS,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (folder,) = (launcher.home / "runs").iterdir()
    kill_follower(folder)
    labs.wait_until(lambda: holder(folder) is None, "the follower's end")
    return folder.name


@pytest.fixture
def elsewhere(launcher: Launcher, tmp_path: Path) -> Launcher:
    """Another machine of the user, with secrets in its environment."""
    return replace(launcher, home=tmp_path / "elsewhere", env=SECRETS)


def forge(host: labs.LabHost, run: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a host holds of a run."""
    file = f"{RUNS}/{run}/run.json"
    value = json.loads(host.read(file))
    change(value)
    host.write(file, json.dumps(value).encode())


def name_secrets(value: dict[str, Any]) -> None:
    value["job"]["secrets"] = sorted(SECRETS)


def run_another_command(value: dict[str, Any]) -> None:
    value["attempt"] = 5
    value["job"].update(run=["id > /root/PWNED; sleep 3"], shell=True)


def name_data_of_ours(value: dict[str, Any]) -> None:
    """As if the run had been given keys of whoever takes it up, and wrote into a bucket of theirs."""
    value["job"]["data"] = [{"name": "keys", "source": "/root/.ssh", "to": ""}]
    value["job"]["output_to"] = "s3://backups/{{run}}"


def name_no_other_host(value: dict[str, Any]) -> None:
    """As if the run were this host's alone: a stop would leave the other's processes."""
    value["attempt"] = 5
    value["nodes"] = [{**value["nodes"][1], "node_rank": 0, "rank_offset": 0}]


def sent(host: labs.LabHost) -> str:
    """Return all that a host was asked to start with."""
    return host.run("sh", "-c", "cat /tmp/started 2>/dev/null || true").stdout.decode()


#: Notes every request to start.
_SPY = """\
start = relay.Relay.do_start
def do_start(self, request):
    with open("/tmp/started", "a") as file:
        file.write(repr(request))
    return start(self, request)
relay.Relay.do_start = do_start
"""


@pytest.mark.parametrize("change", [name_secrets, run_another_command])
@pytest.mark.parametrize("command", ["attach", "rerun"])
def test_a_forged_record_starts_nothing_and_gets_no_secret(
    own: labs.Lab,
    launcher: Launcher,
    elsewhere: Launcher,
    begun: str,
    change: Callable[[dict[str, Any]], None],
    command: str,
) -> None:
    """Without a terminal it is refused, and the flag that allows it is named; with it, it is done."""
    one, evil = own.hosts.values()
    forge(evil, begun, change)
    hostile.inventory(own, launcher.inventory)
    hostile.corrupt(evil, _SPY)
    inventory = str(launcher.inventory)
    refused = elsewhere.call(command, "-i", inventory, begun)
    assert refused.returncode == 2, refused.stderr
    assert "--trust-record" in refused.stderr
    differs = f"its record differs from that of {'lab1' if change is name_secrets else 'lab2'}"
    assert differs in refused.stderr or "lab2: its record differs" in refused.stderr
    evil.write("/tmp/fail", b"")
    stopped = elsewhere.call("stop", "-i", inventory, begun, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr
    assert one.run("test", "-e", "/root/PWNED", check=False).returncode == 1
    assert "topsecret" not in sent(evil)
    assert not any(map(of_runs, own.hosts.values()))


def test_a_host_that_a_record_leaves_out_is_named(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str
) -> None:
    forge(own.hosts["lab2"], begun, name_no_other_host)
    refused = elsewhere.call("attach", "-i", str(launcher.inventory), begun)
    assert refused.returncode == 2, refused.stderr
    assert "lab1: it runs processes of this run, and lab2 does not name it" in refused.stderr
    stopped = launcher.call("stop", begun, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr


def test_a_record_that_all_hosts_hold_is_followed_and_restarted(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str
) -> None:
    """Nobody is asked where nothing is in doubt."""
    one, _ = own.hosts.values()
    one.write("/tmp/fail", b"")
    attached = elsewhere.call("attach", "-i", str(launcher.inventory), begun)
    assert attached.returncode == 1, attached.stderr
    assert "attempt 2" in attached.stderr


def test_a_run_that_names_secrets_gets_them_where_the_user_says_so(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str
) -> None:
    """Honest hosts that hold the same record name them all the same."""
    for host in own.hosts.values():
        forge(host, begun, name_secrets)
    hostile.inventory(own, launcher.inventory)
    hostile.corrupt(own.hosts["lab2"], _SPY)
    own.hosts["lab1"].write("/tmp/fail", b"")
    refused = elsewhere.call("attach", "-i", str(launcher.inventory), begun)
    assert refused.returncode == 2, refused.stderr
    assert "AWS_SECRET_ACCESS_KEY, SSH_AUTH_SOCK" in refused.stderr
    attached = elsewhere.call("attach", "-i", str(launcher.inventory), begun, "--trust-record")
    assert attached.returncode == 1, attached.stderr
    assert "topsecret" in sent(own.hosts["lab2"]), attached.stderr


def test_a_record_gets_no_data_of_ours_unasked(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str
) -> None:
    """Hosts that hold the same record may all be hostile."""
    for host in own.hosts.values():
        forge(host, begun, name_data_of_ours)
    where = ["-i", str(launcher.inventory), begun]
    for command in ("attach", "rerun"):
        refused = elsewhere.call(command, *where)
        assert refused.returncode == 2, refused.stderr
        assert "it gives hosts /root/.ssh as data set keys" in refused.stderr
        assert "it stores outputs in s3://backups/{{run}}, with your credentials" in refused.stderr
    stopped = elsewhere.call("stop", *where, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr
    assert not any(map(of_runs, own.hosts.values()))


def test_a_name_that_leads_elsewhere_makes_no_folder(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str
) -> None:
    hostile.inventory(own, launcher.inventory)
    record = json.loads(own.hosts["lab2"].read(f"{RUNS}/{begun}/run.json"))
    name = "zeta-run-1/../../../escaped"
    runs = [{"run": name, "alive": True, "started": True, "record": {**record, "run": name}}]
    hostile.answer(own.hosts["lab2"], "runs", {"runs": runs, "going_on": []})
    shown = elsewhere.call("show", "-i", str(launcher.inventory), "zeta")
    assert shown.returncode == 2, shown.stderr
    assert not list(elsewhere.home.parent.rglob("escaped*"))
    stopped = launcher.call("stop", begun, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.parametrize(("answer", "attempts"), [("n", 0), ("y", 2)])
def test_at_a_terminal_the_user_is_asked(
    own: labs.Lab, launcher: Launcher, elsewhere: Launcher, begun: str, answer: str, attempts: int
) -> None:
    """What it would run, and what is in doubt; without consent it is followed, and not restarted."""
    for host in own.hosts.values():
        forge(host, begun, name_secrets)
    own.hosts["lab1"].write("/tmp/fail", b"")
    argv = [sys.executable, "-m", "launcher", "attach", "-i", str(launcher.inventory), begun]
    env = {**elsewhere.environment(), "TERM": "xterm"}
    with Terminal(argv, elsewhere.work, env) as terminal:
        terminal.expect("[y/N]")
        terminal.type(f"{answer}\n")
        assert terminal.end() == 1
    seen = terminal.seen.decode()
    assert "run: sh -c 'while" in seen
    assert "AWS_SECRET_ACCESS_KEY, SSH_AUTH_SOCK" in seen
    assert seen.count("restarting after") == attempts
