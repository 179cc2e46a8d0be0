"""Images on hosts, outside of runs: those that launcher knows of, brought and removed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..runner.image_bringing import Given
from ..runner.image_errands import (
    ImagePlace,
    ImageRemoved,
    ImagesThere,
    ImageThere,
    Removals,
    RuntimeTrouble,
)
from ..runner.listeners import OnEvent, ignore_event
from ..runner.policy.images import short_name, stays
from ..spec import containers
from ..spec.environments import Environment
from ..spec.errors import HostError, InputError
from .jobs import with_image_path

__all__ = [
    "Given",
    "HostError",
    "ImagePlace",
    "ImageRemoved",
    "ImageThere",
    "ImagesThere",
    "Removals",
    "RuntimeTrouble",
    "listed",
    "load",
    "remove",
    "short_name",
    "stays",
]


async def listed(place: ImagePlace) -> Mapping[str, ImagesThere | HostError]:
    """Return the images of hosts that runs have used, or that launcher brought."""
    return await place.listed()


async def load(
    place: ImagePlace,
    image: str,
    runtime: str = "",
    mounts: tuple[str, ...] = (),
    on_event: OnEvent = ignore_event,
) -> Given:
    """Bring an image to hosts ahead of a run: a file of this machine, or a name.

    What one host cannot do does not keep the others from it. Raises InputError.
    """
    try:
        wanted = Environment(
            image=containers.image(image),
            runtime=containers.runtime(runtime) if runtime else "",
            mounts=tuple(containers.mount(one) for one in mounts),
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    if containers.is_path(wanted.image):
        wanted = with_image_path(os.getcwd(), wanted)
    return await place.load(wanted, on_event)


async def remove(place: ImagePlace, text: str) -> Mapping[str, Removals | HostError]:
    """Remove an image, by its name or ID, from hosts where nothing uses it. Raises InputError."""
    return await place.remove(text)
