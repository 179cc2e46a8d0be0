"""What is asked of a Python that imports modules ahead of ranks: compared where it is kept. Pure."""

from __future__ import annotations

import posixpath

from . import places, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes of the argument of a helper that is kept, in which ranks show theirs.
NOTE = 512


class Asked:
    """What is asked of a helper: modules, and a rank's command, variables and folder."""

    def __init__(
        self, modules: Sequence[str], argv: list[str], env: dict[str, str], cwd: str, stacks: bool
    ) -> None:
        self.modules, self.argv, self.cwd, self.stacks = list(modules), argv, cwd, stacks
        self.env = env

    def unlike(self, other: Asked, run: rules.OfRun | None) -> tuple[str, str] | None:
        """Return why a helper for this is none for the ``other``, of a ``run`` where it is kept."""
        if self.modules != other.modules:
            return "other-modules", ",".join(self.modules)
        if (self.cwd, self.stacks) != (other.cwd, other.stacks):
            return "other-command", ""
        return rules.hindrance(self.argv, self.env, other.argv, other.env, None, run)


def asked_of(
    modules: Sequence[str],
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    stacks: bool,
    run: rules.OfRun | None,
) -> Asked:
    """Return what is asked of a helper; of one that is kept, without what is the run's."""
    if run:
        cwd = posixpath.join(run.place, places.CODE)
        known = rules.command(argv)
        argv = known[0] + known[1] if known else argv[:1]  # no arguments
    return Asked(modules, argv, rules.shared(env, run), cwd, stacks)


def note(text: str) -> str:
    """Return the argument by which ps(1) shows what a helper that is kept is there for."""
    return ("(launcher %s)" % text).ljust(NOTE)[:NOTE]
