"""Turns a fork of the relay into the supervisor of a run, detached from connection and terminal."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from ..base import plain_files, protocol
from ..base.lean import Socket, socket
from .supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from ..base.messages import Message, SupervisorSpec
    from ..processes.own_hosts import OwnHosts

    #: Begins to store outputs: see relay/unattended.py.
    Store = Callable[[Message, float, float, bool], None]

#: Seconds for the owner of a run to answer; one that hangs owns the run all the same.
ANSWERS = 15.0
#: Seconds for a supervisor that no longer answers to exit, or for a new one to answer.
LEAVES = 10.0


def launch(run_dir: str, spec: SupervisorSpec, store: Store | None = None) -> None:
    """Start the supervisor of ``run_dir`` unless there is one; return when it answers.

    Once the run is over there, ``store`` begins to store its outputs, if a launcher has left URLs for
    that. Raises OSError when it does not start.
    """
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            os.setsid()
            if os.fork() == 0:
                _become_supervisor(run_dir, spec, tell, store)
        finally:
            os._exit(0)
    os.close(tell)
    os.wait()
    with os.fdopen(ready, "rb") as pipe:
        answer = pipe.read().decode()
    if answer != "ready":
        raise OSError("the supervisor did not start: %s" % (answer or "it exited at once"))


def _become_supervisor(run_dir: str, spec: SupervisorSpec, tell: int, store: Store | None) -> None:
    try:
        os.chdir(run_dir)
        _detach_streams(keep=tell)
        lock = _own()
        if lock is None:
            os.write(tell, b"ready")  # another supervisor owns this run
            return
        supervisor = Supervisor(spec, _own_hosts(spec))
        os.write(tell, b"ready")
        os.close(tell)
        supervisor = _serve(supervisor)
        os.close(lock)  # before clients notice the end: they may start another supervisor at once
        left = supervisor.left_to_store()
        if left and store:
            store(*left)
        supervisor.clients.close()
        gathered, broadcast = supervisor.gathered, supervisor.broadcast
        if gathered and gathered.is_needed:
            _let_go(but={*gathered.descriptors, *broadcast.descriptors})
            gathered.pass_on()
        if broadcast.is_needed:
            _let_go(but=broadcast.descriptors)
            broadcast.pass_on()
    except Exception as error:
        import traceback

        traceback.print_exc()
        try:
            os.write(tell, str(error).encode())
        except OSError:
            pass


def _serve(supervisor: Supervisor) -> Supervisor:
    """Serve one attempt, and those that take over what it has imported; return the last one's."""
    supervisor.serve()
    while supervisor.stays:
        from .staying import until_next  # most runs stay for nothing

        following = until_next(supervisor)
        if following is None:
            break
        supervisor = following
        supervisor.serve()
    return supervisor


def _own_hosts(spec: SupervisorSpec) -> OwnHosts | None:
    if not spec.get("own_hosts"):
        return None
    from ..processes.own_hosts import OwnHosts

    return OwnHosts("hosts")


def _own() -> int | None:
    """Take the lock of the run in this folder and return it, or None while its owner answers.

    Wait for an owner that is about to exit. Raises OSError when it does not.
    """
    lock = os.open("supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEAVES
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if _owner_answers():
                os.close(lock)
                return None
        if time.monotonic() > deadline:
            raise OSError("the previous supervisor neither answers nor exits")
        time.sleep(0.01)


def _owner_answers() -> bool:
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as owner:
        owner.settimeout(ANSWERS)
        try:
            owner.connect("sock")
            owner.sendall(protocol.encode({"op": "subscribe"}))
            return bool(owner.recv(1 << 12))
        except socket.timeout:
            return True
        except OSError:
            return False


def _detach_streams(keep: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    log = plain_files.opened("supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, keep)
    os.closerange(keep + 1, 1024)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)


def _let_go(but: Container[int]) -> None:
    """Close all descriptors but the standard streams and these, and leave the folder."""
    os.chdir("/")
    for number in os.listdir("/proc/self/fd"):
        if int(number) > 2 and int(number) not in but:
            try:
                os.close(int(number))
            except OSError:
                pass  # the descriptor of the listing itself
