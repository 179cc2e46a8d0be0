"""Turns a command of a run into that of a container runtime which starts it in an image. Pure.

A container here brings software and separates nothing else: network, IPC, user, paths and limits are
those of the host. Its process namespace is its own, so that what its first process has started dies with
it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..base.messages import ContainerSpec

PODMAN, DOCKER, APPTAINER, BWRAP = "podman", "docker", "apptainer", "bwrap"
#: In the order in which they are tried.
RUNTIMES = (PODMAN, DOCKER, APPTAINER, BWRAP)
#: How GPUs get into a container: by a CDI specification of the host, or by the runtime itself.
CDI, OF_RUNTIME = "cdi", "runtime"
#: The label of all containers of a run, and of a visitor's.
LABEL, VISITOR = "launcher.run", "launcher.visitor"
#: Below the root: who has containers that are of no run; see visitors.py.
VISITORS = "visitors"

#: The first process in a container. $1 comes before PATH, output is appended to $2 and $3 (empty: as it
#: is), $4 is a fifo that the supervisor holds open: when it is gone, everything in the container ends.
#: That needs a process namespace of its own, in which this process has one of the first numbers. The
#: exit code is written to $5, as a runtime that was killed tells none. Signals are for the program: a
#: trap with a command is none in what a shell starts. Who asks it to stop waits for that: what does not
#: ignore SIGTERM below this process is the program.
_FIRST = """\
PATH=$1${PATH:+:$PATH}; export PATH
trap '' HUP INT TERM
if [ -n "$4" ] && [ "$$" -le 9 ]; then
  exec 9<"$4" || exit 125
  ( trap '' HUP INT TERM; read -r launcher_word <&9; kill -KILL -1 ) </dev/null >/dev/null 2>&1 &
fi
if [ -n "$2" ]; then exec >>"$2" 2>>"$3"; fi
launcher_to=$5
shift 5
trap : HUP INT TERM USR1 USR2
"$@" 9<&-
launcher_code=$?
if [ -n "$launcher_to" ]; then echo "$launcher_code" >"$launcher_to"; fi
exit "$launcher_code"
"""
#: Runs a visitor's client, and belongs to its container as the supervisor does to those of a run: $d is
#: the folder of visitors, $n the name, $note what is noted there. A client that was killed may have left
#: the container, which has ended with the fifo.
_VISIT = """\
p=$d/$n fifo=
mkdir -p -m 700 "$d"
if mkfifo -m 600 "$p.new" 2>/dev/null && exec 8<>"$p.new" && mv "$p.new" "$p.fifo"; then
  fifo=$p.fifo
fi
printf %%s "$note" >"$p"
%(client)s 8<&-
code=$?
exec 8<&-
if [ "$code" -gt 124 ]; then %(removal)s >/dev/null 2>&1; fi
rm -f "$p" "$p.fifo"
exit "$code"
"""
#: Variables by whose names the client of a runtime is led astray: it gets the host's, and the container
#: its own as arguments.
_OF_THE_CLIENT = ("CONTAINER", "DOCKER_", "LD_", "PODMAN_", "STORAGE_", "XDG_")
_OF_THE_HOST = ("HOME", "PATH", "PWD", "TMPDIR", "USER")


def is_for_the_client(name: str) -> bool:
    """Return whether a variable means something to the runtime's own programs."""
    return name in _OF_THE_HOST or name.startswith(_OF_THE_CLIENT)


class Contained:
    """What to start in an image: ``argv`` with the variables ``env`` in the folder ``cwd``.

    ``before`` comes before the image's PATH. ``files`` are those of the supervisor: two for output, the
    fifo, and one for the exit code; without them, output goes where the client's does. ``terminal``:
    input is passed on, too, and is a terminal's (``"tty"``) or not (``"pipe"``).
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        before: Sequence[str] = (),
        files: tuple[str, str, str, str] = ("", "", "", ""),
        terminal: str = "",
    ) -> None:
        self.argv, self.env, self.cwd, self.before = list(argv), dict(env), cwd, before
        self.files, self.terminal = files, terminal

    @property
    def first(self) -> list[str]:
        """What the first process in the container runs."""
        return ["-c", _FIRST, "launcher", ":".join(self.before), *self.files, *self.argv]


def command(
    spec: ContainerSpec,
    what: Contained,
    name: str = "",
    label: str = "",
    limits: Mapping[str, int] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Return the argv that starts this in the image, and the variables that its client needs.

    Values do not become arguments, which everybody could read, unless the client would follow them.
    """
    env = {"HOME": spec["home"], **what.env}
    if spec["runtime"] == APPTAINER:
        return _apptainer(spec, what, env)
    if spec["runtime"] == BWRAP:
        return _bwrap(spec, what, env)
    own = _of_podman(spec) if spec["runtime"] == PODMAN else _of_docker(spec, limits or {})
    variables, passed = _by_name(env)
    words = [*_common(spec, what, name, label), *own, *variables]
    return [*words, "--entrypoint", "sh", spec["image"], *what.first], passed


def client_environment(
    spec: ContainerSpec, passed: Mapping[str, str], login: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the client, which is this host's; bwrap passes on what it has."""
    return dict(passed) if spec["runtime"] == BWRAP else {**login, **passed}


def visit(spec: ContainerSpec, what: Contained, folder: str, name: str, note: str) -> str:
    """Return the lines of sh that run a visitor in the image, and let its container end with them.

    ``folder`` is that of visitors, and ``note`` what is written there under ``name``.
    """
    fifo = "%s/%s.fifo" % (folder, name)
    if removal(spec, [name]):
        what.files = ("", "", fifo, "")
    words, passed = command(spec, what, name, VISITOR)
    settings = ["%s=%s" % one for one in passed.items()]
    clear = ["-i"] if spec["runtime"] == BWRAP else []
    words = ["env", *clear, *settings, *words] if settings or clear else words
    if not removal(spec, [name]):  # its runtime dies with it
        return "exec " + _line(words)
    settled = "d=%s n=%s note=%s\n" % (_quoted(folder), _quoted(name), _quoted(note))
    client = _line(words).replace(_quoted(fifo), '"$fifo"')
    return settled + _VISIT % {"client": client, "removal": _line(removal(spec, [name]))}


def _line(words: Iterable[str]) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    return "'%s'" % word.replace("'", "'\"'\"'")


def removal(spec: ContainerSpec, names: Iterable[str]) -> list[str]:
    """Return the argv that removes containers; [] where the runtime keeps none."""
    if spec["runtime"] == PODMAN:
        return [spec["program"], "rm", "--force", "--ignore", "--volumes", *names]
    if spec["runtime"] == DOCKER:
        return [spec["program"], "rm", "--force", "--volumes", *names]
    return []


def _by_name(env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return ``--env`` options of podman and docker, and variables that they take from the client."""
    words, passed = [], {}
    for name, value in sorted(env.items()):
        if is_for_the_client(name):
            words += ["--env", "%s=%s" % (name, value)]
        else:
            words += ["--env", name]
            passed[name] = value
    return words, passed


def _common(spec: ContainerSpec, what: Contained, name: str, label: str) -> list[str]:
    """Return the options that podman and docker have alike."""
    words = [spec["program"], "run", "--rm", "--pull=never", "--network=host", "--uts=host"]
    words += ["--log-driver=none", "--no-healthcheck", "--security-opt", "seccomp=unconfined"]
    words += ["--security-opt", "label=disable", "--user", spec["user"], "--workdir", what.cwd]
    if name:
        words += ["--name", name]
    if label:
        words += ["--label", label]
    if what.terminal:
        words += ["--interactive"] + (["--tty"] if what.terminal == "tty" else [])
    if spec["ipc"]:
        words.append("--ipc=host")
    else:
        words += ["--volume", "/dev/shm:/dev/shm"]
    for mount in [*spec["mounts"], "%s:/etc/hosts:ro" % spec["hosts"]]:
        words += ["--volume", mount]
    for device in spec["devices"]:
        words += ["--device", device]
    return words


def _of_podman(spec: ContainerSpec) -> list[str]:
    # Without control groups of its own, a container stays in those of the run, with their limits.
    # Volumes of an image would be copied at each start, and outlive a podman that was killed.
    # What is removed ends at once: podman rm takes no --time before 4.0.
    words = ["--cgroups=disabled", "--ulimit", "host", "--no-hosts", "--image-volume=ignore"]
    words.append("--stop-timeout=0")
    if spec["rootless"]:
        words += ["--userns=keep-id", "--group-add", "keep-groups"]
    if spec["gpus"]:
        words += ["--device", "nvidia.com/gpu=all"]
    return words


def _of_docker(spec: ContainerSpec, limits: Mapping[str, int]) -> list[str]:
    # Its daemon starts the container, which would have the daemon's limits.
    words: list[str] = []
    for one in spec["ulimits"]:
        words += ["--ulimit", one]
    for group in spec["groups"]:
        words += ["--group-add", str(group)]
    if limits.get("memory"):
        words += ["--memory", str(limits["memory"])]
    if limits.get("cpus"):
        words += ["--cpus", str(limits["cpus"])]
    if spec["gpus"]:
        words += ["--gpus", "all"]
    return words


def _apptainer(
    spec: ContainerSpec, what: Contained, env: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    words = [spec["program"], "exec", "--cleanenv", "--no-eval", "--pid", "--no-home"]
    words += ["--home", spec["home"], "--pwd", what.cwd]
    for mount in [*spec["mounts"], "%s:/etc/hosts:ro" % spec["hosts"]]:
        words += ["--bind", mount]
    if spec["gpus"]:
        words.append("--nv")
    if "/dev/kfd" in spec["devices"]:
        words.append("--rocm")
    passed = {"APPTAINERENV_" + key: value for key, value in env.items() if key != "HOME"}
    return [*words, spec["image"], "sh", *what.first], passed


def _bwrap(
    spec: ContainerSpec, what: Contained, env: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    # It passes its own environment on, and needs none.
    words = [spec["program"], "--die-with-parent", "--unshare-pid", "--ro-bind", spec["image"], "/"]
    words += ["--proc", "/proc", "--dev-bind", "/dev", "/dev", "--ro-bind", "/sys", "/sys"]
    for mount in spec["mounts"]:
        source, place, mode = (mount.split(":") + [""])[:3]
        words += ["--ro-bind" if mode == "ro" else "--bind", source, place]
    for source, place in ((spec["hosts"], "/etc/hosts"), ("/etc/resolv.conf", "/etc/resolv.conf")):
        words += ["--ro-bind-try", source, place]
    words += ["--chdir", what.cwd]
    defaults = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return [*words, "--", "sh", *what.first], {**defaults, **env}
