"""Modules that a pickled function needs on its ranks, and those of them that stay on this machine."""

from __future__ import annotations

import json
import os
import pickletools
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: How cloudpickle imports a module that a function names.
_IMPORTS = ("cloudpickle.cloudpickle", "subimport")


def named(pickle: bytes) -> set[str]:
    """Return the modules that loading a pickle imports."""
    found: set[str] = set()
    memo: list[object] = []
    last: object = None  # what is on top of the stack: a text, or a global as its module and name
    before: object = None  # what is below that
    for code, given, _ in pickletools.genops(pickle):
        if code.name == "MEMOIZE":
            memo.append(last)
            continue
        here: object = None
        if "UNICODE" in code.name:
            here = given
        elif code.name in ("BINGET", "LONG_BINGET"):
            here = memo[int(str(given))]
        elif code.name == "STACK_GLOBAL":
            here = (before, last)
            found.add(str(before))
        if last == _IMPORTS:
            found.add(str(here))
        before, last = last, here
    return found


def kept_here(pickle: bytes, workdir: Path) -> dict[str, Path]:
    """Return the modules that loading a pickle imports and that no host would have, with their files:
    code of this machine that is outside the workdir, and that nobody has installed."""
    found = {name: file for name in named(pickle) if (file := _own_file(name, workdir))}
    if not found:
        return found
    installed = [*_editable(), *_of_path_files()]
    return {
        name: file
        for name, file in found.items()
        if not any(file.is_relative_to(place) for place in installed)
    }


def packages() -> list[str]:
    """Return the folders of the standard library and of installed packages."""
    known = sysconfig.get_paths()
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [known["stdlib"], known["platstdlib"], known["purelib"], known["platlib"], *user]


def _own_file(name: str, workdir: Path) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    travels = name == "__main__" or name.partition(".")[0] == "cloudpickle"
    if travels or not isinstance(file, str):
        return None
    path = Path(os.path.realpath(file))
    elsewhere = [*packages(), *site.getsitepackages(), sys.prefix, sys.base_prefix]
    is_known = any(
        path.is_relative_to(os.path.realpath(place)) for place in [str(workdir), *elsewhere]
    )
    return None if is_known or not path.exists() else path


def _editable() -> Iterator[str]:
    """Yield the folders of packages that are installed where they are: hosts may have them, too."""
    for one in metadata.distributions():
        try:
            about = json.loads(one.read_text("direct_url.json") or "{}")
            if about.get("dir_info", {}).get("editable"):
                yield os.path.realpath(unquote(urlsplit(about["url"]).path))
        except (OSError, ValueError, KeyError, AttributeError):
            continue


def _of_path_files() -> Iterator[str]:
    """Yield the folders that files of site-packages add to the search path."""
    for folder in {*packages(), *site.getsitepackages()}:
        for file in Path(folder).glob("*.pth"):
            try:
                lines = file.read_text("utf-8", "replace").splitlines()
            except OSError:
                continue
            places = (os.path.join(folder, line.strip()) for line in lines if line.strip())
            yield from (os.path.realpath(place) for place in places if os.path.isdir(place))
