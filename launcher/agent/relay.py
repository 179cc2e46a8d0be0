"""One relay a connection: hears requests on stdin, answers and sends logs on stdout.

Not responsible for processes: it hands those requests to the supervisor. Everything a relay sends
about a run it reads from the run's folder, so that any relay can go on where another stopped.
"""

import os
import select
import time

from . import cgroup, daemon, folders, lean, protocol, tree
from .checks import Checks
from .journal import read_from
from .lean import Socket, socket
from .meeting import Listener, connect
from .probe import facts

#: Seconds between two looks for new log bytes: right after some came, and when it is quiet.
EAGER, QUIET = 0.02, 0.25
#: Seconds that a supervisor has for an answer.
PATIENCE = 15.0


class Refused(Exception):
    """A request that cannot be done: ``code`` for programs, the text for people."""

    def __init__(self, code, message, **more):
        super().__init__(message)
        self.code, self.more = code, more


class Relay(Checks):
    """The loop over stdin, stdout, the supervisor's socket and the run's files."""

    def __init__(self, root):
        self.root = os.path.expanduser(root)
        self.out = bytearray()
        self.decoder = protocol.Decoder()
        self.listener = None
        self.run_dir = None
        self.supervisor = None  # a connection to it, subscribed to the journal
        self.follow = None
        self.done = False

    def serve(self):
        """Until stdin ends and everything is written."""
        os.set_blocking(1, False)
        self._say({"magic": protocol.MAGIC, "version": protocol.VERSION, "pid": os.getpid()})
        while not (self.done and not self.out):
            reading = [] if self.done else [0]
            reading += [self.supervisor] if self.supervisor else []
            reading += [self.listener.socket] if self.listener else []
            writing = [1] if self.out else []
            ready, writable, _ = select.select(reading, writing, [], self._patience())
            if writable:
                self._write()
            if self.listener and self.listener.socket in ready:
                self.listener.answer()
            if self.supervisor in ready:
                self._hear_supervisor()
            if 0 in ready:
                self._hear()
            if self.follow:
                self.follow.pump()

    def _patience(self):
        return self.follow.patience() if self.follow else 30.0

    def _say(self, message, payload=b""):
        self.out += protocol.encode(message, payload)
        self._write()

    def _write(self):
        try:
            while self.out:
                del self.out[: os.write(1, memoryview(self.out)[: 1 << 18].tobytes())]
        except BlockingIOError:
            pass
        except OSError:  # nobody listens any more
            self.out.clear()
            self.done = True

    def _hear(self):
        data = os.read(0, 1 << 16)
        if not data:
            self.done = True
        for message, _ in self.decoder.feed(data):
            if "id" not in message:
                self.follow.acknowledged(message["ack"])
                continue
            try:
                answer = {"ok": getattr(self, "do_" + message["op"])(message)}
            except Refused as refusal:
                answer = {"error": dict(refusal.more, code=refusal.code, message=str(refusal))}
            except OSError as error:
                answer = {"error": {"code": "os", "errno": error.errno, "message": str(error)}}
            self._say(dict(answer, id=message["id"]))

    # -- one method an operation; a request is the keyword arguments of what it does

    def do_probe(self, request):
        """Facts of this host."""
        return dict(facts(self.root, request["gpus"]), strays=folders.end_strays(self.root))

    def do_snapshot(self, request):
        """A run's own copy of a version of the code, when that version is here."""
        source = os.path.join(self.root, "code", request["source"])
        os.makedirs(source, mode=0o700, exist_ok=True)
        code = os.path.join(self._make_run_dir(request["run"]), "code")
        if "from_run" in request:
            other = os.path.join(self.root, "runs", _checked(request["from_run"]), "code")
            return {"have": tree.link_tree(other, code)}
        have = tree.snapshot(source, request["version"], code)
        return {"have": have, "base": None if have else tree.sealed(source), "folder": source}

    def do_seal(self, request):
        """Names what rsync has brought; the version that it is."""
        source = os.path.join(self.root, "code", request["source"])
        return {"version": tree.seal(source, request["incoming"])}

    def do_discard(self, request):
        """Forgets a copy that did not come to its end."""
        tree.remove(os.path.join(self.root, "code", request["source"], request["incoming"]))
        return {}

    def do_listen(self, request):
        """Opens the meeting point here."""
        if self.listener:
            self.listener.close()
        wanted = [request[name] for name in ("ports", "token", "more", "news")]
        self.listener = Listener(*wanted)
        return {name: getattr(self.listener, name) for name in ("port", "more", "news")}

    def do_unlisten(self, request):
        """Frees the meeting point."""
        if self.listener:
            self.listener.close()
            self.listener = None
        return {}

    def do_connect(self, request):
        """Tries to reach the meeting point from here."""
        return connect(request["addresses"], request["port"], request["token"], request["seconds"])

    def do_supervise(self, request):
        """Makes sure that the run has a supervisor here."""
        run_dir = self._make_run_dir(request["run"])
        for folder in ("outputs", "logs", "bin"):
            os.makedirs(os.path.join(run_dir, folder), exist_ok=True)
        for name, text in request.get("programs", {}).items():
            _write(os.path.join(run_dir, "bin", name), text, 0o700)
        _write(os.path.join(run_dir, "run.json"), lean.dumps(request["record"]), 0o600)
        daemon.launch(run_dir, {"run_id": request["run"], **request["spec"]})
        return {}

    def do_start(self, request):
        """Starts processes through the supervisor, once: fine where all is over by the second time."""
        try:
            return self._ask(request)
        except OSError:
            if not folders.was_started(self.run_dir, request):
                raise
            return {}

    def do_stop(self, request):
        """Ends the run here; fine when nothing of it is left."""
        self._use(request["run"])
        try:
            return self._ask(request)
        except OSError:
            return {"gone": True}

    def do_alive(self, request):
        """Whether a supervisor owns the run here, and when that ended the run by itself."""
        self._use(request["run"])
        return folders.standing(self.run_dir)

    def do_contact(self, request):
        """The launcher was heard. That we are connected proves nothing: TCP outlives a dead network."""
        if self.supervisor:
            try:
                self.supervisor.sendall(protocol.encode({"op": "contact"}))
            except OSError:
                pass  # the next read from it says that it is gone
        return {}

    def do_stacks(self, request):
        """Has the stacks of all ranks written down among the outputs; the journal tells the end."""
        return self._ask(request)

    def do_follow(self, request):
        """Sends journal and logs of a run from these offsets on, and goes on doing so."""
        self._use(request["run"])
        self.follow = Follow(self, request["journal"], request["logs"])
        try:
            self.supervisor = self._connect()
            self.supervisor.sendall(protocol.encode({"op": "subscribe"}))
            self.supervisor.recv(1 << 12)
        except socket.timeout:
            pass  # it stands still: what there is can be read all the same
        except OSError:
            self._supervisor_gone()
        return {}

    def do_outputs(self, request):
        """What the run has written under its output folder, and at the paths that the job names."""
        self._use(request["run"])
        outputs = os.path.join(self.run_dir, "outputs")
        code = os.path.join(self.run_dir, "code")
        named = tree.listing(code, request["paths"]) if request["paths"] else []
        sizes = {name: os.path.getsize(path) for name, path in folders.logs_of(self.run_dir)}
        listed = tree.listing(outputs)
        return {"outputs": listed, "code": named, "folder": self.run_dir, "logs": sizes}

    def do_runs(self, request):
        """The runs of this user that lie here, and those of all users that go on here."""
        return folders.runs(self.root)

    def do_remove(self, request):
        """Forgets a run that has ended here."""
        self._use(request["run"])
        if daemon.is_alive(self.run_dir):
            raise Refused("running", "the run goes on there")
        cgroup.end(self.run_dir)
        tree.remove(self.run_dir)
        return {}

    def do_sweep(self, request):
        """Looks at every process of this host for one of the run, and kills it when asked to."""
        run_dir = os.path.join(self.root, "runs", _checked(request["run"]))
        seconds = request.get("seconds", 2.0)
        return folders.sweep(run_dir, request["run"], request["host"], request["kill"], seconds)

    # -- the run and its supervisor

    def _make_run_dir(self, run):
        self._use(run)
        os.makedirs(os.path.join(self.root, "runs"), mode=0o700, exist_ok=True)
        os.makedirs(self.run_dir, mode=0o700, exist_ok=True)
        return self.run_dir

    def _use(self, run):
        self.run_dir = os.path.join(self.root, "runs", _checked(run))

    def _connect(self):
        connection = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            os.chdir(self.run_dir)  # the path of a socket may be 107 bytes at most
            connection.connect("sock")
        except OSError:
            connection.close()
            raise
        return connection

    def _ask(self, request):
        """One question to the supervisor. Raises OSError when there is none, Refused when it says no."""
        self._use(request["run"])
        with self._connect() as connection:
            connection.sendall(protocol.encode(request))
            decoder = protocol.Decoder()
            while True:
                try:
                    data = connection.recv(1 << 16)
                except socket.timeout:
                    raise Refused("silent", "the supervisor does not answer")
                if not data:
                    raise OSError("the supervisor went away")
                for answer, _ in decoder.feed(data):
                    if "error" in answer:
                        error = dict(answer.pop("error"), **answer)
                        raise Refused(error.pop("code"), error.pop("message"), **error)
                    return answer["ok"]

    def _hear_supervisor(self):
        try:
            heard = self.supervisor.recv(1 << 16)
        except OSError:
            heard = b""
        if heard:
            self.follow.eager()
        else:
            self._supervisor_gone()

    def _supervisor_gone(self):
        if self.supervisor:
            self.supervisor.close()
        self.supervisor = None
        folders.end_strays_of(self.run_dir)
        self.follow.ended = True
        self.follow.eager()


class Follow:
    """Reads what is new in a run's folder and says it, never further ahead than the window."""

    def __init__(self, relay, journal, logs):
        self.relay = relay
        self.journal = journal
        self.offsets = dict(logs)
        self.files = {}
        self.last_sent = ""
        self.unacknowledged = 0
        self.ended = False  # the supervisor is gone: what stands in the files is all there will be
        self.idle = False
        self.next_look, self.pause = 0.0, EAGER

    def patience(self):
        """Seconds until the next look."""
        if self.idle or self.unacknowledged >= protocol.WINDOW:
            return 30.0
        return max(0.0, self.next_look - time.monotonic())

    def acknowledged(self, size):
        """The other side has taken ``size`` bytes."""
        self.unacknowledged -= size
        self.next_look = 0.0

    def eager(self):
        """Something happened: look now."""
        self.next_look, self.pause = 0.0, EAGER

    def pump(self):
        """One look at everything, when it is time for one."""
        if self.idle or time.monotonic() < self.next_look:
            return
        last = self.ended  # read before the files are, so that nothing can come after the last look
        moved = self._send_journal()
        more = self._send_logs()
        self.pause = EAGER if moved or more else min(QUIET, self.pause * 1.5)
        self.next_look = 0.0 if more == "full" else time.monotonic() + self.pause
        if last and not more:
            self.idle = True
            self.relay._say({"idle": dict(self.offsets), "journal_end": self.journal})

    def _send_journal(self):
        records = read_from(os.path.join(self.relay.run_dir, "journal.jsonl"), self.journal)
        for record, end in records:
            self.journal = end
            self.relay._say({"journal": record, "end": end})
        return bool(records)

    def _send_logs(self):
        """Returns "full" when the window is, True when something was sent, False when not.

        A piece of each log in turn, so that a loud rank does not keep a quiet one waiting.
        """
        sent, more = False, True
        while more:
            more = False
            for name, path in self._in_turn():
                if self.unacknowledged >= protocol.WINDOW:
                    return "full"
                offset = self.offsets.setdefault(name, 0)
                piece = os.pread(self._open(path), protocol.PIECE, offset)
                if piece:
                    self.relay._say({"log": name, "offset": offset}, piece)
                    self.offsets[name] = offset + len(piece)
                    self.unacknowledged += len(piece)
                    self.last_sent = name
                    sent = more = True
        return sent

    def _in_turn(self):
        """The logs, the one after the last that was sent first."""
        logs = list(folders.logs_of(self.relay.run_dir))
        return [log for log in logs if log[0] > self.last_sent] + [
            log for log in logs if log[0] <= self.last_sent
        ]

    def _open(self, path):
        if path not in self.files:
            self.files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self.files[path]


def _checked(run):
    if "/" in run or run.startswith("."):
        raise Refused("bad-run", "not the name of a run: %r" % run)
    return run


def _write(path, text, mode):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def main(argv):
    """``relay ROOT``: serves one connection."""
    relay = Relay(argv[0])
    os.makedirs(relay.root, mode=0o700, exist_ok=True)
    try:
        relay.serve()
    except BrokenPipeError:
        pass
    os._exit(0)  # nothing is left to flush or to take apart: we wrote to the descriptor
