"""Stands between torchrun and one rank: gives the rank its own log files and reports its end.

Not responsible for starting ranks: a framework's own launcher does, with RANK in the environment.
The supervisor of the run listens on a socket in the run's folder; when it goes away, so does the
rank.
"""

import os
import select
import signal
import socket
import sys
import time

from . import errorfile, processes, protocol


def main(argv):
    """``rank [--tokens] -- COMMAND ...``, with LAUNCHER_RUN_DIR and RANK in the environment.

    Where torchrun may number its ranks anew, LAUNCHER_RANK_OFFSET says where those of this host
    begin in the plan.
    """
    options, argv = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    rank = int(os.environ.get("RANK", "0"))
    if "--tokens" in options:
        known = {"rank": str(rank), "local_rank": os.environ.get("LOCAL_RANK", "0")}
        argv = [_filled(word, known) for word in argv]
    if "LAUNCHER_RANK_OFFSET" in os.environ:
        rank = int(os.environ["LAUNCHER_RANK_OFFSET"]) + int(os.environ["LOCAL_RANK"])
    run_dir = os.environ["LAUNCHER_RUN_DIR"]
    key = "rank-%d" % rank
    logs = os.path.join(run_dir, "logs", "attempt-" + os.environ.get("LAUNCHER_ATTEMPT", "0"))
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    passed_on = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    child = _start(argv, logs, key)
    for number in passed_on:
        signal.signal(number, lambda n, _: processes.send([child], n))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    supervisor = _connect(run_dir)
    _tell(supervisor, {"op": "rank-started", "key": key, "rank": rank, "pid": child})
    code = _wait(child, signals, supervisor)
    told = {"op": "rank-exited", "key": key, "rank": rank, "code": code, "at": time.time()}
    error = errorfile.read(os.environ.get(errorfile.VARIABLE)) if code else None
    _tell(supervisor, dict(told, error=error) if error else told)
    _exit_like(code)


def _filled(word, known):
    """A word with its tokens filled in; one with a backslash loses that."""
    import re  # takes a while, and most commands have no tokens

    def value(found):
        text = found.group()
        return text[1:] if text.startswith("\\") else known.get(found.group(1), text)

    return re.sub(r"\\?\{\{\s*([A-Za-z_]\w*)\s*(?::[^{}]*)?\}\}", value, word)


def _start(argv, logs, key):
    try:
        return processes.start(
            argv, dict(os.environ), os.getcwd(), _log(logs, key, "out"), _log(logs, key, "err")
        )
    except OSError as error:
        with open(_log(logs, key, "err"), "a") as file:
            file.write("launcher: cannot start %s: %s\n" % (argv[0], error))
        sys.exit(protocol.NOT_FOUND)


def _log(logs, key, stream):
    return os.path.join(logs, "%s.%s" % (key, stream))


def _connect(run_dir):
    """A connection to the supervisor, or None when it is gone."""
    here = os.open(".", os.O_RDONLY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(run_dir)  # a socket's path may be 107 bytes at most: name it from its own folder
        connection.connect("sock")
        return connection
    except OSError:
        connection.close()
        return None
    finally:
        os.fchdir(here)
        os.close(here)


def _tell(supervisor, message):
    if supervisor is not None:
        try:
            supervisor.sendall(protocol.encode(message))
        except OSError:
            pass


def _wait(child, signals, supervisor):
    """The child's exit code, negative for a signal; kills it when the supervisor is gone."""
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


def _exit_like(code):
    """Ends as the child did, by the same signal where it was one, so that torchrun sees the truth."""
    if code < 0 and -code not in (signal.SIGKILL, signal.SIGSTOP):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-code, signal.SIG_DFL)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
