"""Name the files of the code that look like secrets: they are copied to every host, and stay there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...records.record_files import write_at_home
from ...spec.frozen import frozen
from ...spec.home import home
from ...spec.model import Secret
from .code_snapshot import Source
from .revision import Revision

#: Names of files that hold keys and credentials; templates of them do not.
_NAMES = re.compile(
    r"""\.env(?:\..+|rc)? | .+\.env | .+\.(?:pem|key|p12|pfx|kdbx|jks) | id_[a-z0-9_]+
    | (?:\.?[\w-]+[-_.])?credentials?(?:\.(?:json|ya?ml|toml|ini|csv|txt))?
    | \.netrc | \.pgpass | \.pypirc | \.npmrc | \.htpasswd | kubeconfig
    | (?:.+[-_.])?service[-_]account(?:[-_.].+)?\.json | secrets?\.(?:json|ya?ml|toml|ini|txt)""",
    re.IGNORECASE | re.VERBOSE,
)
_TEMPLATES = (".example", ".sample", ".template", ".dist", ".defaults")
#: Files in which values of the job's secrets are looked for, and the most bytes of one.
_JOB_FILES, _MOST = (".yaml", ".yml"), 1 << 20
#: Shorter values say nothing when they are found.
_SHORTEST = 6
#: What was named before: a file of :func:`home`, with one digest a line, the latest last.
NAMED, MOST_NAMED = "named-secret-files", 1000


def looks_secret(path: str) -> bool:
    """Return whether a path is the usual one of a file with keys or credentials."""
    name = path.rpartition("/")[2]
    return _NAMES.fullmatch(name) is not None and not name.lower().endswith(_TEMPLATES)


@frozen
class SecretFiles:
    """Files that look like secrets: ``copied`` to every host, or ``kept`` in the diff here."""

    copied: tuple[str, ...]
    kept: tuple[str, ...]


def to_name(code: Source, revision: Revision, secrets: Sequence[Secret]) -> SecretFiles | None:
    """Return the files that look like secrets or hold one of the job's; None when there are none, or
    these of this folder were named before."""
    values = [os.fsencode(one.reveal()) for one in secrets if len(one.reveal()) >= _SHORTEST]
    paths = map(os.fsdecode, code.paths)
    copied = tuple(path for path in paths if looks_secret(path) or _holds(code, path, values))
    kept = tuple(filter(looks_secret, revision.changed))
    if any(value in revision.diff for value in values):
        kept = revision.changed
    named = SecretFiles(copied, kept)
    return named if (copied or kept) and is_new(code.folder, named) else None


def _holds(code: Source, path: str, values: Sequence[bytes]) -> bool:
    whole = code.folder / path
    if not values or not path.endswith(_JOB_FILES) or whole.is_symlink():
        return False
    try:
        with whole.open("rb") as file:
            text = file.read(_MOST)
    except OSError:
        return False
    return any(value in text for value in values)


def is_new(folder: Path, named: SecretFiles) -> bool:
    """Return whether these files are named for the first time, and note that they are."""
    text = repr((str(folder), named.copied, named.kept))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    try:
        known = (home() / NAMED).read_text("ascii", "replace").split()[-MOST_NAMED:]
    except OSError:
        known = []
    if digest in known:
        return False
    with suppress(OSError):  # then it is named again
        write_at_home(NAMED, "".join(f"{one}\n" for one in (*known, digest)))
    return True
