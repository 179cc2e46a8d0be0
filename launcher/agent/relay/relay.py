"""Serves one SSH connection: reads requests from stdin, writes answers, records and logs to stdout.

A relay reads all that it sends about a run from the run's folder, so any relay can continue where
another one stopped.
"""

from __future__ import annotations

import os
import select
import time

from ..base import attendance, programs, protocol, run_lock
from ..base.protocol import Refused
from ..host import run_folders
from ..host.machine import own_root
from ..host.probe import facts
from ..processes import cgroup
from . import supervisor_line, tree
from .follow import Follow
from .rendezvous import Listener, connect
from .self_tests import SelfTests
from .supervisor_line import SupervisorLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.lean import Socket
    from ..base.messages import HostFacts, HostNow, Message, Reached, StartRequest, SupervisorSpec
    from ..host.project_round import ProjectRound
    from .data.requests import DataRequests
    from .environments import Environments
    from .images.requests import Images
    from .now import Now
    from .turn import Turn

#: Seconds more for a supervisor to answer, for each process that it is to start: hundreds of them have
#: to share the processors.
PER_PROCESS = 0.5
#: Seconds without a message after which the relay reports that it is still working, and how far it is
#: where that is known.
WORKING, TELLING = 5.0, 0.5


class Relay(SelfTests):
    """Selects over stdin, stdout and the supervisor's sockets, and follows the run's files."""

    def __init__(self, root: str, is_whole: bool = True) -> None:
        """With ``is_whole``, all of the agent is here, not only what every run needs."""
        self.root, self.is_whole = root, is_whole
        self.out, self.said = bytearray(), time.monotonic()
        self.decoder = protocol.Decoder(forgiving=True)
        self.listener: Listener | None = None
        self.run_dir = ""  # of the run of the last request
        self.line = SupervisorLine()
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
        about = {"pid": os.getpid(), "whole": self.is_whole}
        self._say({"magic": protocol.MAGIC, "version": protocol.VERSION, **about})
        while not (self.done and not self.out):
            reading: list[int | Socket] = [] if self.done else [0]
            reading += self.line.readable
            reading += [self.listener.socket] if self.listener else []
            reading += self.turn.readable if self.turn else []
            writing = [1] if self.out else []
            ready, writable, _ = select.select(reading, writing, [], self._patience())
            if writable:
                self._write()
            if self.listener and self.listener.socket in ready:
                self.listener.answer()
            self.line.heard(ready)
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
        if request.get("needs"):
            from ..base import far_paths

            found["no_paths"], found["silent_paths"] = far_paths.lacking(request["needs"])
        return found

    def do_snapshot(self, request: Message) -> Message:
        """Make a run's own copy of a version of the code; ``have``: whether that version is here. With
        ``list``, ``known`` has the files of the version that is nearest to it, unless they are many."""
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
        answer: Message = {"have": False, "base": base, "folder": source, "grain": grain}
        if request.get("list") and grain == 1:
            from . import patches  # most runs find their code

            answer["known"] = patches.listed(base and os.path.join(source, base))
        return answer

    def do_patch(self, request: Message) -> Message:
        """Make a version of the code of the one that was nearest to it, and the run's own copy of that.
        ``have``: whether it is that version by now."""
        from . import patches

        source = os.path.join(self.root, "code", request["source"])
        incoming = "incoming-%s" % _checked(request["run"])
        try:
            patches.apply(source, incoming, request)
        except FileNotFoundError:  # another run has just removed that version
            return {"have": False}
        tree.seal(source, incoming)
        code = os.path.join(self._make_run_dir(request["run"]), "code")
        return {"have": tree.snapshot(source, request["version"], code)}

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
            from .data.requests import DataRequests  # few runs have any

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
            from .images.requests import Images  # few runs want one

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
        from . import supervise  # a fifth of a relay's start, and most relays need none

        run_dir = self._make_run_dir(request["run"])
        supervise.lay_out(run_dir, request)
        spec: SupervisorSpec = dict(request["spec"], run_id=request["run"])  # type: ignore[assignment]
        if request.get("next"):
            try:
                return self._ask({"op": "next", "run": request["run"], "spec": spec})
            except (OSError, Refused):
                pass  # it is gone, or about to exit, or an old one that lives
            finally:
                self.line.let_go()
        supervise.start(self.root, run_dir, spec, request)
        return {"stayed": 0}

    def do_kept(self, request: Message) -> Message:
        """List the Pythons that are kept here for other runs; with ``end``, end them."""
        from . import kept_pythons

        ended = kept_pythons.end(self.root) if request.get("end") else 0
        return {"kept": kept_pythons.listed(self.root), "ended": ended}

    def do_start(self, request: StartRequest) -> Message:
        """Start processes, once. A repeated request succeeds even if the supervisor is gone by then."""
        try:
            return self._ask(request, PER_PROCESS * len(request["processes"]))
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

    def _pass_on(self, request: Message) -> Message:
        """Have the supervisor do it: see supervisor/supervisor.py."""
        return self._ask(request)

    do_claim = do_release = do_member = do_preload = _pass_on
    do_wait = do_gather = do_gang = do_return = do_move = _pass_on
    do_stacks = do_unattended = _pass_on

    def do_project(self, request: Message) -> Message:
        """Look at the books of projects on this host, lock or write them."""
        if self.project is None:
            from ..host.project_round import ProjectRound  # few runs have a project

            self.project = ProjectRound()
        return self.project.answer(request)

    def do_witness(self, request: Message) -> Message:
        """Have this host take part in decisions about the project of a run that waits elsewhere."""
        from ..supervisor.gang import witness  # few runs have a project

        _checked(request["run"])
        witness.launch(request["run"], request["host"], request["gang"])
        return {}

    def do_alive(self, request: Message) -> Message:
        """Return whether a supervisor owns the run, and when one stopped it on its own."""
        self._use(request["run"])
        return run_folders.standing(self.run_dir)

    def do_contact(self, request: Message) -> Message:
        """Tell the supervisor that the launcher is alive: a TCP connection alone does not prove it.

        Return for how long the supervisor itself has been ``silent``.
        """
        if self.follow:
            attendance.touch(self.follow.run_dir)
        return {"silent": self.line.contact()}

    def do_attended(self, request: Message) -> Message:
        """End what stores outputs here: a launcher has done it. ``ended``: whether there was any."""
        return {"ended": attendance.end(self._use(request["run"]))}

    def do_stdin(self, request: Message) -> Message:
        """Give rank 0 bytes of the user's stdin; ``over`` when nobody reads them any more."""
        try:
            return self._ask(request)
        except OSError:
            return {"taken": request["offset"], "over": True}

    def do_follow(self, request: Message) -> Message:
        """Send the journal and logs of a run from these offsets on, and what is added later. What the
        journal has by now comes before the answer."""
        self._use(request["run"])
        self.follow = Follow(
            self.run_dir, self._say, request["journal"], request["logs"], request.get("live")
        )
        self.line.subscribe(self.follow)
        self.follow.send_journal()
        return {}

    def do_outputs(self, request: Message) -> Message:
        """List the run's output folder, the output paths that the job names, and the logs.

        Where these are too many for a message, parts of the lists are sent before the answer.
        """
        from .outputs import Listing

        *parts, last = Listing(self.root, self._use(request["run"]), self._go_on).of(request)
        for part in parts:
            self._say({"id": request.get("id"), "part": part})
        return last

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

    def _ask(self, request: Message | StartRequest, more: float = 0.0) -> Message:
        """Ask the supervisor of a run. Raises OSError, Refused."""
        return supervisor_line.ask(self._use(request["run"]), request, self._go_on, more)


def _checked(run: str) -> str:
    if not run_lock.is_run_name(run):
        raise Refused("bad-run", "not the name of a run: %r" % run)
    return run


def main(argv: list[str]) -> None:
    """Run ``relay ROOT [whole]``: serve one connection."""
    try:
        root = own_root(os.path.expanduser(argv[0]))
    except PermissionError as error:
        if error.filename is not None:
            raise
        # Other users could change it.
        print("launcher-unsafe-folder %s" % ascii(error.strerror)[1:-1], flush=True)
        os._exit(0)
    try:
        Relay(root, "whole" in argv[1:]).serve()
    except BrokenPipeError:
        pass
    os._exit(0)  # nothing to flush: the relay writes to the descriptor


def _end_witnesses(run: str) -> None:
    from ..host import witnesses  # few runs have a project

    witnesses.end(run)
