"""Turns a fork of the relay into the supervisor of a run, detached from connection and terminal."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from ..base import plain_files, protocol
from ..base.lean import Socket, socket
from ..processes import detached
from .supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from ..base.messages import Message, SupervisorSpec
    from ..processes.own_hosts import OwnHosts
    from .warm.forking import Warm
    from .warm.keeper import Keeper

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

    def be(beginning: detached.Beginning) -> None:
        there = There(keep=beginning.descriptor)
        become_supervisor(run_dir, spec, beginning.tell, store, there)

    problem = detached.start(be)
    if problem:
        raise OSError("the supervisor did not start: %s" % problem)


class There:
    """What a process has already that becomes a supervisor: a descriptor to ``keep``, by which it tells
    that it is one; and, if it was kept for this run, a Python that has imported modules, and the text of
    the host's /etc/hosts."""

    def __init__(
        self,
        keeper: Keeper | None = None,
        warm: Warm | None = None,
        keep: int = -1,
        hosts: str | None = None,
    ) -> None:
        self.keeper, self.warm, self.hosts = keeper, warm, hosts
        self.descriptors = {keep} | ({keeper.lock} if keeper else set())
        self.descriptors |= {warm.state()[1]} if warm else set()


def become_supervisor(
    run_dir: str,
    spec: SupervisorSpec,
    tell: Callable[[str], None],
    store: Store | None,
    there: There,
) -> None:
    """Be the supervisor of a run until that is over, unless it has one. ``tell`` is called with "" once
    it answers, or with the problem; then, maybe again, with what went wrong later."""
    try:
        os.chdir(run_dir)
        _detach_streams(there.descriptors)
        lock = _own()
        if lock is None:
            tell("")  # another supervisor owns this run
            return
        keeper = there.keeper or _new_keeper(spec)
        supervisor = Supervisor(spec, _own_hosts(spec, keeper, there), None, there.warm, keeper)
        tell("")
        supervisor = _serve(supervisor, store)
        _end(supervisor, keeper, lock, store)
    except Exception as error:
        import traceback

        traceback.print_exc()
        tell(str(error))


def _end(supervisor: Supervisor, keeper: Keeper | None, lock: int, store: Store | None) -> None:
    """Do what is left once the run is over here. What imports are kept for the next run leaves that to
    another process."""
    keeps = keeper is not None and _listens(supervisor, keeper)
    if not keeps:
        supervisor.ahead.cool()
    os.close(lock)  # before clients notice the end: they may start another supervisor at once
    if keeper and keeps:
        from .warm.keeper import apart  # few runs keep anything

        if supervisor.left_to_store() or _passes_on(supervisor) or supervisor.queue.witnesses:
            apart(lambda: _do_the_rest(supervisor, store))
        supervisor.clients.close()
        try:
            keeper.become()
        except OSError:
            import traceback

            traceback.print_exc()
        supervisor.ahead.cool()
        keeper.close()
        return
    if keeper:
        keeper.close()
    _do_the_rest(supervisor, store)


def _listens(supervisor: Supervisor, keeper: Keeper) -> bool:
    """Return whether the next run finds what this one has imported, if it is to."""
    ahead = supervisor.ahead
    if not ahead.keeps or not ahead.warm or not ahead.warm.is_ready:
        return False
    try:
        keeper.listen()  # before anybody notices the end: the next run may begin at once
    except OSError:
        return False
    return True


def _passes_on(supervisor: Supervisor) -> bool:
    gathered = supervisor.queue.together
    return supervisor.broadcast.is_needed or bool(gathered and gathered.is_needed)


def _do_the_rest(supervisor: Supervisor, store: Store | None) -> None:
    """Have outputs stored, and other hosts told."""
    left = supervisor.left_to_store()
    if left and store:
        store(*left)
    supervisor.clients.close()
    gathered, broadcast = supervisor.queue.together, supervisor.broadcast
    if gathered and gathered.is_needed:
        _let_go(but={*gathered.descriptors, *broadcast.descriptors})
        gathered.pass_on()
    if broadcast.is_needed:
        _let_go(but=broadcast.descriptors)
        broadcast.pass_on()
    if supervisor.queue.witnesses:
        from .gang.witness import Witness  # few runs have a project

        _let_go(but=())
        gang = supervisor.queue.witnesses
        Witness(supervisor.run_id, supervisor.host, gang, time.monotonic()).serve()


def _new_keeper(spec: SupervisorSpec) -> Keeper | None:
    if not spec.get("place"):
        return None
    from .warm import keeper  # few runs keep anything

    try:
        return keeper.begun(spec)
    except OSError as error:
        spec["no_place"] = error.strerror or str(error)
        return None


def _serve(supervisor: Supervisor, store: Store | None) -> Supervisor:
    """Serve one attempt, and those that wait again or take over what it has imported; return the last
    one's."""
    supervisor.serve()
    while supervisor.ahead.stays or supervisor.queue.returns:
        if supervisor.queue.returns:
            from .staying import next_attempt  # few runs give GPUs back

            supervisor = next_attempt(supervisor, store)
            supervisor.serve()
            continue
        from .staying import until_next  # most runs stay for nothing

        following = until_next(supervisor)
        if following is None:
            break
        supervisor = following
        supervisor.serve()
    return supervisor


def _own_hosts(spec: SupervisorSpec, keeper: Keeper | None, there: There) -> OwnHosts | None:
    if not spec.get("own_hosts"):
        return None
    from ..processes.own_hosts import OwnHosts

    if there.hosts is not None:
        return OwnHosts.entered(there.hosts)
    return OwnHosts(os.path.join(keeper.place if keeper else "", "hosts"))


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


def _detach_streams(keep: set[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    log = plain_files.opened("supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    detached.close_all(but=keep)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)


def _let_go(but: Container[int]) -> None:
    """Close all descriptors but the standard streams and these, and leave the folder."""
    os.chdir("/")
    detached.close_all(but)
