"""Serves one SSH connection: reads requests from stdin, writes answers, records and logs to stdout.

A relay reads all that it sends about a run from the run's folder, so any relay can continue where
another one stopped.
"""

from __future__ import annotations

import os
import select
import time

from ..base import attendance, lean, programs, protocol, received, run_lock
from ..base.lean import Socket, socket
from ..base.protocol import Refused
from ..host import run_folders
from ..host.machine import own_root
from ..host.probe import facts
from ..processes import cgroup
from . import tree
from .follow import Follow
from .rendezvous import Listener, connect
from .self_tests import SelfTests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..base.messages import HostFacts, HostNow, Message, Reached, StartRequest, SupervisorSpec
    from ..host.project_round import ProjectRound
    from .data_requests import DataRequests
    from .elsewhere import Elsewhere
    from .environments import Environments
    from .images import Images
    from .now import Now
    from .turn import Turn

#: Seconds for a supervisor to answer.
PATIENCE = 15.0
#: Seconds more for each process that it is to start: hundreds of them have to share the processors.
PER_PROCESS = 0.5
#: What a relay asks of a supervisor first, and again and again.
SUBSCRIBE = {"op": "subscribe", "version": protocol.VERSION}
#: Folders that are named at most where they cannot be read.
UNREADABLE = 20
#: Seconds without a message after which the relay reports that it is still working, and how far it is
#: where that is known.
WORKING, TELLING = 5.0, 0.5


class Relay(SelfTests):
    """Selects over stdin, stdout and the supervisor's socket, and follows the run's files."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.out, self.said = bytearray(), time.monotonic()
        self.decoder = protocol.Decoder(forgiving=True)
        self.listener: Listener | None = None
        self.run_dir = ""  # of the run of the last request
        #: A connection to the supervisor, subscribed to the journal.
        self.supervisor: Socket | None = None
        #: One to a supervisor that stays for the next attempt, as long as this relay lives.
        self.staying: Socket | None = None
        self.asked: float | None = None  # since when the supervisor owes an answer
        self.follow: Follow | None = None
        self.turn: Turn | None = None  # of a run that may have to wait
        self.data: DataRequests | None = None  # where data sets are asked for
        self.environments: Environments | None = None  # where a run wants one that is built here
        self.images: Images | None = None  # where a run wants to be in one
        self.now: Now | None = None  # of somebody who watches the GPUs
        self.project: ProjectRound | None = None  # of a run that has one
        self.done = False

    def serve(self) -> None:
        """Serve until stdin ends and everything is written."""
        os.set_blocking(1, False)
        self._say({"magic": protocol.MAGIC, "version": protocol.VERSION, "pid": os.getpid()})
        while not (self.done and not self.out):
            reading: list[int | Socket] = [] if self.done else [0]
            reading += [self.supervisor] if self.supervisor else []
            reading += [self.staying] if self.staying else []
            reading += [self.listener.socket] if self.listener else []
            reading += self.turn.readable if self.turn else []
            writing = [1] if self.out else []
            ready, writable, _ = select.select(reading, writing, [], self._patience())
            if writable:
                self._write()
            if self.listener and self.listener.socket in ready:
                self.listener.answer()
            if self.supervisor and self.supervisor in ready:
                self._hear_supervisor(self.supervisor)
            if self.staying and self.staying in ready:
                self._let_go()
            if 0 in ready:
                self._hear()
            else:
                self._expire()
            if self.turn:
                self._say_all(self.turn.answers(ready))
            if self.follow:
                self.follow.pump()
        self._end()

    def _end(self) -> None:
        """Stop what nobody waits for any more."""
        for helper in (self.environments, self.images, self.searching):
            if helper:
                helper.end()

    def _expire(self) -> None:
        """Let go of what nobody has renewed. Call it when no request is there to be read."""
        for one in (self.turn, self.project, self.images):
            if one:
                one.expire()

    def _patience(self) -> float:
        patient = [one.patience() for one in (self.follow, self.turn) if one]
        return min(patient, default=30.0)

    def _say(self, message: Message, payload: bytes = b"") -> None:
        self.said = time.monotonic()
        self.out += protocol.encode(message, payload)
        self._write()

    def _write(self) -> None:
        try:
            while self.out:
                del self.out[: os.write(1, memoryview(self.out)[: 1 << 18].tobytes())]
        except BlockingIOError:
            pass
        except OSError:  # the launcher is gone
            self.out.clear()
            self.done = True

    def _go_on(self, done: int | None = None) -> None:
        """Report that an answer takes time, and how many bytes of it are done; called while one is being
        prepared."""
        if time.monotonic() > self.said + (WORKING if done is None else TELLING):
            self._say({"working": 1} if done is None else {"working": 1, "done": done})
            if self.run_dir:
                attendance.touch(self.run_dir)

    def _hear(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self.done = True
        for message, payload in self.decoder.feed(data):
            if payload:
                message["payload"] = payload
            if isinstance(message.get("ack"), int):
                if self.follow:
                    self.follow.acknowledged(message["ack"])
            elif message.get("op") == "turn":
                self._hear_turn(message)
            else:
                self._say(dict(self._answer(message), id=message.get("id")))

    def _hear_turn(self, message: Message) -> None:
        """Hold a place in the queue. The answer comes when something changes there."""
        answer = self._answer(message)
        if "error" in answer:
            self._say(dict(answer, id=message.get("id")))
        else:
            self._say_all(answer["ok"])

    def _say_all(self, answers: Iterable[tuple[int, Message]]) -> None:
        for number, answer in answers:
            self._say({"id": number, "ok": answer})

    def _answer(self, message: Message) -> Message:
        """Answer any message; none ends the relay."""
        if "bad" in message:
            return protocol.error(protocol.BAD_REQUEST, message["bad"])
        operation = message.get("op")
        do = getattr(self, "do_%s" % operation, None) if isinstance(operation, str) else None
        if do is None:
            return protocol.error(protocol.UNKNOWN_REQUEST, "no request: %.80r" % (operation,))
        try:
            return {"ok": do(message)}
        except Refused as refusal:
            return {"error": dict(refusal.more, code=refusal.code, message=str(refusal))}
        except OSError as error:
            return {"error": {"code": "os", "errno": error.errno, "message": str(error)}}
        except Exception as error:
            what = "%s: %s: %s" % (operation, type(error).__name__, error)
            return protocol.error(protocol.BAD_REQUEST, what)

    # -- one method for each operation

    def do_probe(self, request: Message) -> HostFacts:
        """Return the facts of this host, and which of the paths in ``needs`` it lacks; kill what runs
        without a supervisor left behind. With ``own_hosts``, try an /etc/hosts for a run alone."""
        found = facts(self.root, request["gpus"])
        found["strays"] = run_folders.end_strays(self.root)
        if request.get("own_hosts"):
            from ..processes import own_hosts

            found["own_hosts"] = own_hosts.trial(self.root)
        needs = request.get("needs", [])
        found["no_paths"] = [p for p in needs if not os.access(os.path.expanduser(p), os.R_OK)]
        return found

    def do_snapshot(self, request: Message) -> Message:
        """Make a run's own copy of a version of the code; ``have``: whether that version is here."""
        source = os.path.join(self.root, "code", request["source"])
        os.makedirs(source, mode=0o700, exist_ok=True)
        code = os.path.join(self._make_run_dir(request["run"]), "code")
        if "from_run" in request:
            from . import written  # few runs need it

            other = os.path.join(self.root, "runs", _checked(request["from_run"]))
            known = written.snapshot_of(other)
            return {"have": tree.link_tree(os.path.join(other, "code"), code, known)}
        have = tree.snapshot(source, request["version"], code)
        if have:
            return {"have": True, "base": None, "folder": source}
        base, grain = tree.sealed(source), tree.grain(source)
        return {"have": False, "base": base, "folder": source, "grain": grain}

    def do_seal(self, request: Message) -> Message:
        """Name what rsync has copied after its version, and return that."""
        source = os.path.join(self.root, "code", request["source"])
        return {
            "version": tree.seal(
                source, request["incoming"], request.get("version", ""), request.get("coarse", "")
            )
        }

    def do_discard(self, request: Message) -> Message:
        """Remove an incomplete copy."""
        tree.remove(os.path.join(self.root, "code", request["source"], request["incoming"]))
        return {}

    def do_data(self, request: Message) -> Message:
        """Do something with the data sets of this host."""
        if self.data is None:
            from .data_requests import DataRequests  # few runs have any

            self.data = DataRequests(self.root, self._go_on)
        return self.data.answer(request)

    def do_environment(self, request: Message) -> Message:
        """Use or build an environment for a run, or say how far that is."""
        if self.environments is None:
            from .environments import Environments  # few runs want one

            self.environments = Environments(self.root)
        return self.environments.answer(request)

    def do_image(self, request: Message) -> Message:
        """Look for an image, or bring it, or say how far that is."""
        if self.images is None:
            from .images import Images  # few runs want one

            self.images = Images(self.root, self._go_on)
        return self.images.answer(request)

    def do_listen(self, request: Message) -> Message:
        """Open the rendezvous on this host."""
        if self.listener:
            self.listener.close()
        ports, token = request["ports"], request["token"]
        self.listener = Listener(ports, token, request["more"], request["news"])
        return {name: getattr(self.listener, name) for name in ("port", "more", "news")}

    def do_unlisten(self, request: Message) -> Message:
        """Close the rendezvous."""
        if self.listener:
            self.listener.close()
            self.listener = None
        return {}

    def do_connect(self, request: Message) -> dict[str, Reached]:
        """Try to reach the rendezvous from this host."""
        return connect(request["addresses"], request["port"], request["token"], request["seconds"])

    def do_supervise(self, request: Message) -> Message:
        """Start the supervisor of the run, unless there is one. With ``next``, that of the last attempt
        goes on, if it has stayed."""
        from ..supervisor import daemon  # a fifth of a relay's start, and most relays need none

        run_dir = self._make_run_dir(request["run"])
        for folder in ("outputs", "logs"):
            os.makedirs(os.path.join(run_dir, folder), exist_ok=True)
        own = programs.folder(run_dir, "bin")
        for name, text in request.get("programs", {}).items():
            path = os.path.join(own, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)  # that of an image has a folder
            _write(path, text, 0o700)
        _write(os.path.join(run_dir, "run.json"), lean.dumps(request["record"]), 0o600)
        spec: SupervisorSpec = dict(request["spec"], run_id=request["run"])  # type: ignore[assignment]
        if request.get("next"):
            try:
                return self._ask({"op": "next", "run": request["run"], "spec": spec})
            except (OSError, Refused):
                pass  # it is gone, or about to exit, or an old one that lives
            finally:
                self._let_go()
        attendance.end(run_dir)  # of an attempt before
        is_new = "warm" in request and not run_lock.is_alive(run_dir)
        if is_new and self._takes(run_dir, spec, request):
            return {"stayed": 0}
        daemon.launch(run_dir, spec, _store)
        return {"stayed": 0}

    def _takes(self, run_dir: str, spec: SupervisorSpec, request: Message) -> bool:
        """Return whether what an earlier run has left is the supervisor of this one. If not, ``spec``
        says why, and gets a place for what this run leaves. A head start never costs the run."""
        from . import kept_pythons  # few runs import anything ahead

        try:
            why = kept_pythons.take(self.root, run_dir, spec, request)
        except OSError:
            why = None
        if why == []:
            return True
        if why:
            spec["unlike"] = why
        if spec.get("keep"):
            try:
                spec["place"] = kept_pythons.make(self.root, request.get("programs", {}))
            except OSError as error:
                spec["no_place"] = error.strerror or str(error)
        return False

    def do_kept(self, request: Message) -> Message:
        """List the Pythons that are kept here for other runs; with ``end``, end them."""
        from . import kept_pythons

        ended = kept_pythons.end(self.root) if request.get("end") else 0
        return {"kept": kept_pythons.listed(self.root), "ended": ended}

    def do_start(self, request: StartRequest) -> Message:
        """Start processes, once. A repeated request succeeds even if the supervisor is gone by then."""
        try:
            return self._ask(request, PATIENCE + PER_PROCESS * len(request["processes"]))
        except OSError:
            if not run_folders.was_started(self.run_dir, request):
                raise
            return {}

    def do_stop(self, request: Message) -> Message:
        """Stop the run here; ``gone`` when it has no supervisor any more."""
        self._use(request["run"])
        try:
            return self._ask(request)
        except OSError:
            return {"gone": True}

    def do_turn(self, request: Message) -> list[tuple[int, Message]]:
        """Hold the ticket of a run, if it has one, and return answers to earlier requests."""
        from .turn import Turn  # for runs on GPUs

        _checked(request["run"])
        self.turn = self.turn or Turn()
        return self.turn.ask(request)

    def do_claim(self, request: Message) -> Message:
        """Lock GPUs for a run, all or none, before anything of it is started."""
        return self._ask(request)

    def do_preload(self, request: Message) -> Message:
        """Have the supervisor import modules ahead of the ranks."""
        return self._ask(request)

    def do_release(self, request: Message) -> Message:
        """Unlock them again."""
        return self._ask(request)

    def do_member(self, request: Message) -> Message:
        """Have the supervisor use GPUs in the name of a project."""
        return self._ask(request)

    def do_project(self, request: Message) -> Message:
        """Look at the books of projects on this host, lock or write them."""
        if self.project is None:
            from ..host.project_round import ProjectRound  # few runs have a project

            self.project = ProjectRound()
        return self.project.answer(request)

    def do_wait(self, request: Message) -> Message:
        """Have the supervisor wait for GPUs, and start the run by itself."""
        return self._ask(request)

    def do_gather(self, request: Message) -> Message:
        """Have it wait together with those of other hosts."""
        return self._ask(request)

    def do_return(self, request: Message) -> Message:
        """Have it keep what it needs to wait again, once the run has given its GPUs back."""
        return self._ask(request)

    def do_gang(self, request: Message) -> Message:
        """Return how the hosts that wait together find each other, and which are out of touch."""
        return self._ask(request)

    def do_witness(self, request: Message) -> Message:
        """Have this host take part in decisions about the project of a run that waits elsewhere."""
        from ..supervisor import witness  # few runs have a project

        _checked(request["run"])
        witness.launch(request["run"], request["host"], request["gang"])
        return {}

    def do_move(self, request: Message) -> Message:
        """Have it wait with another ticket."""
        return self._ask(request)

    def do_alive(self, request: Message) -> Message:
        """Return whether a supervisor owns the run, and when one stopped it on its own."""
        self._use(request["run"])
        return run_folders.standing(self.run_dir)

    def do_contact(self, request: Message) -> Message:
        """Tell the supervisor that the launcher is alive: a TCP connection alone does not prove it.

        Return for how long the supervisor itself has been ``silent``. To subscribe again counts as
        contact, and is answered by supervisors of every version.
        """
        if self.supervisor and self.asked is None:
            self.asked = time.monotonic()
            try:
                self.supervisor.sendall(protocol.encode(SUBSCRIBE))
            except OSError:
                pass  # the next read notices that it is gone
        if self.staying:
            self._hold(self.staying)
        if self.follow:
            attendance.touch(self.follow.run_dir)
        silent = self.supervisor is not None and self.asked is not None
        return {"silent": time.monotonic() - self.asked if silent else 0.0}  # type: ignore[operator]

    def do_unattended(self, request: Message) -> Message:
        """Leave the supervisor URLs by which it stores outputs while no launcher is in touch."""
        return self._ask(request)

    def do_attended(self, request: Message) -> Message:
        """End what stores outputs here: a launcher has done it. ``ended``: whether there was any."""
        return {"ended": attendance.end(self._use(request["run"]))}

    def do_stacks(self, request: Message) -> Message:
        """Have the stacks of all ranks written to the outputs; the journal records when it is done."""
        return self._ask(request)

    def do_stdin(self, request: Message) -> Message:
        """Give rank 0 bytes of the user's stdin; ``over`` when nobody reads them any more."""
        try:
            return self._ask(request)
        except OSError:
            return {"taken": request["offset"], "over": True}

    def do_follow(self, request: Message) -> Message:
        """Send the journal and logs of a run from these offsets on, and what is added later."""
        self._use(request["run"])
        follow = Follow(
            self.run_dir, self._say, request["journal"], request["logs"], request.get("live")
        )
        self.follow = follow
        try:
            self.supervisor = self._connect()
            self.asked = time.monotonic()
            self.supervisor.sendall(protocol.encode(SUBSCRIBE))
            _agree(self.supervisor.recv(1 << 12))
            self.asked = None
        except socket.timeout:
            pass  # it hangs: the files can be read all the same
        except OSError:
            self._supervisor_gone(follow)
        return {}

    def do_outputs(self, request: Message) -> Message:
        """List the run's output folder, the output paths that the job names, and the logs.

        Where these are too many for a message, parts of the lists are sent before the answer. With
        ``written``, the copy of the code is compared with what it was: files that the run wrote there
        are listed if they match ``also``, or are among the smallest with ``auto`` bytes together; the
        others are summarised. ``elsewhere`` are patterns outside of the run's folder. What other hosts
        have shared is listed with ``received`` alone.
        """
        self._use(request["run"])
        outputs = os.path.join(self.run_dir, "outputs")
        code = os.path.join(self.run_dir, "code")
        unreadable: dict[str, str] = {}
        links: dict[str, str] = {}
        left_out: dict[str, str] = {}
        inodes: dict[tuple[int, int], list[str]] = {}
        named = (
            tree.listing(code, request["paths"], self._go_on, unreadable, links, left_out, inodes)
            if request["paths"]
            else []
        )
        if not request.get("received"):
            named = _own(named, received.files(self.run_dir, "code"))
        sizes = {name: os.path.getsize(path) for name, path in run_folders.logs_of(self.run_dir)}
        listed = tree.listing(outputs, None, self._go_on, unreadable, links, left_out, inodes)
        if not request.get("received"):
            listed = _own(listed, received.files(self.run_dir, "outputs"))
        rest: list[tuple[str, int, int]] = []
        if "written" in request:
            more, rest = self._written(request["paths"], **request["written"])
            named = sorted({*named, *more})
        others = self._elsewhere(request.get("elsewhere") or [])
        unreadable.update(others.unreadable)
        left_out.update(others.left_out)
        links.update(others.links)
        kinds: dict[str, list[Any]] = {"outputs": listed, "code": named}
        if others.files:
            kinds["elsewhere"] = [others.files[path] for path in sorted(others.files)]
        kinds["same"] = tree.one_file(inodes)
        parts, unlisted = tree.in_parts(dict(kinds, links=sorted(links.items())))
        for part in parts[:-1]:
            self._say({"id": request.get("id"), "part": part})
        return dict(
            parts[-1],
            folder=self.run_dir,
            places=sorted(others.places.items()),
            logs=sizes,
            unreadable=[
                [name or "the folder itself", why]
                for name, why in sorted(unreadable.items())[:UNREADABLE]
            ],
            left_out=[[name, why] for name, why in sorted(left_out.items())[:UNREADABLE]],
            unlisted=unlisted,
            written=[{"path": path, "files": files, "bytes": size} for path, files, size in rest],
        )

    def _elsewhere(self, patterns: list[str]) -> Elsewhere:
        """Return what the run has written outside of its folder, of what the job names there."""
        from . import elsewhere  # few jobs name anything

        found = elsewhere.Elsewhere(elsewhere.began(self.run_dir), self.root, self._go_on)
        for pattern in patterns:
            found.look(pattern)
        return found

    def _written(
        self, paths: list[str], also: list[str], auto: int
    ) -> tuple[list[tree.Listed], list[tuple[str, int, int]]]:
        """Return what the run has written outside of its outputs: files to list, and a summary of the
        others."""
        from . import written  # at the end of a run

        files, unreadable, known = written.listing(self.run_dir, self._go_on)
        others = tree.matching(files, paths, False)
        more = tree.matching(others, also, True)
        others = tree.matching(others, also, False)
        more += written.smallest(others, auto) if auto else []
        listed = set(more)
        left = [one for one in others if one not in listed]
        return more, written.summary(left, unreadable, known)

    def do_runs(self, request: Message) -> Message:
        """List the runs of this user on this host, and the live runs of all users."""
        return run_folders.runs(self.root)

    def do_now(self, request: Message) -> HostNow:
        """Return what the GPUs do now, and who holds and wants them."""
        if self.now is None:
            from .now import Now  # for few connections

            self.now = Now()
        return self.now.look()

    def do_usage(self, request: Message) -> Message:
        """Return what launcher's files take here."""
        from . import usage  # for one command

        return usage.usage(self.root, self._go_on)

    def do_prune(self, request: Message) -> Message:
        """Delete old runs, versions of code, environments and agents."""
        from . import usage

        code, agents, envs = request["code"], request["agents"], request.get("envs", [])
        images = request.get("images", [])
        kept = usage.prune(self.root, request["runs"], code, agents, request["stubs"], envs, images)
        return {"kept": kept}

    def do_remove(self, request: Message) -> Message:
        """Delete a run that has stopped here."""
        self._use(request["run"])
        if run_lock.is_alive(self.run_dir):
            raise Refused("running", "the run is still running there")
        attendance.end(self.run_dir)
        cgroup.end(self.run_dir)
        programs.remove(self.run_dir)
        tree.remove(self.run_dir)
        _end_witnesses(request["run"])
        return {}

    def do_sweep(self, request: Message) -> Message:
        """Look for processes of the run among all of this host; kill them if asked to."""
        run_dir = self._use(request["run"])
        seconds = request.get("seconds", 2.0)
        if request["kill"]:
            _end_witnesses(request["run"])
        return run_folders.sweep(run_dir, request["run"], request["host"], request["kill"], seconds)

    # -- the run and its supervisor

    def _make_run_dir(self, run: str) -> str:
        run_dir = self._use(run)
        os.makedirs(os.path.join(self.root, "runs"), mode=0o700, exist_ok=True)
        os.makedirs(run_dir, mode=0o700, exist_ok=True)
        return run_dir

    def _use(self, run: str) -> str:
        self.run_dir = os.path.join(self.root, "runs", _checked(run))
        return self.run_dir

    def _connect(self, run_dir: str = "") -> Socket:
        connection = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            os.chdir(run_dir or self.run_dir)  # the path of a socket has at most 107 bytes
            connection.connect("sock")
        except OSError:
            connection.close()
            raise
        return connection

    def _ask(self, request: Message | StartRequest, patience: float = PATIENCE) -> Message:
        """Ask the supervisor. Raises OSError when there is none, Refused when it refuses, or does not
        answer in ``patience`` seconds."""
        self._use(request["run"])
        with self._connect() as connection:
            connection.sendall(protocol.encode(request))
            decoder, deadline = protocol.Decoder(), time.monotonic() + patience
            connection.settimeout(min(WORKING, patience))
            while True:
                try:
                    data = connection.recv(1 << 16)
                except socket.timeout:
                    if time.monotonic() >= deadline:
                        raise Refused("silent", "the supervisor does not answer")
                    self._go_on()
                    continue
                if not data:
                    raise OSError("the supervisor exited")
                for answer, _ in decoder.feed(data):
                    if "error" in answer:
                        error = dict(answer.pop("error"), **answer)
                        raise Refused(error.pop("code"), error.pop("message"), **error)
                    ok: Message = answer["ok"]
                    return ok

    def _hear_supervisor(self, supervisor: Socket) -> None:
        try:
            heard = supervisor.recv(1 << 16)
        except OSError:
            heard = b""
        self.asked = None
        follow = self.follow
        if follow and heard:
            follow.eager()
        elif follow:
            self._supervisor_gone(follow)

    def _supervisor_gone(self, follow: Follow) -> None:
        if self.supervisor:
            self.supervisor.close()
        self.supervisor = None
        run_folders.end_strays_of(follow.run_dir)
        self._have_it_stay(follow.run_dir)
        follow.ended = True
        follow.eager()

    def _have_it_stay(self, run_dir: str) -> None:
        """Hold a line to the supervisor of an attempt that is over, if it stays for the next one."""
        self._let_go()
        if run_lock.is_alive(run_dir):
            try:
                self.staying = self._connect(run_dir)
            except OSError:  # it does not stay, and exits
                return
            self._hold(self.staying)

    def _hold(self, line: Socket) -> None:
        try:
            line.sendall(protocol.encode({"op": "stay"}))
        except OSError:
            pass  # the next read notices that it is gone

    def _let_go(self) -> None:
        if self.staying:
            self.staying.close()
            self.staying = None


def _store(supply: Message, age: float, silent: float, alone: bool) -> None:
    from . import unattended  # few runs have it, and only at their end

    unattended.begin(supply, age, silent, alone)


def _own(listed: list[tree.Listed], others: Mapping[str, tuple[int, int]]) -> list[tree.Listed]:
    """Return the files of a list that are not as ``others`` have written them."""
    return [one for one in listed if others.get(one[0]) != one[1:]] if others else listed


def _agree(data: bytes) -> None:
    """Raise Refused when the supervisor that sent this answer is of another version."""
    for answer, _ in protocol.Decoder(forgiving=True).feed(data):
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        if "ok" in answer:
            theirs = answer["ok"].get("version")
            other = protocol.other_version(theirs, "the supervisor of the run")
            if other:
                raise Refused(protocol.OTHER_VERSION, other)


def _checked(run: str) -> str:
    if not run_lock.is_run_name(run):
        raise Refused("bad-run", "not the name of a run: %r" % run)
    return run


def _write(path: str, text: str, mode: int) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def main(argv: list[str]) -> None:
    """Run ``relay ROOT``: serve one connection."""
    try:
        root = own_root(os.path.expanduser(argv[0]))
    except PermissionError as error:
        if error.filename is not None:
            raise
        # Other users could change it.
        print("launcher-unsafe-folder %s" % ascii(error.strerror)[1:-1], flush=True)
        os._exit(0)
    try:
        Relay(root).serve()
    except BrokenPipeError:
        pass
    os._exit(0)  # nothing to flush: the relay writes to the descriptor


def _end_witnesses(run: str) -> None:
    from ..host import witnesses  # few runs have a project

    witnesses.end(run)
