"""What hosts get and give back: code, data, checkpoints, outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ...spec.frozen import frozen
from ..reasons import ShareTrouble
from .event import Event


@frozen
class CodeSynced(Event):
    """A host has the run's own copy of the code, of ``bytes`` bytes; ``copied`` of them travelled."""

    host: str
    version: str
    files: int
    bytes: int
    copied: int
    seconds: float


@frozen
class DataGiven(Event):
    """A host has a version of a data set that the run uses; ``copied`` of its bytes travelled."""

    host: str
    name: str
    version: str
    files: int
    bytes: int
    copied: int
    seconds: float


@frozen
class DataNotPassed(Event):
    """These hosts reach none of the others, and get a data set from this machine or the store itself."""

    name: str
    hosts: tuple[str, ...]


@frozen
class DataTaken(Event):
    """A host copied a version of a data set from another user of it, who shares it there, and compared
    every sum; or did not, because of ``why``."""

    host: str
    name: str
    user: str
    bytes: int
    why: str = ""


@frozen
class CheckpointKept(Event):
    """All files of a checkpoint are where they are kept."""

    number: int
    files: int
    bytes: int
    where: str


@frozen
class CheckpointMissed(Event):
    """A checkpoint could not be kept; it is tried again."""

    why: str


@frozen
class CodeUnreadable(Event):
    """Files or folders of the workdir are not copied, because this user may not read them."""

    paths: tuple[str, ...]


@frozen
class WordsNotCopied(Event):
    """Words of the command are files here that hosts will not have: they are ignored, or outputs, or
    ``outside`` the workdir."""

    paths: tuple[str, ...]
    outside: tuple[str, ...] = ()


@frozen
class ShareTroubled(Event):
    """On a host, a path of a shared folder is not as another host wrote it; for a conflict, ``other`` is
    the host whose version all hosts have now."""

    host: str
    code: ShareTrouble
    path: str
    other: str
    detail: str = ""
    attempt: int = 0


@frozen
class CodeIsLarge(Event):
    """Much is copied to every host: ``largest`` are entries of the workdir, with their bytes."""

    bytes: int
    files: int
    largest: tuple[tuple[str, int], ...] = ()


@frozen
class SecretsCopied(Event):
    """Files of the code that look like secrets go to every host, as ``paths``, or are in the uncommitted
    changes that ``code.diff`` keeps here, as ``kept``. Recorded the first time."""

    paths: tuple[str, ...]
    kept: tuple[str, ...] = ()


@frozen
class ScriptLogWritten(Event):
    """The log of a batch script is in the file of the workdir that its ``#SBATCH`` lines name, or it is
    not, because of a ``problem``."""

    path: str
    problem: str = ""


@frozen
class OutputsGiven(Event):
    """So many hosts got so many ``files`` of the outputs of ``run``, which this run continues; without
    a ``run``, of outputs in the workdir that the command names."""

    run: str
    files: int
    hosts: int


@frozen
class UrlsLeft(Event):
    """A host has so many URLs, good for ``seconds``, by which it stores outputs with no launcher in
    touch. New ones are not recorded."""

    host: str
    seconds: float
    urls: int
    attempt: int = 0


@frozen
class StoredAlone(Event):
    """A host stored its outputs with no launcher in touch; ``missing`` counts files that it could not
    store, and ``problem`` says why it could store none."""

    host: str
    files: int
    bytes: int
    missing: int = 0
    problem: str = ""
    attempt: int = 0


@frozen
class OutputsPulled(Event):
    """Outputs were fetched; ``files`` and ``bytes`` count all that are here now."""

    files: int
    bytes: int
    failed: Mapping[str, str] = field(default_factory=dict)
