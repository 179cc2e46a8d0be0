"""Runs between a framework's launcher and one rank: gives it log files and reports its exit.

The supervisor of the run listens on a socket in the run's folder; when it is gone, the shim kills
the rank.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ..base import protocol
from ..base.lean import signal
from ..base.local_sockets import SUPERVISOR, connect, node_of
from ..processes import processes
from ..supervisor import errorfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import NoReturn

    from ..base.lean import Socket
    from ..base.messages import Message

#: Variables in which launchers of frameworks number a process: Horovod's, Open MPI's, torch's.
RANKS = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK")


def main(argv: list[str]) -> None:
    """Run ``rank [--of RUN_DIR] [--tokens] [--env NAMES] -- COMMAND ...``.

    LAUNCHER_RUN_DIR and the rank are in the environment. Where torchrun may renumber its ranks,
    LAUNCHER_RANK_OFFSET is the first rank of this host in the plan.
    """
    options, argv = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    if "--of" in options:
        _join_node(options[options.index("--of") + 1])
    rank = next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)
    known = {"rank": str(rank), "local_rank": os.environ.get("LOCAL_RANK", "0")}
    if "--tokens" in options:
        argv = [_filled(word, known) for word in argv]
    if "--env" in options:
        names = options[options.index("--env") + 1].split(",")
        os.environ.update({name: _filled(os.environ[name], known) for name in names})
    if "LAUNCHER_RANK_OFFSET" in os.environ:
        rank = int(os.environ["LAUNCHER_RANK_OFFSET"]) + int(os.environ["LOCAL_RANK"])
    run_dir = os.environ["LAUNCHER_RUN_DIR"]
    key = protocol.RANK + str(rank)
    logs = os.path.join(run_dir, "logs", "attempt-" + os.environ.get("LAUNCHER_ATTEMPT", "0"))
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    passed_on = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    supervisor = _connect(run_dir)
    try:
        child = _start(argv, logs, key, _stdin(run_dir, rank))
    except OSError as trouble:
        code = protocol.not_started(trouble)
    else:
        for number in passed_on:
            signal.signal(number, lambda n, _: processes.send([child], n))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _tell(supervisor, {"op": "rank-started", "key": key, "rank": rank, "pid": child})
        code = _wait(child, signals, supervisor)
    report = {"op": "rank-exited", "key": key, "rank": rank, "code": code, "at": time.time()}
    error = errorfile.read(os.environ.get(errorfile.VARIABLE)) if code else None
    _tell(supervisor, dict(report, error=error) if error else report)
    _exit_like(code)


def _filled(word: str, known: dict[str, str]) -> str:
    """Fill the placeholders of a word in; one behind a backslash only loses the backslash."""
    import re  # slow to import, and most commands have no placeholders

    def value(found: re.Match[str]) -> str:
        text = found.group()
        return text[1:] if text.startswith("\\") else known.get(found.group(1), text)

    return re.sub(r"\\?\{\{\s*([A-Za-z_]\w*)\s*(?::[^{}]*)?\}\}", value, word)


def _stdin(run_dir: str, rank: int) -> str:
    """Return what the rank reads: rank 0 what the user has for it."""
    own = os.path.join(run_dir, protocol.STDIN)
    return own if rank == 0 and os.path.exists(own) else os.devnull


def _start(argv: list[str], logs: str, key: str, stdin: str) -> int:
    """Return its pid. Raises OSError when it cannot be executed: its log says why then."""
    launch = processes.Launch(argv, dict(os.environ), os.getcwd())
    try:
        return processes.start(launch, _log(logs, key, "out"), _log(logs, key, "err"), stdin)
    except OSError as error:
        with open(_log(logs, key, "err"), "a") as file:
            file.write("launcher: cannot start %s: %s\n" % (argv[0], error.strerror))
        raise


def _log(logs: str, key: str, stream: str) -> str:
    return os.path.join(logs, "%s.%s" % (key, stream))


def _join_node(run_dir: str) -> None:
    """Replace the head's environment, which a framework's launcher passed on, by this node's.

    What the framework and its launcher have set for the rank stays. Also enter this node's folder.
    """
    try:
        env, folder = node_of(run_dir)
    except OSError as error:
        sys.stderr.write("launcher: the agent of this host does not answer: %s\n" % error)
        sys.exit(125)
    os.environ.pop("LAUNCHER_NODE", None)
    os.environ.update(env)
    os.chdir(folder)


def _connect(run_dir: str) -> Socket | None:
    """Return a connection to the supervisor, or None when it is gone."""
    try:
        return connect(run_dir, SUPERVISOR)
    except OSError:
        return None


def _tell(supervisor: Socket | None, message: Message) -> None:
    if supervisor is not None:
        try:
            supervisor.sendall(protocol.encode(message))
        except OSError:
            pass


def _wait(child: int, signals: int, supervisor: Socket | None) -> int:
    """Return the child's exit code, negative for a signal; kill it when the supervisor is gone."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return processes.exit_code(status)
        watched = [signals] + ([supervisor] if supervisor is not None else [])
        ready = select.select(watched, [], [], 5.0)[0]
        if signals in ready:
            os.read(signals, 512)
        if supervisor is None or (supervisor in ready and not supervisor.recv(4096)):
            processes.send([child], signal.SIGKILL)
            return processes.exit_code(os.waitpid(child, 0)[1])


def _exit_like(code: int) -> NoReturn:
    """Exit as the child did, by the same signal if it was one, so that torchrun sees the cause."""
    if code < 0 and -code not in (signal.SIGKILL, signal.SIGSTOP):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-code, signal.SIG_DFL)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
