"""``#SBATCH --signal``: a signal some time before the run is over, for the script or all tasks.

Source: --signal and SBATCH_SIGNAL in sbatch(1).
"""

from __future__ import annotations

import os
import re

from ..base.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The variable with what the script asks for.
VARIABLE = "SBATCH_SIGNAL"
#: Seconds before the end, where none are named.
USUAL = 60.0
#: What srun passes on to its tasks.
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)


class Wanted:
    """A signal so many seconds before the end, for the script alone or for all tasks of its steps."""

    def __init__(self, name: str, number: int, seconds: float, to_script: bool) -> None:
        self.name, self.number, self.seconds, self.to_script = name, number, seconds, to_script


def wanted(env: Mapping[str, str]) -> Wanted | None:
    """Return what ``[R][B][:]USR1[@60]`` of a script's variables asks for, if anything can."""
    match = re.match(
        r"(?:([RB]{1,2}):)?(?:SIG)?([A-Z][A-Z0-9]*|[0-9]{1,2})(?:@([0-9]{1,5}))?\Z",
        env.get(VARIABLE, "").upper(),
    )
    if not match:
        return None
    letters, name, seconds = match.groups()
    number = int(name) if name.isdigit() else getattr(signal, "SIG" + name, 0)
    if not 0 < number < signal.NSIG:
        return None
    return Wanted(name, number, float(seconds or USUAL), "B" in (letters or ""))


def caught() -> int:
    """Catch what tasks are to get; return a descriptor from which the numbers can be read."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in PASSED_ON:
        signal.signal(number, lambda *_: None)
    return reader
