"""The Python that imports modules once on a host, and forks a rank whenever the supervisor asks for one.

It was started like a rank: same program, script, variables but those of a rank, and what the job has
bash prepare in front. Its ``sitecustomize`` runs this before Python opens the script; in a rank it
returns there, so the interpreter itself starts the script, and ends it. Standard library, Python 3.8.

See docs/decisions/0067-warm-ranks.md.
"""

from __future__ import annotations

import _socket
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Dict, List, Tuple, Union

    #: The parts of a message by their kind: see ``parts``.
    Parts = Dict[str, List[str]]
    #: What tells whether a file is the same as before.
    Stamp = Tuple[Union[int, str], ...]

#: Largest message, and bytes of what imports print that each rank repeats.
LARGEST, PRINTED = 1 << 18, 1 << 16
#: Descriptors below this are left to the modules and the rank.
HIGH = 800
#: Names of folders where packages are installed. Most names in another one that are compared.
INSTALLED, MOST = ("site-packages", "dist-packages"), 10000
#: How the files of modules end.
MODULES = (".py", ".pyc", ".so")
#: Asks whether what was imported can still be used: an attempt of the run was over. And what begins a
#: message with what ps(1) is to show of a helper that is kept.
CHECK, NOTE = b"?", b"n"
#: Files that a process has open once it works with a GPU.
DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
PR_SET_PDEATHSIG, SIGKILL = 1, 9


def _beside(name: str) -> Any:
    """Return the module in a file beside this one, by which no import of the job can find it."""
    import importlib.util

    file = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("launcher_" + name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_likeness = _beside("rank_likeness")


def parts(data: bytes) -> Parts:
    """Return the parts of a message, by kind: each is a letter and a text, with a NUL behind it."""
    found: Parts = {}
    for part in data.split(b"\0")[:-1]:
        found.setdefault(chr(part[0]), []).append(os.fsdecode(part[1:]))
    return found


def serve(asked: str) -> bool:
    """Preload, and serve the supervisor. Return True in a rank, False once the supervisor is gone."""
    number, names, *kept = asked.split()
    line = _socket.socket(fileno=_high(int(number)))
    started = os.getcwd() if kept else ""
    if kept:
        _forget_note()
    # The folder of the code, in which Python was started, may be made anew any moment.
    code = os.getcwd()
    os.chdir(os.path.dirname(code))
    prctl = _prctl()
    before = frozenset(sys.modules)
    read: set[str] = set()
    try:
        _import(names.split(","), read)
        problem = _problem()
    except Exception as error:
        import traceback

        traceback.print_exc()
        problem = "import-failed " + ("%s: %s" % (type(error).__name__, error)).split("\n")[0]
    _flush()
    if problem:
        line.send(b"f" + os.fsencode(problem)[:2000])
        return False
    files = _files(code)
    gc.freeze()  # else a rank that collects garbage, or ends, copies the memory of all that was imported
    line.send(b"r")
    return Forks(line, names.split(","), before, read, prctl, files, started).serve()


def _forget_note() -> None:
    """Take the argument off that only ps(1) is to show: a helper that is kept has none of a run's."""
    del sys.argv[1:]
    words = getattr(sys, "orig_argv", None)
    if words:
        del words[-1]


def _files(code: str) -> dict[str, Stamp]:
    """Return what tells a change of what was imported: of modules, of the libraries that they have
    loaded, of the packages that they may have looked for, and of what says where those are. Not of the
    folder of the ``code``: a module there that hides one of these is found when a rank is forked."""
    own = os.path.realpath(code) + "/"
    folders = [path for path in sys.path if not (os.path.realpath(path) + "/").startswith(own)]
    paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths += [*folders, os.path.join(sys.prefix, "pyvenv.cfg")]
    for folder in folders:
        if os.path.basename(folder) in INSTALLED and os.path.isdir(folder):
            lines = [name for name in os.listdir(folder) if name.endswith(".pth")]
            paths += [os.path.join(folder, name) for name in lines]
    found = {path: _stamp(path) for path in paths if isinstance(path, str)}
    return {**{path: _stamp(path) for path in _libraries()}, **found}


def _libraries() -> set[str]:
    """Return the files whose code this process executes, but for those that are gone already."""
    found = set()
    with open("/proc/self/maps", "rb") as file:
        for line in file:
            words = line.rstrip(b"\n").split(None, 5)  # from-to r-xp 0 fe:01 4711 /lib/libm.so.6
            if len(words) == 6 and b"x" in words[1] and words[5].startswith(b"/"):
                found.add(os.fsdecode(words[5]))
    return {path for path in found if os.path.exists(path)}


def _stamp(path: str) -> Stamp:
    """Return time and size of a file, or what a folder of modules has: not byte code, which ranks
    write, and of one where nothing is installed only what could be imported."""
    try:
        if os.path.isdir(path):
            everything = os.path.basename(path) in INSTALLED
            names = [name for name in os.listdir(path) if name != "__pycache__"]
            if everything or len(names) <= MOST:
                return tuple(sorted(name for name in names if everything or _may_be_module(name)))
        known = os.stat(path)
    except OSError:
        return ()
    return known.st_mtime_ns, known.st_size


def _may_be_module(name: str) -> bool:
    stem, dot, _ = name.partition(".")
    return stem.isidentifier() and (not dot or name.endswith(MODULES))


def _high(number: int) -> int:
    """Move a descriptor out of the way, and keep it from programs that modules start."""
    import fcntl
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, min(HIGH, most // 2) if most > 0 else HIGH)
    os.close(number)
    return high


def _prctl() -> Callable[[int, int], int]:
    """Return prctl(2), which is looked up before any fork."""
    try:
        from _ctypes import call_function, dlopen, dlsym
    except ImportError:
        import ctypes

        library = ctypes.CDLL(None)
        return lambda option, value: int(library.prctl(option, value, 0, 0, 0))
    own = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type] # dlopen(3): the program itself
    address = dlsym(own, "prctl")
    return lambda option, value: int(call_function(address, (option, value, 0, 0, 0)))


def _import(names: list[str], read: set[str]) -> None:
    """Import modules; ``read`` gets the variables that any of them asked for by name."""
    import importlib

    kept = type(os.environ)

    class Noting(kept):  # type: ignore[misc, valid-type]
        def __getitem__(self, name: str) -> str:
            read.add(os.fsdecode(name))
            return kept.__getitem__(self, name)

    both: list[Any] = [os.environ, os.environb]
    for one in both:
        one.__class__ = Noting
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        for one in both:
            one.__class__ = kept


def _problem() -> str:
    """Return why no rank can be forked from this process; "" where one can."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    opened = [path for path in _open_files() if path.startswith(DEVICES)]
    if opened or (cuda is not None and cuda.is_initialized()):
        return "gpu-in-use " + (opened[0] if opened else "torch.cuda")
    # Libraries such as OpenBLAS end their threads when their process forks, and start them again.
    if _threads():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return "threads %d" % _threads() if _threads() else ""


def _threads() -> int:
    """Return how many threads there are beside this one."""
    return len(os.listdir("/proc/self/task")) - 1


def _open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


class Forks:
    """Answers requests for ranks. ``before`` are the modules that every Python has, ``read`` the
    variables that imports have asked for, ``files`` what was imported."""

    def __init__(
        self,
        line: _socket.socket,
        names: list[str],
        before: frozenset[str],
        read: set[str],
        prctl: Callable[[int, int], int],
        files: dict[str, Stamp],
        started: str,
    ) -> None:
        self._files, self._started, self._is_kept = files, started, bool(started)
        self._line, self._before, self._read, self._prctl = line, before, read, prctl
        self._names = [name.split(".")[0] for name in names]
        self._own = list(sys.argv[1:])

    def serve(self) -> bool:
        """Return True in a rank, and False once nobody asks any more."""
        while True:
            data, extra, flags, _ = self._line.recvmsg(
                LARGEST, _socket.CMSG_SPACE(16), _socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                return False
            if data == CHECK:
                problem = self._changed() or _problem()
                self._line.send(b"f" + os.fsencode(problem)[:2000] if problem else b"r")
                continue
            if data[:1] == NOTE and not extra:
                _likeness.show_arguments(1, [os.fsdecode(data[1:])])
                continue
            passed = (
                [extra[0][2][at : at + 4] for at in range(0, len(extra[0][2]), 4)] if extra else []
            )
            streams = [int.from_bytes(one, sys.byteorder) for one in passed]
            asked = parts(data)
            if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(streams) != 4:
                answer = "ctoo-large "
            else:
                answer = self._answer(asked, streams)
            if not answer:
                return True
            for fd in streams:
                os.close(fd)
            self._line.send(os.fsencode(answer))

    def _answer(self, asked: Parts, streams: list[int]) -> str:
        """Fork a rank; return what to tell the supervisor, and "" in the rank."""
        why = self._hindrance(asked)
        if why:
            return "c" + why
        reader, writer = os.pipe()
        try:
            first = os.fork()
        except OSError:  # no memory, or too many processes
            os.close(reader)
            os.close(writer)
            return "cfork-failed "
        if first == 0:  # its child becomes the supervisor's when it exits
            try:
                second = os.fork()
            except OSError:
                os._exit(1)
            if second:
                os.write(writer, b"%d" % second)
                os._exit(0)
            os.close(reader)
            os.close(writer)
            self._become(streams)
            return ""
        os.close(writer)
        pid = os.read(reader, 32)
        os.close(reader)
        os.waitpid(first, 0)
        return "p" + pid.decode() if pid else "cfork-failed "

    def _changed(self) -> str:
        """Return a code and a file that is not what was imported; "" where all are."""
        for path, stamp in self._files.items():
            if _stamp(path) != stamp:
                return "file-changed " + path
        return ""

    # -- may it be forked?

    def _hindrance(self, asked: Parts) -> str:
        """Return a code and a detail of what is in the way of a rank; "" for nothing."""
        names = asked.get("N", [])
        known = [name for name in names if name in self._read]
        if known:
            return "read-already " + known[0]
        prepared = [name for name in names if name in os.environ]
        if prepared:
            return "prepared " + prepared[0]
        cwd = asked["D"][0]
        script = self._script(cwd)
        is_module = sys.argv[0] == "-m"
        folders = [cwd if is_module else os.path.dirname(os.path.realpath(script))]
        own = os.path.realpath(cwd)
        folders += [one for one in sys.path if (os.path.realpath(one) + "/").startswith(own + "/")]
        hidden = self._hidden(folders)
        if hidden:
            return "hides-module " + hidden
        early = self._early_write(script, folders, asked.get("F", [])) if script else ""
        return "sets-variable " + early if early else ""

    def _script(self, cwd: str) -> str:
        """Return the file that Python is about to execute, if it is one of the run's own."""
        words = getattr(sys, "orig_argv", None) or sys.argv
        if sys.argv[0] != "-m":
            return os.path.join(cwd, sys.argv[0])
        at = len(words) - len(self._own) - 1
        stem = os.path.join(cwd, *words[at].split(".")) if "-m" in words[:at] else ""
        for path in (stem + ".py", os.path.join(stem, "__main__.py")):
            if stem and os.path.isfile(path):
                return path
        return ""

    def _hidden(self, folders: list[str]) -> str:
        """Return a module of the run that has the name of one which was imported from elsewhere."""
        there = {name.split(".")[0] for name in sys.modules.keys() - self._before}
        for folder in dict.fromkeys(folders):
            try:
                entries = os.listdir(folder)
            except OSError:
                continue
            for entry in entries:
                stem, dot, _ = entry.partition(".")
                is_module = entry.endswith((".py", ".so", ".pyc")) or (
                    not dot and os.path.exists(os.path.join(folder, entry, "__init__.py"))
                )
                if stem in there and is_module:
                    return entry
        return ""

    def _early_write(self, script: str, folders: list[str], free: list[str]) -> str:
        module = _beside("early_writes")
        return str(module.first_write(script, folders, self._names, free))

    # -- in the rank

    def _become(self, streams: list[int]) -> None:
        """Turn this fork into the rank, which only now reads what it alone has. It never returns where
        that fails."""
        gate = streams[3]
        try:
            self._line.close()
            asked = parts(_taken(gate, int.from_bytes(_taken(gate, 4), "big")))
            printed = [os.pread(number, PRINTED, 0) for number in (1, 2)]
            os.setsid()
            for number, fd in enumerate(streams[:3]):
                os.dup2(fd, number)
                os.close(fd)
            os.chdir(asked["D"][0])
            for group in asked.get("G", []):
                _likeness.join(group, asked.get("L") == ["1"])
            os.write(gate, b"0")
            if os.read(gate, 1) != b"g":
                os._exit(1)
            self._prctl(PR_SET_PDEATHSIG, SIGKILL)
            if os.getppid() != int(asked["P"][0]):
                os._exit(1)
            os.close(gate)
            self._be_of_run(asked)
            for text in asked.get("S", []):
                name, _, value = text.partition("=")
                os.environ[name] = value
            _likeness.show_variables(asked.get("S", []))
            self._take_arguments(asked.get("A", []))
            _likeness.show_printed(printed)
            _likeness.be_different()
        except OSError as error:
            try:
                os.write(gate, b"%d" % (error.errno or 1))
            except OSError:
                pass
            os._exit(127)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(127)

    def _be_of_run(self, asked: Parts) -> None:
        """Have the folders of this run where those of a helper are that is kept for others."""
        if self._started and not os.path.isabs(sys.argv[0]):
            _likeness.find_script(self._started, os.getcwd())
        for place in asked.get("W", []):
            _likeness.move(place, asked["I"][0])

    def _take_arguments(self, arguments: list[str]) -> None:
        """Have the arguments of this rank where those of the helper are."""
        if arguments == self._own and not self._is_kept:
            return
        sys.argv[1:] = arguments
        words = getattr(sys, "orig_argv", None)
        if words is not None:
            words[len(words) - len(self._own) :] = arguments
        _likeness.show_arguments(1 if self._is_kept else len(self._own), arguments)


def _taken(gate: int, size: int) -> bytes:
    """Read so many bytes. Exit where the supervisor is gone."""
    data = b""
    while len(data) < size:
        piece = os.read(gate, size - len(data))
        if not piece:
            os._exit(1)
        data += piece
    return data
