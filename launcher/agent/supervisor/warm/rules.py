"""Decides whether a rank may be forked from a Python that has imported modules already. Pure."""

from __future__ import annotations

import posixpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Tuple

    from ...processes.limits import Held

    #: A code and a detail of why a rank is started by itself.
    Hindrance = Tuple[str, str]

#: Variables that are known only at the start, or differ between the ranks of a host. No library reads
#: them when it is loaded; whether Python code did so is watched: see inside/preload.py.
FREE = frozenset(
    {
        "COLUMNS",
        "GLOO_SOCKET_IFNAME",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "LAUNCHER_ATTEMPT",
        "LAUNCHER_INDEX",
        "LAUNCHER_RANK_OFFSET",
        "LAUNCHER_ROLE",
        "LINES",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "NCCL_SOCKET_FAMILY",
        "NCCL_SOCKET_IFNAME",
        "NODE_RANK",
        "NUM_NODES",
        "NUM_TRAINERS",
        "PET_LOCAL_ADDR",
        "PET_MASTER_ADDR",
        "PET_MASTER_PORT",
        "PET_NNODES",
        "PET_NODE_RANK",
        "PET_NPROC_PER_NODE",
        "PET_RDZV_CONF",
        "POD_IP",
        "RANK",
        "TORCHELASTIC_ERROR_FILE",
        "TP_SOCKET_IFNAME",
        "TQDM_NCOLS",
        "WORLD_SIZE",
    }
)
#: Variables that differ between runs, or between logins of a user: they are like those of ranks in a
#: Python that is kept for others.
_OF_RUN = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS",
        "KRB5CCNAME",
        "LAUNCHER_HOST",
        "LAUNCHER_NODE_RANK",
        "LAUNCHER_OUTPUT_DIR",
        "LAUNCHER_RUN_DIR",
        "LAUNCHER_RUN_ID",
        "XAUTHORITY",
    }
)
#: How variables begin that Python or a library reads in C as it starts: nobody could watch that.
_AT_START = ("GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")
#: Variables of a helper that nothing prepares: what makes it one, and what a shell sets each time.
_OF_HELPER = ("LAUNCHER_PRELOAD", "_")
#: The shortest name of a run that is looked for inside of values.
_NAME = 8
#: Options of Python that change nothing about how it starts; the second ones have a value.
PLAIN, WITH_VALUE = ("-u", "-B", "-O", "-OO", "-b", "-q"), ("-X", "-W")


def command(argv: Sequence[str]) -> Tuple[list[str], list[str], list[str]] | None:
    """Return ``argv`` in parts: what bash prepares, Python up to its script or module, and the arguments
    of that. None unless it is a command of that kind."""
    front = 4 if list(argv[:2]) == ["bash", "-c"] and list(argv[3:4]) == ["prepare"] else 0
    words = list(argv[front:])
    if not words or not posixpath.basename(words[0]).startswith("python"):
        return None
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-m":
        if words[at] in WITH_VALUE:
            at += 1
        elif words[at] not in PLAIN and not words[at].startswith(WITH_VALUE):
            return None
        at += 1
    end = at + (2 if words[at : at + 1] == ["-m"] else 1)
    if end > len(words) or (words[at] != "-m" and not words[at].endswith(".py")):
        return None
    return list(argv[:front]), words[:end], words[end:]


class OfRun:
    """What a Python that is kept for other runs must not know of this one: its name and folder, and the
    values of its ``secrets``. ``place`` stands for the folder in PATH."""

    def __init__(self, env: Mapping[str, str], secrets: Iterable[str], place: str) -> None:
        self.run_id, self.run_dir = env["LAUNCHER_RUN_ID"], env["LAUNCHER_RUN_DIR"]
        self.secrets, self.place = frozenset(secrets), place

    def has(self, name: str, value: str) -> bool:
        """Return whether a variable is the run's alone."""
        if name in _OF_RUN or name in self.secrets:
            return True
        if name == "PATH" or name.startswith(_AT_START):
            return False
        named = self.run_id in value if len(self.run_id) >= _NAME else self.run_id == value
        return named or self.run_dir in value

    def elsewhere(self, value: str) -> str:
        """Return a value with the place instead of the run's folder."""
        return value.replace(self.run_dir, self.place)


def own(env: Mapping[str, str], run: OfRun | None) -> dict[str, str]:
    """Return the variables that only the rank has: those of a ``run``, too, in a Python that is kept."""
    return {
        name: value
        for name, value in env.items()
        if name in FREE or (run is not None and run.has(name, value))
    }


def shared(env: Mapping[str, str], run: OfRun | None) -> dict[str, str]:
    """Return the variables with which modules are imported: what all ranks of a host have alike, and
    without those of a ``run`` in a Python that is kept for others."""
    mine = own(env, run)
    found = {name: value for name, value in env.items() if name not in mine}
    if run is not None and "PATH" in found:
        found["PATH"] = run.elsewhere(found["PATH"])
    return found


def prepared_otherwise(before: Mapping[str, str], now: Mapping[str, str], inside: str) -> str:
    """Return a variable that bash makes another one ``now`` than for a helper that began with those
    ``before``, of which ``inside`` is the folder of ours; "" where all are the same."""
    ours, theirs = dict(before), dict(now)
    for name in _OF_HELPER:
        ours.pop(name, None)
        theirs.pop(name, None)
    first, _, behind = ours.get("PYTHONPATH", "").partition(":")
    if first == inside and not theirs.get("PYTHONPATH", "").startswith(inside):
        ours["PYTHONPATH"] = behind
        theirs.setdefault("PYTHONPATH", "")
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            return name
    return ""


def hindrance(
    argv: Sequence[str],
    env: Mapping[str, str],
    rank_argv: Sequence[str],
    rank_env: Mapping[str, str],
    held: Held | None,
    run: OfRun | None = None,
) -> Hindrance | None:
    """Return why a rank cannot be forked from a Python that was started as ``argv`` with ``env``; None
    where it can, as far as that is known without asking that Python. ``run`` is that of the rank, where
    the Python is kept."""
    ours, theirs = command(argv), command(rank_argv)
    if ours is None or theirs is None or ours[:2] != theirs[:2]:
        return "other-command", ""
    wanted = shared(rank_env, run)
    for name in sorted(wanted.keys() | env.keys()):
        if wanted.get(name) != env.get(name):
            return "other-variable", name
    if held and held.get("cores"):
        return "cores", ""  # libraries count them when they are loaded
    return None
