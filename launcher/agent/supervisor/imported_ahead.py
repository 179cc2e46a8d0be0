"""What has imported modules ahead of the ranks, and for whom it stays: another attempt, another run.

warm/forking.py is one such Python, and warm/keeper.py keeps it once the run is over. It is decided
here whether to.
"""

from __future__ import annotations

from ..base import protocol
from .environment import early_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..base.lean import Socket
    from ..base.messages import PreloadRequest, SupervisorSpec
    from .children import Children
    from .stacks import StackTaker
    from .warm.forking import Warm
    from .warm.keeper import Keeper

    #: What there is already: a Python, its keeper, and why nothing can be kept.
    Inherited = tuple[Warm | None, Keeper | None, str]

#: Why the processes of an attempt are stopped that another one may follow.
_MAY_GO_ON = (protocol.PROCESS_FAILED, protocol.PREEMPTED)


class ImportedAhead:
    """The Python of one attempt that has imported modules, if there is one."""

    def __init__(
        self,
        spec: SupervisorSpec,
        record: Callable[..., None],
        children: Children,
        there: Inherited,
    ) -> None:
        self.warm, self.keeper, self.no_place = there
        #: It stays for the next attempt, or the next run; known once this attempt is over.
        self.stays = self.keeps = False
        self._record, self._children = record, children
        self._seconds = spec.get("keep") or 0.0  # for which the next run may use it
        self._unlike = spec.get("unlike")  # why nothing that an earlier run has left could be used
        self._may_stay = True
        if self.warm:
            self.warm.serve(record)
            if self.warm not in children.helpers:
                children.helpers.append(self.warm)

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The socket to read from, while modules are imported."""
        return self.warm.readable if self.warm else []

    @property
    def next_look(self) -> float:
        """The moment by which to :meth:`look`."""
        return self.warm.next_look if self.warm else float("inf")

    def heard(self) -> None:
        """Read what it says."""
        if self.warm:
            self.warm.heard()

    def look(self, now: float) -> None:
        """Do what is due."""
        if self.warm:
            self.warm.look(now)

    # -- what happens

    def preload(self, request: PreloadRequest, stacks: StackTaker) -> None:
        """Import modules for the ranks of the next stage, unless those of an attempt before can be used;
        do nothing if that was done before."""
        if self.warm and self.warm.was_asked:
            return
        if not self.warm:
            from .warm.forking import Warm  # most runs preload nothing

            self.warm = Warm(self._record, self.keeper.place if self.keeper else "")
            self._children.helpers.append(self.warm)
        if self._unlike:
            self._record("ImportedAnew", why=self._unlike[0], detail=self._unlike[1][:500])
        process = request["process"]
        env = early_environment(request)
        stacks.prepare(env)
        self.warm.begin(
            request["modules"],
            process["argv"],
            env,
            process["cwd"],
            stacks.wanted,
            request.get("secrets") or {},
        )

    def begun(self, may_stay: bool) -> None:
        """Note that the ranks have started; with ``may_stay``, a launcher may start another attempt."""
        self._may_stay = may_stay
        if not may_stay and not self._seconds:
            self.cool()

    def stopping(self, why: str) -> None:
        """Note why the processes of the attempt are stopped."""
        if why == protocol.RESTARTING:
            self._may_stay = True
        elif why not in _MAY_GO_ON:
            self._may_stay = False

    def cool(self) -> None:
        """End it, if it is there."""
        if self.warm:
            self.warm.close()

    def decide(self, left: list[int], in_touch: bool, was_terminated: bool, returns: bool) -> None:
        """Decide whether it stays now that the attempt is over, and write that down; end it if not.

        With processes ``left`` nothing stays, and nothing for another attempt unless a launcher that
        could start one is ``in_touch``. Of a run that ``returns`` into the queue it is left as it is.
        """
        if returns:
            self.stays = self.keeps = False
            return
        is_kept = self.warm is not None and self.warm.is_kept
        self.stays = self._may_stay and is_kept and in_touch and not left
        self.keeps = False
        if self._seconds and self.warm and self.warm.is_ready and not left and not was_terminated:
            self._decide_to_keep(self.warm)
        if not self.stays and not self.keeps:
            self.cool()

    def _decide_to_keep(self, warm: Warm) -> None:
        why, detail = self._why_not_kept(warm)
        self.keeps = not why
        seconds = self.keeper.seconds if self.keeper and self.keeps else self._seconds
        self._record(
            "KeptWarm", seconds=seconds, kept=self.keeps, why=why or None, detail=detail[:500]
        )

    def _why_not_kept(self, warm: Warm) -> tuple[str, str]:
        """Return why it cannot stay for another run, a code and a detail; "" where nothing hinders it:
        then all is open that it takes."""
        if not self.keeper:
            return ("no-place", self.no_place) if self.no_place else ("alone", "")
        # In a scope of its own a process has the limits of one run: see login_session.py.
        if self._children.owned.scope.pids:
            return "scope", ""
        try:
            if self.keeper.is_too_old(warm):
                return "too-old", ""
            self.keeper.open(warm, self._seconds)
        except OSError as error:
            return "no-place", error.strerror or str(error)
        return "", ""
