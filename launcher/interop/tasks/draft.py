"""Collect what a foreign task says, and write it as a job file of ours.

A task becomes one command per node (framework ``env``); a task with several kinds of processes
becomes roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...frameworks import get
from ...jobs.job_file import job_name
from ...spec.containers import image
from ...spec.gpu_models import count_text, is_model
from ...spec.host_environment import NONE
from ...spec.inventory import VARIABLE
from ...spec.inventory_writer import comment, scalar
from ..draft import Draft, quoted

_KEYS = (
    "name",
    "workdir",
    "num_nodes",
    "hosts",
    "resources",
    "environment",
    "envs",
    "secrets",
    "max_restarts",
    "time",
    "matrix",
    "sweep",
    "needs",
    "setup",
    "run",
    "roles",
)


class JobDraft(Draft):
    """Keys of a job file found so far; :meth:`text` is the result."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.values: dict[str, Any] = {}
        self.framework = "env"

    def name(self, text: str, line: int) -> None:
        """Set the job's name, reduced to the characters that ours may have."""
        name = re.sub("[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:41]
        try:
            self.values["name"] = job_name(name)
        except ValueError:
            self.note(line, "the name is not carried over: it has no letter or digit to start with")
            return
        if name != text:
            self.note(line, f"the name becomes {name}")

    def variables(self, given: Iterable[tuple[str, str | None, int]]) -> None:
        """Set variables ``(name, value, line)``; those without a value become secrets."""
        envs: dict[str, str] = {}
        for name, value, line in given:
            if not self._may_set(name, line):
                continue
            if value is None:
                self.secret(name)
            else:
                envs[name] = value
        if envs:
            self.values["envs"] = {**self.values.get("envs", {}), **envs}

    def own_variables(self, given: Iterable[tuple[str, str, int]]) -> dict[str, str]:
        """Return the variables that a role may set. Raises DocumentError on an invalid name."""
        return {name: value for name, value, line in given if self._may_set(name, line)}

    def secret(self, name: str) -> None:
        """Add a variable whose value is read from the user's environment."""
        known = self.values.get("secrets", [])
        self.values["secrets"] = [*known, *([] if name in known else [name])]

    def _may_set(self, name: str, line: int) -> bool:
        if not VARIABLE.match(name):
            raise self.error(line, f"{quoted(name)} cannot be the name of a variable")
        if name in get(self.framework).computed:
            self.note(line, f"{name} is left out: launcher computes it for every node")
            return False
        return True

    def gpus(self, each: int, line: int, model: str = "") -> None:
        """Set the GPUs of every node, also of a model; ours count all nodes together."""
        nodes = self.values.get("num_nodes", 1)
        total = each * int(str(nodes))
        self.values["resources"] = {"gpus": total}
        if is_model(model):
            self.values["resources"] = {"gpus": count_text(model, total)}
        elif model:
            self.note(
                line, f"the GPU type ({model[:40]}) is not carried over: choose hosts by name"
            )
        if int(str(nodes)) > 1:
            self.note(
                line, f"gpus counts the GPUs of all nodes together: {each} on each of {nodes} nodes"
            )

    def image(self, text: str, line: int, role: dict[str, Any] | None = None) -> None:
        """Set the container image of the job, or of a role."""
        try:
            name = image(text)
            if "{{" in name or "$" in name:
                raise ValueError("its name holds variables")
        except ValueError as error:
            self.note(line, f"the image is not carried over: {error}"[:150])
            if role is not None:
                role["environment"] = NONE
            return
        (self.values if role is None else role)["environment"] = {"image": name}

    def roles(self, found: Mapping[str, dict[str, Any]]) -> None:
        """Set the roles. The only image that they name is that of the job."""
        named = [role["environment"] for role in found.values() if "environment" in role]
        if named and all(one == named[0] for one in named):
            if named[0] != NONE:
                self.values["environment"] = named[0]
            for role in found.values():
                role.pop("environment", None)
        self.values["roles"] = found

    def command(self, script: str, variables: Mapping[str, str]) -> None:
        """Set the script, preceded by exports of the foreign ``variables`` that it mentions."""
        used = [f"export {k}={v}\n" for k, v in variables.items() if re.search(rf"\b{k}\b", script)]
        self.values["run"] = "".join(used) + script

    def text(self, about: str) -> str:
        """Return the job file. Raises DocumentError if it has no command."""
        roles = self.values.get("roles", {}).values()
        if "run" not in self.values and not (roles and all("run" in role for role in roles)):
            raise self.error(1, "it has no command to run")
        lines = [comment(f"From {self.source} ({about}), by: launcher import")]
        if self.notes:
            lines += ["#", "# Left out, or changed:"]
            lines += [comment(f"  {note}") for note in self.notes]
        about_env = " # runs the command once per node" if self.framework == "env" else ""
        lines += ["", f"framework: {self.framework}{about_env}"]
        for key in _KEYS:
            if key in self.values:
                lines += _entry(key, self.values[key])
        return "\n".join(lines) + "\n"


def _entry(key: object, value: object, margin: str = "") -> list[str]:
    name = f"{margin}{scalar(key)}:"
    if isinstance(value, Mapping):
        inside = [_entry(one, other, f"{margin}  ") for one, other in value.items()]
        return [name, *(line for lines in inside for line in lines)] if value else [f"{name} {{}}"]
    if isinstance(value, list):
        return [f"{name} [{', '.join(map(scalar, value))}]"]
    if isinstance(value, bool):
        return [f"{name} {str(value).lower()}"]
    text = str(value)
    lines = text.rstrip("\n").split("\n")
    plain = all(line.replace("\t", " ").isprintable() for line in lines) and text.strip()
    is_script = key in ("run", "setup")  # how it ends makes no difference
    more = text.endswith("\n\n") and not is_script
    if "\n" not in text or not plain or text[0] in " \n\t" or more:
        return [f"{name} {scalar(value)}"]
    mark = "|" if text.endswith("\n") or is_script else "|-"
    return [f"{name} {mark}", *(f"{margin}  {line}" if line else "" for line in lines)]
