"""Recipes: ``name``, ``nodes`` and ``command``, each on a line such as ``nodes: 2``."""

from launcher.api.plugins import JobDraft, TaskFormat, Text


def read(text: Text, draft: JobDraft) -> None:
    """Read every line, and note what is not carried over."""
    for number, line in text.lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "name":
            draft.name(value, number)
        elif key == "nodes":
            if not value.isdecimal():
                raise draft.error(number, f"nodes: {value!r} is not a number", "nodes: 2")
            draft.values["num_nodes"] = int(value)
        elif key == "command":
            draft.command(value, {})
        else:
            draft.note(number, f"{key} is not carried over")


RECIPE = TaskFormat("recipe", read, is_yaml=False)
