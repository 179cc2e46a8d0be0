"""Modules that a host imports once, ahead of its ranks: ``preload:`` and ``--preload``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..frameworks import BUILTIN, Framework, get
from ..spec.durations import seconds
from ..spec.environments import Environment
from ..spec.errors import InputError
from ..spec.model import Role
from ..spec.yaml_document import YamlNode, texts

#: Seconds for which what was imported may stay, at most.
LONGEST = 86400.0
#: Names of Python modules, with dots; ASCII, as they travel with commas in between.
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Return the modules in texts, each of which may hold several with commas. Raises ValueError."""
    found = [name.strip() for text in given for name in text.split(",")]
    for name in found:
        if not _MODULE.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a Python module")
    return tuple(dict.fromkeys(found))


def read_preload(node: YamlNode) -> tuple[str, ...]:
    """Return the modules that ``preload:`` names. Raises DocumentError."""
    try:
        return names(texts(node))
    except ValueError as error:
        raise node.error(f"preload: {error}", "such as preload: [torch, transformers]") from None


def keep_time(text: str) -> float:
    """Return for how many seconds what was imported stays. Raises ValueError."""
    found = seconds(text)
    if found > LONGEST:
        raise ValueError(f"{text}: a day at most")
    return found


def check_kept(modules: tuple[str, ...], keep: float | None) -> None:
    """Raise InputError if there is nothing to keep for the next run."""
    if keep and not modules:
        raise InputError(
            "--keep-warm: this run imports nothing ahead that could be kept",
            "say what its ranks import, as --preload torch --keep-warm 10m",
        )


def check(
    modules: tuple[str, ...],
    framework: Framework,
    environment: Environment | None,
    roles: Iterable[Role] = (),
) -> None:
    """Raise InputError if ranks of this framework cannot be forked, or not in these environments."""
    own = [role.name for role in roles if role.environment or role.modules]
    if modules and own:
        raise InputError(
            f"--preload {','.join(modules)}: a host imports modules in one environment, and role "
            f"{own[0]} has its own",
            "leave --preload out, or environment: of the roles",
        )
    if modules and environment and environment.image:
        raise InputError(
            f"--preload {','.join(modules)}: ranks in an image are started by its runtime",
            "leave --preload out",
        )
    if not modules or framework.preloads:
        return
    others = ", ".join(name for name in BUILTIN if get(name).preloads)
    raise InputError(
        f"--preload {','.join(modules)}: launcher does not start the ranks of {framework.name} itself",
        f"--framework torch starts the same scripts; --preload works with {others}",
    )
