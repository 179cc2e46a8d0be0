"""What an importer finds in somebody else's task, and the job file of ours that it makes.

Not responsible for any format. A task becomes a command a node (framework ``env``), as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..frameworks import get
from ..imports.found import Found, quoted
from ..inventory import VARIABLE
from ..job import job_name
from ..written import comment, scalar

_KEYS = ("name", "workdir", "num_nodes", "hosts", "resources", "envs", "secrets", "setup", "run")


class Task(Found):
    """Grows while a file is read; :meth:`text` is the result."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.values: dict[str, str | int | Mapping[str, str | int] | list[str]] = {}

    def name(self, text: str, line: int) -> None:
        """The task's name, or what of it can be a name of ours."""
        name = re.sub("[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:41]
        try:
            self.values["name"] = job_name(name)
        except ValueError:
            self.note(line, "its name is not carried over")
            return
        if name != text:
            self.note(line, f"its name is {name} here")

    def variables(self, given: Iterable[tuple[str, str | None, int]]) -> None:
        """``(name, value, line)``; without a value it comes from the environment here, unseen."""
        envs: dict[str, str | int] = {}
        secrets: list[str] = []
        for name, value, line in given:
            if not VARIABLE.match(name):
                raise self.error(line, f"{quoted(name)} cannot be the name of a variable")
            if name in get("env").computed:
                self.note(line, f"{name} is computed for every node: left out")
            elif value is None:
                secrets.append(name)
            else:
                envs[name] = value
        if envs:
            self.values["envs"] = envs
        if secrets:
            self.values["secrets"] = list(dict.fromkeys(secrets))

    def gpus(self, each: int, line: int) -> None:
        """GPUs of every node; ours are those of all together."""
        nodes = self.values.get("num_nodes", 1)
        self.values["resources"] = {"gpus": each * int(str(nodes))}
        if int(str(nodes)) > 1:
            self.note(line, f"GPUs are counted together here: {each} on each of {nodes} nodes")

    def command(self, script: str, variables: Mapping[str, str]) -> None:
        """The script, after the variables of the other system that it mentions."""
        used = [f"export {k}={v}\n" for k, v in variables.items() if re.search(rf"\b{k}\b", script)]
        self.values["run"] = "".join(used) + script

    def text(self, about: str) -> str:
        """The job file. Raises DocumentError when there is nothing to run."""
        if "run" not in self.values:
            raise self.error(1, "there is nothing to run in it")
        lines = [comment(f"From {self.source} ({about}), by: launcher import")]
        if self.notes:
            lines += ["#", "# Left out, or read in a way to know of:"]
            lines += [comment(f"  {note}") for note in self.notes]
        lines += ["", "framework: env # the command once a node"]
        for key in _KEYS:
            if key in self.values:
                lines += _entry(key, self.values[key])
        return "\n".join(lines) + "\n"


def _entry(key: str, value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}:", *(f"  {scalar(name)}: {scalar(one)}" for name, one in value.items())]
    if isinstance(value, list):
        return [f"{key}: [{', '.join(map(scalar, value))}]"]
    text = str(value)
    lines = text.rstrip("\n").split("\n")
    plain = all(line.replace("\t", " ").isprintable() for line in lines) and text.strip()
    if "\n" not in text or not plain or text[0] in " \n\t":
        return [f"{key}: {scalar(value)}"]
    return [f"{key}: |", *(f"  {line}" if line else "" for line in lines)]
