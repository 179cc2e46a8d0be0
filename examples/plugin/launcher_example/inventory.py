"""Inventories in CSV: a head with ``host``, and any of ``address``, ``user``, ``port`` and ``gpus``."""

import csv

from launcher.api.plugins import InventoryDraft, InventoryFormat, Text

_SETTINGS = ("address", "user", "port", "gpus")


def recognise(text: Text) -> bool:
    """Return whether it is a table of hosts."""
    return text.content.partition("\n")[0].split(",")[0].strip() == "host"


def read(text: Text, draft: InventoryDraft) -> None:
    """Read every row. The draft checks values, and raises errors that name file and line."""
    rows = csv.DictReader(text.content.splitlines())
    for name in set(rows.fieldnames or ()) - {"host", *_SETTINGS}:
        draft.note(1, f"the column {name} is not carried over")
    for row in rows:
        name = draft.host(row["host"] or "", rows.line_num)
        for setting in _SETTINGS:
            if value := row.get(setting):
                draft.give(name, setting, value, rows.line_num)


CSV = InventoryFormat("table of hosts", recognise, read)
