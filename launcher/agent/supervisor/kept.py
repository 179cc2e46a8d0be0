"""Waits with a Python that has imported modules for a run that can use it: see keeper.py.

It then is the supervisor of that run, as a new one would be: in its folder, with the environment of its
login. Until then it holds nothing but that Python, which the kernel kills with it.
"""

from __future__ import annotations

import os
import select
import sys
import time

from ..base import lean, protocol
from ..base.lean import Socket, socket
from ..processes import cgroup, inherited, processes
from . import daemon, requests
from .warm import places, question
from .warm.asked import Asked
from .warm.forking import Warm
from .warm.keeper import Keeper, agent_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Tuple

    from ..base.messages import Message
    from .daemon import Store

#: Seconds between two looks at the files that were imported, and at the memory of the host.
LOOK = 30.0
#: Seconds for whoever connects to say what it wants.
PATIENCE = 2.0
#: It ends where less than this part of the host's memory is left.
LEAST_MEMORY = 1 / 20
#: Seconds for the Python to be gone.
GONE = 2.0


def serve(number: int, store: Store) -> None:
    """Wait, and be the supervisor of the next run, which may ``store`` its outputs. Never returns.

    ``number`` is that of a file with what :class:`Keeper` has left.
    """
    with os.fdopen(number, "rb") as file:
        left = lean.loads(file.read().decode())
    try:
        Kept(left, store).serve()
    except Exception:
        import traceback

        traceback.print_exc()  # into keeper.log
    finally:
        os._exit(0)


class Kept:
    def __init__(self, left: dict[str, Any], store: Store) -> None:
        self._store = store
        for name in ("line", "listener", "lock"):
            os.set_inheritable(left[name], False)
        self._keeper = Keeper(left["place"], left["lock"], left["login"], left["own_hosts"])
        self._asked = Asked(**left["asked"])
        self._warm = Warm.resumed(
            left["place"], left["pid"], left["line"], self._asked, left["imported"]
        )
        self._listener = Socket(fileno=left["listener"])
        self._until = time.monotonic() + max(0.0, left["until"] - time.time())
        self._over = False
        self._signals = processes.watch_signals(self._end)

    def serve(self) -> None:
        """Return once nothing is kept any more, and no run that took it is left."""
        looks = time.monotonic() + LOOK
        line = self._warm.state()[1]
        sources: list[Any] = [self._listener, self._signals, line]
        while not self._over:
            pause = max(0.0, min(looks, self._until) - time.monotonic())
            ready = select.select(sources, [], [], pause)[0]
            if self._signals in ready:
                os.read(self._signals, 512)
                self._reap()
            if line in ready:  # it says nothing unless it is asked: it is gone
                self._end()
            if self._listener in ready and not self._over:
                self._answer()
            now = time.monotonic()
            if now >= looks and not self._over:
                looks = now + LOOK
                self._look()
            if now >= self._until:
                self._end()
        places.close(self._keeper.place)
        self._warm.close()
        deadline = time.monotonic() + GONE
        while self._warm.pids and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.002)
        places.remove(self._keeper.place)

    def _end(self) -> None:
        self._over = True

    def _reap(self) -> None:
        while True:
            try:
                pid = os.waitpid(-1, os.WNOHANG)[0]
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._warm.reaped(pid):
                self._over = True

    def _look(self) -> None:
        """End where what was imported has changed, or the host is short of memory."""
        if self._warm.changed() or _memory_left() < LEAST_MEMORY:
            self._end()

    # -- who connects

    def _answer(self) -> None:
        """Hear one request of this user: to end, or to take over a run."""
        try:
            client = self._listener.accept()[0]
        except OSError:
            return
        with client:
            client.settimeout(PATIENCE)
            try:
                if _uid(client) != os.geteuid():
                    return
                message = _heard(client)
                if message.get("op") == "end":
                    self._end()
                elif message.get("op") == "take":
                    self._take(client, message)
            except OSError:
                return

    def _take(self, client: Socket, message: Message) -> None:
        """Say whether a run can use what is kept; if it can, and whoever asks is still there to say so,
        be its supervisor. Until then it is not known which run that is."""
        why = self._unlike(message)
        if why:
            client.sendall(protocol.encode({"unlike": list(why)}))
            if why[0] == "other-agent":
                self._end()
            return
        client.sendall(protocol.encode({"fits": {}}))
        begin = _heard(client)
        is_right = begin.get("op") == "begin" and not requests.fault(begin, requests.BEGIN, "")
        if is_right and not _has_hung_up(client):
            self._become_supervisor(client, begin)

    def _unlike(self, message: Message) -> Tuple[str, str] | None:
        """Return why a run can make no use of this process."""
        if message.get("agent") != os.path.basename(agent_folder()):
            return "other-agent", ""  # a supervisor of another version than the run's relay
        if requests.fault(message, requests.TAKE, ""):
            return "other-command", ""
        if message["own_hosts"] != self._keeper.own_hosts:
            return "other-login", "/etc/hosts"
        differs = inherited.differing(self._keeper.login, message["login"])
        if differs:
            return "other-login", differs
        return question.unlike(self._asked, places.programs_of(self._keeper.place), message)

    def _become_supervisor(self, client: Socket, message: Message) -> None:
        """Be the supervisor of a run until that is over."""
        self._over = True
        places.close(self._keeper.place)
        self._listener.close()
        processes.unwatch_signals(self._signals)
        os.environ.clear()
        os.environ.update(message["environ"])
        self._join(message.get("group") or "")
        self._warm.say("has imported %s" % ", ".join(self._asked.modules))
        start = os.path.join(agent_folder(), "start.py")
        processes.rename([sys.executable, "-I", "-S", start, "relay", self._keeper.root])

        told: list[str] = []

        def tell(problem: str) -> None:
            if told:
                return
            told.append(problem)
            try:
                client.sendall(protocol.encode({"problem": problem} if problem else {"ok": {}}))
            except OSError:
                pass  # whoever asked is gone: then nobody follows the run
            client.close()

        spec = dict(message["spec"], place=self._keeper.place)
        there = daemon.There(self._keeper, self._warm, client.fileno(), message.get("hosts"))
        daemon.become_supervisor(message["run_dir"], spec, tell, self._store, there)  # type: ignore[arg-type]

    def _join(self, group: str) -> None:
        """Be in the control group of the next login, where we may: with that of the last one, systemd
        would keep a session that is over."""
        if group and group != inherited.own_group():
            for pid in (os.getpid(), *self._warm.pids):
                cgroup.write(group, "cgroup.procs", str(pid))


def _uid(client: Socket) -> int:
    """Return whose a client is, as the kernel knows it (unix(7))."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _has_hung_up(client: Socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))  # it has nothing more to say


def _heard(client: Socket) -> Message:
    decoder = protocol.Decoder(forgiving=True)
    while True:
        data = client.recv(1 << 16)
        if not data:
            return {}
        for message, _ in decoder.feed(data):
            return message


def _memory_left() -> float:
    """Return which part of the host's memory is left; 1 where it does not say."""
    known = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, rest = line.partition(":")
                known[name] = int(rest.split()[0])
    except (OSError, ValueError, IndexError):
        return 1.0
    whole = known.get("MemTotal", 0)
    return known.get("MemAvailable", whole) / whole if whole else 1.0
