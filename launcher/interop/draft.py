"""What every importer builds: a draft that grows while a file is read, and notes what is left out."""

from __future__ import annotations

from ..spec.errors import DocumentError, Unbounded

#: Settings, notes and comparisons that one file may cost: a file of 4 MB could ask for billions.
BUDGET = 150_000


def quoted(word: object) -> str:
    """Quote a file's text for a message: on one line, without control characters, and short."""
    text = str(word)
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Draft:
    """A file being read: errors that name its lines, notes of what is not carried over, a budget."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._notes: dict[str, list[int]] = {}
        self._spent = 0

    def spend(self, line: int, work: int = 1) -> None:
        """Count work. Raises Unbounded when a file asks for more than any honest one would."""
        self._spent += work
        if self._spent > BUDGET:
            raise Unbounded("far too much for a list of hosts", "", self.source, line or 1)

    def error(self, line: int, message: str, hint: str = "") -> DocumentError:
        """Return an error about a line, to be raised."""
        return DocumentError(message, hint, self.source, line)

    def note(self, line: int, message: str) -> None:
        """Note what is not carried over; equal notes become one, with all their lines (0: no line)."""
        self.spend(line)
        lines = self._notes.setdefault(message, [])
        if line and line not in lines[-1:]:
            lines.append(line)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not carried over, in the order of the file, each with its lines."""
        order = sorted(self._notes.items(), key=lambda note: ((note[1] or [0])[0], note[0]))
        return tuple(_with_lines(text, lines) for text, lines in order)


def _with_lines(text: str, lines: list[int]) -> str:
    if not lines:
        return text
    shown = ", ".join(map(str, lines[:6]))
    if len(lines) > 6:
        shown += f" and {len(lines) - 6} more"
    return f"line{'s' if len(lines) > 1 else ''} {shown}: {text}"
