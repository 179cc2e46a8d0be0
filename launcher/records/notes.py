"""What a person notes about a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..spec.errors import InputError
from ..spec.frozen import frozen

#: In the folder of the run.
FILE = "notes.json"


@frozen
class Notes:
    """Tags to find a run by, and a text."""

    tags: tuple[str, ...] = ()
    note: str = ""

    def changed(
        self, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None
    ) -> Notes:
        """Return the notes with tags added and removed, and another text. Raises InputError."""
        add, remove = list(add), set(remove)
        for tag in add:
            if (
                not tag
                or not tag.isprintable()
                or any(sign in tag for sign in ", ")
                or tag[0] == "-"
            ):
                raise InputError(f"{tag!r} cannot be a tag", "a tag is one word without commas")
        if missing := sorted(remove - set(self.tags)):
            raise InputError(
                f"the run has no tag {missing[0]}", ", ".join(self.tags) or "it has none"
            )
        kept = (tag for tag in (*self.tags, *add) if tag not in remove)
        return Notes(tuple(dict.fromkeys(kept)), self.note if note is None else note)
