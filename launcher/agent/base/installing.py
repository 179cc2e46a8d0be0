"""Unpacks files of the agent into its folder on a host, with what this Python compiles of them.

The launcher also sends this file as text, in front of the files of an agent that a host does not have.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

try:
    import _frozen_importlib_external as importing  # importlib.util takes milliseconds
except ImportError:  # another Python than CPython
    MAGIC_NUMBER = b""
else:
    MAGIC_NUMBER = importing.MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What a compiled file begins with: nobody compares it with its source, see PEP 552.
_HEAD = MAGIC_NUMBER + b"\1\0\0\0" + bytes(8)
#: The file in the folder that lists what every run needs, and the one that lists the rest.
FIRST, REST = "files", "rest"


def install(target: str, listed: str, sizes: bytes, packed: bytes) -> None:
    """Put files into the folder ``target``, and last of all the file ``listed``, which has their sizes.

    Of two who do so at once, each puts the same there. Raises OSError, and leaves nothing then.
    """
    scratch, mask = "%s.%s" % (target, os.urandom(8).hex()), os.umask(0o77)
    try:
        names = [listed, *_write(scratch, listed, _files(sizes, packed))]
        try:
            os.rename(scratch, target)
        except OSError:  # a folder is there: it lacks these, or they are damaged
            for name in names[1:] + names[:1]:
                place = os.path.join(target, name)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.replace(os.path.join(scratch, name), place)
    finally:
        os.umask(mask)
        if os.path.lexists(scratch):
            import shutil  # takes longer than all the rest but compiling

            shutil.rmtree(scratch, ignore_errors=True)


def _files(sizes: bytes, packed: bytes) -> Iterator[tuple[str, bytes]]:
    content, start = zlib.decompress(packed), 0
    for line in sizes.decode("ascii").splitlines():
        size, _, name = line.partition(" ")
        yield name, content[start : start + int(size)]
        start += int(size)


def _write(folder: str, listed: str, files: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write files, and the list of them. What a power cut takes of one, its size tells: no fsync."""
    lines, names, made = [], [], set()
    for name, content in files:
        for path, data in ((name, content), *_compiled(name, content)):
            place = os.path.join(folder, path)
            if os.path.dirname(place) not in made:
                os.makedirs(os.path.dirname(place), exist_ok=True)
                made.add(os.path.dirname(place))
            with open(place, "wb") as file:
                file.write(data)
            lines.append("%d %s\n" % (len(data), path))
            names.append(path)
    with open(os.path.join(folder, listed), "w") as file:
        file.write("%d\n%s" % (len(lines), "".join(lines)))
    return names


def _compiled(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield where Python looks for what it has compiled of a module, and that; nothing for what other
    Pythons run, too."""
    tag = sys.implementation.cache_tag
    if MAGIC_NUMBER and tag and name.startswith("agent/") and not name.startswith("agent/inside/"):
        folder, file = os.path.split(name)
        code = compile(content, name, "exec", dont_inherit=True)
        yield "%s/__pycache__/%s.%s.pyc" % (folder, file[:-3], tag), _HEAD + marshal.dumps(code)
