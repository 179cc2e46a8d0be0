"""Look at a file that describes a conda environment, before hosts build one of it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ...spec.errors import InputError
from ...spec.yaml_document import YamlNode, parse, text

#: Most bytes of such a file.
MOST = 1 << 20
#: A requirement of pip that is a folder or a file of this machine, and one that includes a file.
_LOCAL = re.compile(r"(?:-e\b|--editable\b)(?!.*://)|\.\.?(?:/|$)|/|file:|\S+\s*@\s*file:")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar\.\w+|tgz)(?:\s|$)")
_INCLUDES = re.compile(r"(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)")


def check(workdir: Path, named: str) -> None:
    """Raise InputError, with its line, for a file of which hosts could build no environment for all
    runs."""
    root = parse(_content(workdir, named), str(workdir / named))
    keys = {name: node for name, _, node in root.items("a mapping with dependencies:")}
    if "dependencies" not in keys:
        raise root.error(
            f"{named} has no dependencies:, so it describes no environment",
            "dependencies: [python=3.12, numpy]",
        )
    for one in keys["dependencies"].elements("a list of packages"):
        if not isinstance(one.yaml, yaml.MappingNode):
            text(one)
            continue
        for name, key, node in one.items():
            if name != "pip":
                raise key.error(f"unknown installer {name}", "- pip: [...], or a package")
            for line in node.elements("a list of requirements"):
                _check_requirement(workdir, (workdir / named).parent, line)


def _content(workdir: Path, named: str) -> str:
    try:
        with (workdir / named).open("rb") as file:
            content = file.read(MOST + 1)
    except FileNotFoundError:
        raise InputError(
            f"conda: there is no {named} in {workdir}",
            f"conda env export --from-history > {named} writes one",
        ) from None
    except OSError as error:
        raise InputError(f"conda: {named} cannot be read: {error.strerror}") from None
    if len(content) > MOST:
        raise InputError(f"conda: {named} is too large to describe an environment")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(f"conda: {named} is not text in UTF-8") from None


def _check_requirement(workdir: Path, folder: Path, node: YamlNode) -> None:
    line = text(node).strip()
    if included := _INCLUDES.match(line):
        name = included[1]
        if "://" in name:
            return
        if not (folder / name).is_file():
            raise node.error(f"there is no {name} beside it", "its path is relative to this file")
        if not (folder / name).resolve().is_relative_to(workdir.resolve()):
            raise node.error(
                f"{name} is outside of the workdir, which is what hosts get", "move it in there"
            )
    elif _LOCAL.match(line) and not _ARCHIVE.search(line):
        raise node.error(
            f"{line} is a local path, and other runs use the environment, too",
            "leave it out, and set envs: {PYTHONPATH: .} in the job file",
        )
