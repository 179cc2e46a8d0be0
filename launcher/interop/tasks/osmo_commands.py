"""Turn the commands of OSMO's tasks into scripts: templates, files, and numbers of the plan."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .draft import JobDraft
from .templates import filled

#: A file of a task: line, path in the container, contents, and path beside the workflow's file.
File = tuple[int, str, str | None, str | None]

#: Flags of commands, by the number of the plan that they repeat.
_FLAGS = {
    "offset": "rank_offset",
    "size": "local_world_size",
    "world_size": "world_size",
    "nnodes": "num_nodes",
    "node_rank": "node_rank",
    "nproc_per_node": "local_world_size",
}
_FLAG = re.compile(
    rf"(?<![\w-])--({'|'.join(_FLAGS)})([= ]\s*)(\d+)(?![\w.:])".replace("_", "[_-]")
)
_SHELLS = ("bash", "sh", "/bin/bash", "/bin/sh", "/usr/bin/bash")


def plain(given: str, values: Mapping[str, str], draft: JobDraft, line: int) -> str:
    """Fill in a text outside of commands with the file's own values."""
    return filled(given, values, draft, line)


def others(codes: str) -> str:
    """Return the exit codes from 1 to 255 not among these: ``11-20`` gives ``1-10,21-255``."""
    taken: set[int] = {0}
    for part in codes.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            taken |= set(range(int(first), min(int(last or first), 255) + 1))
    left = [code for code in range(1, 256) if code not in taken]
    ranges: list[list[int]] = []
    for code in left:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


@dataclass
class GroupCommands:
    """The tasks of a group: our roles' names and resources, by the task's name."""

    draft: JobDraft
    values: Mapping[str, str]
    names: Mapping[str, str]
    shares: Mapping[str, Mapping[str, Any]]
    _shared: dict[str, set[str]] = field(default_factory=dict)

    def find_clashes(self, files: Sequence[tuple[str, Sequence[File]]]) -> None:
        """Remember which paths differ between tasks, which had a disk each."""
        seen: dict[str, set[str]] = {}
        for _, several in files:
            for _, path, contents, _ in several:
                if contents is not None:
                    seen.setdefault(path, set()).add(contents)
        self._shared = seen

    def script(self, name: str, line: int, argv: Sequence[str], files: Sequence[File]) -> str:
        """Return what a role runs: it writes the task's files, then runs its command.

        A file that the command is a shell for becomes the script itself.
        """
        made, script = [], ""
        argv = [filled(word, self.values, self.draft, line, _kept) for word in argv]
        moved = {path: local for _, path, _, local in files if local is not None}
        for _, path, contents, _ in files:
            if contents is not None and len(self._shared[path]) > 1:
                moved[path] = f"{path}.{self.names[name]}"
        for at, path, contents, local in files:
            if local is not None:
                self.draft.note(at, f"{path} is read from {local} in the workdir")
            elif contents is None:
                self.draft.note(at, f"{path} has no contents and is left out")
            elif list(argv[1:]) == [path] and argv[0] in _SHELLS:
                script = "set +e\n" + self._translated(name, at, contents)  # OSMO's shell has no -e
            else:
                where = moved.get(path, path)
                self.draft.note(at, f"{where} is written on the host and not removed")
                made.append(_written(where, self._translated(name, at, contents)))
        if not script:
            script = self._translated(name, line, _command(argv)) + "\n"
        text = "".join(made) + script
        for path, other in moved.items():
            here = other.replace("\\", "\\\\")
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w./-])", here, text)
        return text

    def _translated(self, name: str, line: int, given: str) -> str:
        """Replace OSMO's templates and the plan's numbers in a command by our placeholders."""
        text = filled(given, self.values, self.draft, line, self._ours)

        def flag(match: re.Match[str]) -> str:
            token = _FLAGS[match[1].replace("-", "_")]
            wanted = self._numbers(name)[token]
            if int(match[3]) != wanted:
                self.draft.note(
                    line,
                    f"--{match[1]} {match[3]} stays as it is, although the resources imply {wanted}",
                )
                return match[0]
            return f"--{match[1]}{match[2]}{{{{{token}}}}}"

        return _FLAG.sub(flag, text)

    def _numbers(self, name: str) -> dict[str, int]:
        """Return the numbers that the plan will have, with the tasks in their order."""
        order = list(self.names)
        sizes = {one: max(1, int(self.shares[one].get("gpus", 0))) for one in order}
        at = order.index(name)
        return {
            "rank_offset": sum(sizes[one] for one in order[:at]),
            "local_world_size": sizes[name],
            "world_size": sum(sizes.values()),
            "num_nodes": len(order),
            "node_rank": at,
        }

    def _ours(self, name: str, argument: str | None) -> str | None:
        if name == "output" and argument is None:
            return "{{outputs}}"
        if name == "host" and argument in self.names:
            return f"{{{{host:{self.names[argument or '']}}}}}"
        if name == "input" and argument:
            return f"${{INPUT_{re.sub(r'[^A-Za-z0-9]', '_', argument)}}}"
        if name == "workflow_id":
            return "$LAUNCHER_RUN_ID"
        return None


def _command(argv: Sequence[str]) -> str:
    """Return a command as a line of a shell; of ``bash -c SCRIPT``, the script."""
    if len(argv) == 3 and argv[0] in _SHELLS and argv[1] in ("-c", "-ec", "-lc"):
        return argv[2]
    if len(argv) == 1:
        return argv[0]
    return " ".join(map(_quoted, argv))


def _quoted(word: str) -> str:
    """Quote a word for a shell, with templates in double quotes, as one may become a variable."""
    parts = re.split(r"(\{\{[^{}]*\}\})", word)
    shown = [f'"{p}"' if n % 2 else shlex.quote(p) for n, p in enumerate(parts) if p]
    return "".join(shown) or "''"


def _kept(name: str, argument: str | None) -> str:
    return f"{{{{{name}}}}}" if argument is None else f"{{{{{name}:{argument}}}}}"


def _written(path: str, contents: str) -> str:
    """Return shell code that writes a file."""
    end = "END_OF_FILE"
    while end in contents.split("\n"):
        end += "_"
    folder = f'mkdir -p -- "$(dirname -- {shlex.quote(path)})"\n'
    newline = "" if contents.endswith("\n") else "\n"
    return f"{folder}cat > {shlex.quote(path)} <<'{end}'\n{contents}{newline}{end}\n"
