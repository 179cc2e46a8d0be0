"""Reads ``data:`` of a job file, and ``--data``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from ..spec import credentials, data
from ..spec.data import DataSet
from ..spec.errors import InputError
from ..spec.yaml_document import TEXT, TEXTS, Key, YamlNode, checked, read, text, texts
from ..spec.yaml_document import schema as mapping_schema

_SET: Mapping[str, Key] = {
    "from": Key(
        checked(data.source),
        TEXT,
        "Where it comes from: a folder here or on a host (gpu3:/path), s3://bucket/path, "
        "gs://bucket/path, az://container/path, https://host/file, or file:///path, a folder that all "
        "hosts have (default: as added by name)",
    ),
    "to": Key(
        checked(data.to), TEXT, "Where a run finds it: a path of its code, or an absolute one"
    ),
    "credential": Key(
        credentials.read_name,
        TEXT,
        "Name of the credential for its store, as `launcher credential` keeps it",
    ),
}
#: What a key is called where it is no field of a data set.
_FIELDS = {"from": "source"}
SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        *TEXTS["oneOf"],
        {
            "type": "object",
            "additionalProperties": {"oneOf": [TEXT, mapping_schema(_SET), {"type": "null"}]},
        },
    ]
}


def read_sets(node: YamlNode) -> tuple[DataSet, ...]:
    """Return the data sets of a job: names of known ones, or a mapping of names to sources."""
    if not isinstance(node.yaml, yaml.MappingNode):
        return tuple(DataSet(_named(node, one)) for one in texts(node))
    found = tuple(_read(_named(key, name), value) for name, key, value in node.items())
    try:
        data.check(found)
    except InputError as error:
        raise node.error(error.message, error.hint) from None
    return found


def _named(node: YamlNode, name: str) -> str:
    try:
        return data.name(name)
    except ValueError as error:
        raise node.error(str(error)) from None


def _read(name: str, node: YamlNode) -> DataSet:
    if node.is_empty():
        return DataSet(name)
    if isinstance(node.yaml, yaml.ScalarNode):
        try:
            return DataSet(name, data.source(text(node)))
        except ValueError as error:
            raise node.error(f"{name}: {error}") from None
    values = read(node, _SET, f"data.{name}")
    one = DataSet(name, **{_FIELDS.get(key, key): value for key, value in values.items()})
    if one.credential and one.source and not one.is_in_store:
        raise node.error(f"data.{name}: {credentials.NO_STORE}", credentials.LEAVE_OUT)
    return one


def of_flags(words: Iterable[str]) -> tuple[DataSet, ...]:
    """Return the data sets of ``--data``. Raises InputError."""
    found: dict[str, DataSet] = {}
    for word in words:
        try:
            one = data.from_words(word)
        except ValueError as error:
            raise InputError(
                f"--data {data.shown(word)}: {error}", "NAME=SOURCE, or NAME=SOURCE:TO"
            ) from None
        if one.name in found:
            raise InputError(
                f"--data {data.shown(word)}: {one.name} is given twice",
                "give each set its own name",
            )
        found[one.name] = one
    return tuple(found.values())


def with_credentials(sets: Iterable[DataSet], words: Iterable[str]) -> tuple[DataSet, ...]:
    """Return the data sets of ``--data`` with what ``--data-credential`` says: the credential of a set
    by its name, or of all whose source is in a store. Raises InputError."""
    found = {one.name: one for one in sets}
    for word in words:
        name, equals, credential = word.rpartition("=")
        try:
            credential = credentials.name(credential)
            in_store = [one.name for one in found.values() if one.is_in_store]
            chosen = [data.name(name)] if equals else in_store
        except ValueError as error:
            raise InputError(f"--data-credential {word}: {error}", "[NAME=]CREDENTIAL") from None
        if not chosen:
            raise InputError(
                f"--data-credential {credential}: no --data is in a store",
                "--data NAME=s3://BUCKET/PATH",
            )
        for one in chosen:
            before = found.get(one, DataSet(one))
            if before.source and not before.is_in_store:
                raise InputError(f"--data-credential {word}: {credentials.NO_STORE}")
            found[one] = replace(before, credential=credential)
    return tuple(found.values())


def merged(lower: Iterable[DataSet], higher: Iterable[DataSet]) -> tuple[DataSet, ...]:
    """Return the sets of two layers; of one in both, the higher one says what it says."""
    found = {one.name: one for one in lower}
    for one in higher:
        below = found.get(one.name, one)
        both = DataSet(
            one.name,
            one.source or below.source,
            one.to or below.to,
            one.credential or below.credential,
        )
        is_of_below = both.credential and not one.credential and not both.is_in_store
        found[one.name] = replace(both, credential="") if is_of_below and one.source else both
    data.check(found.values())
    return tuple(found.values())
