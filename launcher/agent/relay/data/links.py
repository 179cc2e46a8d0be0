"""Makes the paths by which runs find their data sets."""

from __future__ import annotations

import os

from ...base import manifest, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def link(target: str, place: str) -> None:
    """Make a link, also in the place of another one, without a moment without any."""
    made = "%s.%d.new" % (place, os.getpid())
    os.symlink(target, made)
    try:
        os.rename(made, place)
    except OSError:
        os.unlink(made)
        raise


def link_in_code(files: str, code: str, to: str) -> None:
    """Make a path of the run's code lead to a data set. Raises Refused if something is there."""
    place = os.path.join(code, to)
    parent = os.path.dirname(place)
    inside = os.path.realpath(code) + "/"
    if not (os.path.realpath(parent) + "/").startswith(inside) or not manifest.is_inside(
        os.fsencode(to)
    ):
        raise protocol.Refused("no-path", "%s leads out of the code" % to)
    if os.path.lexists(place) and not (os.path.islink(place) and os.readlink(place) == files):
        raise protocol.Refused("in-the-way", "%s is part of the code" % to)
    os.makedirs(parent, exist_ok=True)
    link(files, place)


def remove_links(place: str) -> None:
    """Remove the absolute paths that lead to a version."""
    try:
        with open(os.path.join(place, "links"), "rb") as file:
            links = file.read().split(b"\0")[:-1]
    except OSError:
        return
    files = os.fsencode(os.path.join(place, "files"))
    for one in links:
        try:
            if os.readlink(one) == files:
                os.unlink(one)
        except OSError:
            pass  # somebody has changed it


def link_absolute(files: str, to: str, user_of: Callable[[str], str]) -> None:
    """Make an absolute path lead to the files of a version. One that leads to another of ours is
    changed, unless ``user_of`` that version names somebody. Raises Refused."""
    place = os.path.dirname(files)
    if os.path.lexists(to) and os.path.realpath(to) == os.path.realpath(files):
        return  # a link to it; or the folder itself, where that is the source
    if os.path.lexists(to):
        old = os.path.dirname(os.readlink(to)) if os.path.islink(to) else ""
        if os.path.basename(old) == os.path.basename(place) and os.path.isdir(to):
            return  # another workdir of this machine has the same set
        if os.path.dirname(old) != os.path.dirname(place):
            raise protocol.Refused("in-the-way", "%s is there already, and is no data set" % to)
        user = user_of(os.path.basename(old))
        if user:
            text = "%s is another version of the data, which %s uses"
            raise protocol.Refused("in-the-way", text % (to, user))
    try:
        os.makedirs(os.path.dirname(to), exist_ok=True)
        link(files, to)
    except OSError as error:
        raise protocol.Refused("no-path", "%s cannot be made: %s" % (to, error.strerror))
    with open(os.path.join(place, "links"), "ab") as file:
        file.write(os.fsencode(to) + b"\0")
