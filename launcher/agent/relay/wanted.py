"""What an environment of Python is made of, in the code of a run: a lock of uv or requirements, or a
file that describes one of conda.

It is built once for all runs, so it holds nothing of one run's code: folders are left out of a lock, and
refused among requirements.
"""

from __future__ import annotations

import os
import re
import sys

from ..base.protocol import Refused, blake2b
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..base.messages import Message

#: Most bytes of a file that says what is wanted, and most files.
MOST, MOST_FILES = 1 << 24, 100
#: Bytes at the end of a wheel that are read: of a large one, those with what lists its files.
END = 1 << 14
LOCK = ("pyproject.toml", "uv.lock")
REQUIREMENTS = "requirements.txt"
#: Beside wheels that a launcher brings: which they are, with their sums. Also in runner/wheels/cache.py.
BROUGHT = "wheels.txt"
#: A line of requirements that includes another file; and one that names a folder or file instead of a
#: package of an index. Wheels and archives are what their names say.
_INCLUDES = re.compile(
    r"(?:-r|--requirement|-c|--constraint)[\s=]*(?:\"([^\"]+)\"|'([^']+)'|(\S.*))"
)
_FOLDER = re.compile(r"-e\b|--editable\b|\.\.?(?:/|$)|/|file:|\S+\s*@\s*file:")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar\.\w+|tgz)(?:\s|$)")
#: In a line, the path of a wheel or an archive; and a folder of such.
_NAMED = re.compile(r"[^\s\"',@\[\]]+\.(?:whl|zip|tar\.\w+|tgz)(?=[\s\"',;#\]]|$)")
_FIND_LINKS = re.compile(r"(?:-f|--find-links)[\s=]+([^\s\"',\]]+)")
#: In a file of conda: what its pip section includes, as a list of blocks or on one line.
_INCLUDED_BY_CONDA = re.compile(
    r"(?:^\s*-|[\[,])\s*[\"']?(?:-r|--requirement|-c|--constraint)[\s=]+([^\s\"',\]#]+)"
)
#: In a manifest of pixi: scripts that activate. In its lock: what comes from folders.
_SCRIPTS = re.compile(r"^scripts\s*=\s*\[([^\]]*)\]", re.M)
_FOLDER_OF_PIXI = re.compile(r"^- (?:pypi|conda): \.\S*\n((?:  .*\n?)*)", re.M)
#: Seconds to look for the programs of conda, and for one of them to tell its version.
FINDING = 20.0
#: Looks at the Python of an environment that has come with one, which is the first argument.
_CHECK = """\
import os, subprocess, sys
python, name = sys.argv[1:]
if not os.path.exists(python):
    sys.exit("error: it brings no Python: add python to what %s wants" % name)
asked = "import sys; print('%d.%d' % sys.version_info[:2]); sys.exit(sys.version_info < (3, 8))"
done = subprocess.run([python, "-I", "-c", asked], stdout=subprocess.PIPE)
said = done.stdout.decode("utf-8", "replace").strip()
if done.returncode:
    why = "it brings Python %s, and launcher needs 3.8 or newer" % said
    sys.exit("error: " + (why if said else "its Python cannot be started"))
"""
#: In uv.lock: the name of a package, and that it comes from a folder.
_NAME = re.compile(r'^name = "([A-Za-z0-9._-]{1,200})"$', re.M)
_OF_FOLDER = re.compile(r"^source = \{ (?:editable|directory|virtual) = ", re.M)


class Wanted:
    """What a run wants, in its code. ``files`` say it, and ``program`` is what a launcher can bring to a
    host that has nothing which builds it."""

    program = ""

    def __init__(self, code: str) -> None:
        self.code, self.folder = code, code
        self.files: list[str] = []
        self._texts: list[str] = []
        self._named: list[str] = []

    def _take(self, path: str) -> str:
        """Read a file that says what is wanted. Raises Refused."""
        text = _text(path)
        self.files.append(path)
        self._texts.append(text)
        return text

    def _include(self, path: str, text: str) -> None:
        """Take in the files that requirements include, and theirs. Raises Refused."""
        for number, line in enumerate(text.splitlines(), start=1):
            words = re.sub(r"(^|\s)#.*", "", line).strip()
            self._note_named(path, words)
            included = _INCLUDES.match(words)
            name = included.group(included.lastindex or 0) if included else ""
            if name and "://" not in name:
                try:
                    self._take_included(path, name)
                except Refused as refusal:
                    where = "%s, line %d: %s" % (os.path.basename(path), number, refusal)
                    raise Refused(refusal.code, where) from None
            elif _FOLDER.match(words) and not _ARCHIVE.search(words):
                why = "%s, line %d: %.200s is a local path, and other runs use the environment, too"
                raise Refused("local-path", why % (os.path.basename(path), number, words))

    def _take_included(self, path: str, name: str) -> None:
        inner = os.path.join(os.path.dirname(path), name)
        inner = _inside(self.code, os.path.relpath(inner, self.code))
        if inner not in self.files and len(self.files) < MOST_FILES:
            self._include(inner, self._take(inner))

    def _note_named(self, path: str, line: str) -> None:
        """Note the wheels and archives that a line names by their paths, and those of folders: each may
        be built anew under its name."""
        for folder in dict.fromkeys((os.path.dirname(path), self.folder)):
            for name in _NAMED.findall(line):
                if "://" not in name.replace("file://", ""):
                    self._named.append(_known_by(folder, re.sub("^file:(//)?", "", name)))
            for name in _FIND_LINKS.findall(line):
                self._named += _known_in(os.path.join(folder, name))

    def _about(self) -> list[str]:
        """Return what makes another environment of the same files."""
        raise NotImplementedError

    def key(self) -> str:
        """Return the name of the environment."""
        about = "\0".join(self._about() + self._named).encode("utf-8", "surrogateescape")
        made = blake2b(about, digest_size=10)
        for text in self._texts:
            data = text.encode("utf-8", "surrogateescape")
            made.update(b"%d\0" % len(data) + data)
        return str(made.hexdigest())

    def texts_sum(self) -> str:
        """Return the sum of the files. Also in runner/wheels/cache.py."""
        made = blake2b(b"", digest_size=16)
        for text in self._texts:
            data = text.encode("utf-8", "surrogateescape")
            made.update(b"%d\0" % len(data) + data)
        return str(made.hexdigest())

    def python(self, place: str) -> str:
        """Return the Python of the environment that is built in ``place``."""
        return os.path.join(place, "bin", "python")

    def recipe(self) -> Message:
        """Return what says which wheels are needed. Raises Refused for what is built of none."""
        raise Refused("no-environment", "it is not built of wheels")

    def can_do_without(self) -> bool:
        """Return whether it can be built with nothing but Python."""
        return False

    def candidates(self, finder: str) -> list[str]:
        """Return the programs on this host that may build it, best first; those that were brought to it
        come behind. ``finder`` is sh that prints some."""
        raise NotImplementedError

    def prepare(self, source: str) -> str:
        """Put what the build needs into a new folder, if it needs that; return where it starts."""
        return self.folder

    def fill(self, place: str, program: str) -> None:
        """Put into ``place`` what must be there before it is built."""

    def environment(self, place: str) -> dict[str, str]:
        """Return variables for what builds it."""
        return {}

    def commands(self, place: str, program: str, source: str) -> list[list[str]]:
        """Return what builds it in ``place``, one after the other."""
        raise NotImplementedError


def wanted(
    code: str, kind: str, path: str, wheels: str, brought: str = "", origin: str = ""
) -> Wanted:
    """Return what a run wants, by the kind of tool that builds it; ``brought`` is the folder of wheels
    that a launcher brings, and ``origin`` what decides there, beside the files, which they are. Raises
    Refused."""
    if kind == "uv":
        return OfUv(code, path, wheels, brought, origin)
    return OfPixi(code, path) if kind == "pixi" else OfConda(code, path)


def finding(kind: str) -> Wanted:
    """Return what knows the programs of a kind, without anything that is wanted."""
    found = _KINDS[kind].__new__(_KINDS[kind])
    Wanted.__init__(found, "/")
    return found


class OfUv(Wanted):
    """A lock of uv or requirements, and perhaps a folder of wheels. Raises Refused.

    What is built of wheels that a launcher brings, with the list of them, is the same environment as
    without: it has the versions that the lock says. With an ``origin``, files do not say all.
    """

    program = "uv"

    def __init__(
        self, code: str, where: str, wheels: str, brought: str = "", origin: str = ""
    ) -> None:
        Wanted.__init__(self, code)
        self.brought, self._origin = brought, origin
        place = _inside(code, where)
        self.folder, self.is_lock = place, False
        if os.path.isdir(place):
            self.is_lock = os.path.isfile(os.path.join(place, LOCK[1]))
            for name in LOCK if self.is_lock else (REQUIREMENTS,):
                self._take(os.path.join(place, name))
        else:
            self.folder = os.path.dirname(place)
            self._take(place)
        if not self.is_lock:
            self._include(self.files[0], self._texts[0])
        self.wheels = ""
        if wheels:
            self.wheels = wheels if wheels.startswith("/") else _inside(code, wheels)
            if not os.path.isdir(self.wheels):
                code = "no-wheels-there" if wheels.startswith("/") else "no-environment"
                raise Refused(code, "there is no folder of wheels %s" % wheels)

    def _about(self) -> list[str]:
        python = os.path.realpath(sys.executable)
        about = [sys.version, python, os.uname().machine, str(self.is_lock)]
        about += [self._origin] if self._origin else []
        return about + (_known_in(self.wheels) if self.wheels else [])

    def can_do_without(self) -> bool:
        return bool(self.brought) or not self.is_lock

    def recipe(self) -> Message:
        """Return what says which wheels are needed: files of the code, their sum, and packages that are
        folders of the code."""
        return {
            "files": [os.path.relpath(path, self.code) for path in self.files],
            "sum": self.texts_sum(),
            "is_lock": self.is_lock,
            "folders": list(_of_folders(self._texts[1])) if self.is_lock else [],
        }

    def candidates(self, finder: str) -> list[str]:
        return in_folders("uv", *_on_path(), "~/.local/bin", "~/.cargo/bin")

    def environment(self, place: str) -> dict[str, str]:
        ours = {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
        return dict(ours, UV_PROJECT_ENVIRONMENT=place, UV_NO_PROGRESS="1")

    def commands(self, place: str, program: str, source: str) -> list[list[str]]:
        python, offline = self.python(place), []
        if self.brought or self.wheels:
            offline = ["--no-index", "--find-links", self.brought or self.wheels]
        if self.brought:
            offline += ["--no-deps", "-r", os.path.join(self.brought, BROUGHT)]
            if not program:
                pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
                return [[sys.executable, "-m", "venv", place], pip + offline]
            venv = [program, "venv", "--quiet", "--no-project", "--python", sys.executable, place]
            install = [program, "pip", "install", "--offline", "--python", python]
            return [venv, install + offline]
        if not program:
            pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
            return [[sys.executable, "-m", "venv", place], pip + offline + ["-r", self.files[0]]]
        venv = [program, "venv", "--quiet", "--no-project", "--python", sys.executable, place]
        install = [program, "pip", "install", "--python", python] + offline
        if not self.is_lock:
            return [venv, install + ["-r", self.files[0]]]
        if not offline:
            return [venv, [program, "sync", "--frozen", *self._without("--no-install")]]
        listed = os.path.join(place, "locked.txt")
        export = [program, "export", "--quiet", "--frozen", "--output-file", listed]
        export += self._without("--no-emit")
        return [venv, export, install + ["--no-deps", "-r", listed]]

    def _without(self, flag: str) -> list[str]:
        """Return the words that leave out the project, and packages that are folders of the code."""
        words = [flag + "-project"]
        for name in _of_folders(self._texts[1]):
            words += [flag + "-package", name]
        return words


class OfConda(Wanted):
    """A file that describes an environment of conda. It brings a Python of its own. Raises Refused."""

    program = "micromamba"

    def __init__(self, code: str, where: str) -> None:
        Wanted.__init__(self, code)
        path = _inside(code, where)
        self.folder = os.path.dirname(path)
        for line in self._take(path).splitlines():
            self._note_named(path, line)
            for name in _INCLUDED_BY_CONDA.findall(line):
                if os.path.isfile(os.path.join(self.folder, name)):
                    self._take_included(path, name)

    def _about(self) -> list[str]:
        return ["conda", os.uname().sysname, os.uname().machine]

    def candidates(self, finder: str) -> list[str]:
        said = processes.output_of(["/bin/sh", "-c", finder], FINDING) or ""
        return [line for line in said.splitlines() if line.startswith("/")]

    def prepare(self, source: str) -> str:
        """Copy the file, with links to what it may name: conda writes beside it, where the code of a run
        stays as it is."""
        code, to = self.code, source
        for name in os.path.relpath(self.files[0], self.code).split(os.sep):
            os.mkdir(to, 0o700)
            for other in os.listdir(code):
                if other != name:
                    os.symlink(os.path.join(code, other), os.path.join(to, other))
            code, to = os.path.join(code, name), os.path.join(to, name)
        with open(to, "wb") as file:
            file.write(self._texts[0].encode("utf-8", "surrogateescape"))
        return os.path.dirname(to)

    def environment(self, place: str) -> dict[str, str]:
        yes = dict.fromkeys(("CONDA_ALWAYS_YES", "MAMBA_ALWAYS_YES", "MAMBA_NO_BANNER"), "1")
        return dict(yes, CONDA_REGISTER_ENVS="false", PYTHONNOUSERSITE="1", PIP_NO_INPUT="1")

    def commands(self, place: str, program: str, source: str) -> list[list[str]]:
        name = os.path.basename(self.files[0])
        is_micro = os.path.basename(program) == "micromamba"
        create = ["create", "--yes"] if is_micro else ["env", "create"]
        make = [program, *create, "--prefix", place, "--file", name]
        return [make, [sys.executable, "-c", _CHECK, self.python(place), name]]


class OfPixi(Wanted):
    """A lock of pixi, with its manifest. It brings a Python of its own. Raises Refused.

    pixi keeps an environment beside its manifest. So the folder that is built has copies, and ``pixi``
    there is the program, which is asked when processes start.
    """

    program = "pixi"

    def __init__(self, code: str, where: str) -> None:
        Wanted.__init__(self, code)
        self.folder = _inside(code, where)
        names = ("pixi.toml", "pyproject.toml")
        there = [one for one in names if os.path.isfile(os.path.join(self.folder, one))]
        manifest = self._take(os.path.join(self.folder, (there or names)[0]))
        self._take(os.path.join(self.folder, "pixi.lock"))
        for listed in _SCRIPTS.findall(manifest):
            for name in re.findall(r"[\"']([^\"']+)[\"']", listed):
                path = _inside(self.folder, name)
                if os.path.isfile(path) and path not in self.files:
                    self._take(path)

    def _about(self) -> list[str]:
        return ["pixi", os.uname().sysname, os.uname().machine]

    def python(self, place: str) -> str:
        return os.path.join(place, ".pixi", "envs", "default", "bin", "python")

    def candidates(self, finder: str) -> list[str]:
        own = os.path.join(os.environ.get("PIXI_HOME") or "~/.pixi", "bin")
        return in_folders(
            "pixi", *_on_path(), own, "~/.local/bin", "/usr/local/bin", "/opt/pixi/bin"
        )

    def environment(self, place: str) -> dict[str, str]:
        return {"PIXI_NO_PROGRESS": "true", "PYTHONNOUSERSITE": "1"}

    def fill(self, place: str, program: str) -> None:
        """Copy manifest, lock and scripts of activation, and have pixi build there, whatever the host's
        settings say."""
        os.makedirs(os.path.join(place, ".pixi"), 0o700)
        for number, path in enumerate(self.files):
            to = os.path.join(place, os.path.relpath(path, self.folder))
            os.makedirs(os.path.dirname(to), 0o700, exist_ok=True)
            with open(to, "wb") as file:
                file.write(self._texts[number].encode("utf-8", "surrogateescape"))
        with open(os.path.join(place, ".pixi", "config.toml"), "w") as config:
            config.write("detached-environments = false\n")
        os.symlink(os.path.basename(self.files[0]), os.path.join(place, "manifest"))
        os.symlink(os.path.realpath(program), os.path.join(place, "pixi"))

    def commands(self, place: str, program: str, source: str) -> list[list[str]]:
        name = os.path.basename(self.files[0])
        make = [program, "install", "--manifest-path", os.path.join(place, name)]
        folders = list(_of_folders_in_pixi(self._texts[1]))
        make.append("--frozen" if folders else "--locked")  # the manifest names what is not there
        for one in folders:
            make += ["--skip", one]
        return [make, [sys.executable, "-c", _CHECK, self.python(place), name]]


_KINDS: dict[str, type[Wanted]] = {"uv": OfUv, "conda": OfConda, "pixi": OfPixi}


def in_folders(name: str, *folders: str) -> list[str]:
    """Return the programs of a name in folders, of which some are below the home."""
    paths = [os.path.join(os.path.expanduser(folder), name) for folder in folders if folder]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


def _on_path() -> list[str]:
    return [os.path.join("/", one) for one in os.environ.get("PATH", os.defpath).split(os.pathsep)]


def _of_folders(lock: str) -> Iterator[str]:
    """Yield the names of packages that a lock takes from folders."""
    for package in lock.split("[[package]]")[1:]:
        head = package.partition("\n[")[0]
        name = _NAME.search(head)
        if name and _OF_FOLDER.search(head):
            yield name.group(1)


def _of_folders_in_pixi(lock: str) -> Iterator[str]:
    """Yield the names of packages that a lock of pixi takes from folders."""
    for about in _FOLDER_OF_PIXI.findall(lock):
        name = re.search(r"^  name: ([A-Za-z0-9._-]{1,200})$", about, re.M)
        if name:
            yield name.group(1)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MOST).decode("utf-8", "surrogateescape")
    except OSError:
        text = "the run's code has no %s; is it ignored, and so not copied?"
        raise Refused("no-environment", text % os.path.basename(path)) from None


def _known_by(folder: str, name: str) -> str:
    """Return what tells a wheel or an archive from one that was built anew under its name: its size, and
    a sum of its end, where it has the sums of its files."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END))
            return "%s %d %s" % (name, size, blake2b(file.read(END), digest_size=10).hexdigest())
    except OSError:
        return name


def _known_in(folder: str) -> list[str]:
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [_known_by(folder, name) for name in names]


def _inside(code: str, path: str) -> str:
    """Return a path in the run's code. Raises Refused for one that leads out of it."""
    found = os.path.normpath(os.path.join(code, path))
    if found != code and not found.startswith(code + os.sep):
        raise Refused("outside-workdir", "%.200s is outside of the workdir" % path)
    return found
