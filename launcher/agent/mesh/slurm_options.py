"""The options of srun and sbatch, read as getopt_long reads them, and what becomes of each.

Source: srun(1) and sbatch(1), of Slurm 22.05 and 24.11.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, FrozenSet, List, Tuple

    Options = Dict[str, str]


class Wrong(Exception):
    """The command line cannot be obeyed."""


class Table:
    """Options of a program: letters by long names, and long names by whether they take a value."""

    def __init__(self, short: Dict[str, str], value: str, maybe: str, alone: str) -> None:
        self.short = short
        self.value, self.maybe = frozenset(value.split()), frozenset(maybe.split())
        self.names: FrozenSet[str] = self.value | self.maybe | frozenset(alone.split())

    def long(self, given: str) -> str:
        """Return the name of an option, which may be cut where no other begins alike. Raises Wrong."""
        if given in self.names:
            return given
        found = sorted(name for name in self.names if name.startswith(given))
        if len(found) > 1:
            raise Wrong("option '--%s' is ambiguous: --%s" % (given, ", --".join(found)))
        if not found:
            raise Wrong("unrecognized option '--%s'" % given)
        return found[0]

    def parse(self, words: List[str]) -> Tuple[Options, List[str]]:
        """Return the options in front of a command, by long names, and the command. Raises Wrong."""
        options: Options = {}
        words = list(words)
        while words and words[0].startswith("-") and len(words[0]) > 1:
            word = words.pop(0)
            if word == "--":
                break
            if not word.startswith("--"):
                self._letters(word[1:], words, options)
                continue
            given, equals, value = word[2:].partition("=")
            name = self.long(given)
            if equals and name not in self.value | self.maybe:
                raise Wrong("option '--%s' doesn't allow an argument" % name)
            if not equals and name in self.value:
                value = _next("--" + name, words)
            options[name] = value
        return options, words

    def _letters(self, letters: str, words: List[str], options: Options) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            name = self.short.get(letter)
            if name is None:
                raise Wrong("invalid option -- '%s'" % letter)
            if name in self.value:
                options[name], letters = letters.lstrip("=") or _next("-" + letter, words), ""
            elif name in self.maybe:
                options[name], letters = letters.lstrip("="), ""
            else:
                options[name] = ""


def _next(option: str, words: List[str]) -> str:
    if not words:
        raise Wrong("option '%s' needs a value" % option)
    return words.pop(0)


_SHORT = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile",
    "G": "gpus", "H": "hold", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes",
    "O": "overcommit", "Q": "quiet", "S": "core-spec", "V": "version", "b": "begin",
    "c": "cpus-per-task", "d": "dependency", "e": "error", "h": "help", "i": "input", "k": "no-kill",
    "m": "distribution", "n": "ntasks", "o": "output", "p": "partition", "q": "qos",
    "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_VALUE = """
account acctg-freq bb bbf begin chdir cluster-constraint clusters comment constraint container
container-id core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
dependency distribution error exclude export extra extra-node-info gid gpu-bind gpu-freq gpus
gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name licenses mail-type
mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes
ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode
output partition power prefer priority profile qos reservation segment signal sockets-per-node
switches thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid wckey
"""
_MAYBE = "exclusive nice no-kill oom-kill-step propagate resv-ports"
_ALONE = """
contiguous consolidate-segments help hold overcommit oversubscribe quiet reboot spread-job stepmgr
test-only usage use-min-nodes verbose version
"""

_SHORT_OF_SRUN = {
    "E": "preserve-env", "I": "immediate", "K": "kill-on-bad-exit", "T": "threads", "W": "wait",
    "X": "disable-status", "Z": "no-allocate", "l": "label", "r": "relative", "u": "unbuffered",
}  # fmt: skip

SRUN = Table(
    {**_SHORT, **_SHORT_OF_SRUN},
    _VALUE
    + """accel-bind bcast-exclude container-image container-mounts container-name container-save
    container-workdir cpu-bind epilog het-group jobid mpi msg-timeout prolog relative slurmd-debug
    task-epilog task-prolog threads tasks-per-node wait""",
    _MAYBE + " bcast compress immediate overlap kill-on-bad-exit send-libs x11",
    _ALONE
    + """debugger-test disable-status exact external interactive label multi-prog no-allocate
    preserve-env pty quit-on-interrupt unbuffered wait-for-children whole""",
)
SBATCH = Table(
    {**_SHORT, "W": "wait", "a": "array"},
    _VALUE + "array batch export-file kill-on-invalid-dep tasks-per-node wait-all-nodes wrap",
    _MAYBE + " get-user-env",
    _ALONE + "ignore-pbs no-requeue parsable requeue wait",
)

#: What would run something else than was asked for if it were ignored, and why it cannot be done.
REFUSED = {
    "bcast": "copy the program to the hosts: it is there if it is in the workdir",
    "container": "name an image for the whole run: environment: {image: ...}",
    "container-id": "name an image for the whole run: environment: {image: ...}",
    "container-image": "name an image for the whole run: environment: {image: ...}",
    "container-name": "name an image for the whole run: environment: {image: ...}",
    "epilog": "run it behind srun",
    "gid": "every task runs as the user of the run",
    "het-group": "a heterogeneous job is not one run",
    "multi-prog": "give one program, which looks at SLURM_PROCID",
    "prolog": "run it in front of srun",
    "pty": "use `launcher shell RUN`",
    "task-epilog": "run it behind the command: srun sh -c '...'",
    "task-prolog": "run it in front of the command: srun sh -c '...'",
    "test-only": "`launcher run --dry-run` shows what would start",
    "uid": "every task runs as the user of the run",
}
#: What a step obeys.
_OBEYED = """
chdir cpus-per-task error exclude export gpus-per-task input jobid kill-on-bad-exit label nodefile
nodelist nodes ntasks ntasks-per-node tasks-per-node open-mode output quiet relative
"""
#: What asks for nothing that a step of ours lacks, and what srun itself reads for a job alone: in a
#: batch script Slurm ignores it, too.
_HARMLESS = """
account acctg-freq bb bbf begin bcast-exclude cluster-constraint clusters comment compress contiguous
consolidate-segments core-spec cores-per-socket deadline debugger-test delay-boot dependency
disable-status exact exclusive export-file extra extra-node-info hold immediate interactive job-name
licenses mail-type mail-user mcs-label mincpus msg-timeout no-allocate no-kill overcommit overlap
oversubscribe partition power prefer preserve-env priority qos quit-on-interrupt reboot reservation
resv-ports segment send-libs slurmd-debug sockets-per-node spread-job stepmgr switches thread-spec
threads time-min tmp unbuffered use-min-nodes verbose wckey whole
"""
_SILENT = frozenset((_OBEYED + _HARMLESS).split())


def ignored(options: Options) -> List[str]:
    """Return the options of a step that it does not obey, though a task may notice. Raises Wrong."""
    for name, why in REFUSED.items():
        if name in options:
            raise Wrong("--%s cannot be done through launcher: %s" % (name, why))
    return [name for name in options if name not in _SILENT and not _is_met(name, options[name])]


def _is_met(name: str, value: str) -> bool:
    """Return whether a value asks for what every step has."""
    return (name, value) in (("mpi", "none"), ("cpu-bind", "none"), ("mem-bind", "none"))
