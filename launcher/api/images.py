"""Images on hosts, outside of runs: those that launcher knows of, brought and removed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..runner.images.bringing import Given
from ..runner.images.errands import (
    BuiltImage,
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
from ..spec.frozen import frozen
from .environment_paths import with_local_image

__all__ = [
    "BuiltImage",
    "Given",
    "HostError",
    "ImagePlace",
    "ImageRemoved",
    "ImageThere",
    "ImagesThere",
    "Recipe",
    "Removals",
    "RuntimeTrouble",
    "build",
    "listed",
    "load",
    "push",
    "remove",
    "short_name",
    "stays",
]


@frozen
class Recipe:
    """What an image is built of: the path of a Dockerfile or its folder, and what the build is told."""

    path: str
    tag: str = ""
    pull: bool = False
    arguments: tuple[str, ...] = ()
    context: str = ""
    mounts: tuple[str, ...] = ()


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
    return await place.load(_wanted(image, runtime, mounts), on_event)


async def push(
    place: ImagePlace,
    image: str,
    runtime: str = "",
    mounts: tuple[str, ...] = (),
    on_event: OnEvent = ignore_event,
) -> tuple[Given, str]:
    """Bring an image, by its name, to hosts as this machine has it, or else as the first of the hosts
    does that has it. Return who has it, and the host that it came from, "" for this machine.

    No registry is asked. What one host cannot do does not keep the others from it. Raises InputError.
    """
    wanted = _wanted(image, runtime, mounts)
    if containers.is_path(wanted.image):
        do = "build" if wanted.is_built else "load"
        raise InputError(
            f"{image} is a path, and push takes the name of an image that is somewhere",
            f"launcher image {do} {image}",
        )
    return await place.push(wanted, on_event)


async def build(
    place: ImagePlace, recipe: Recipe, runtime: str = "", on_event: OnEvent = ignore_event
) -> BuiltImage:
    """Build an image of a Dockerfile of this machine, and bring it to hosts. Raises InputError,
    ImageNotBuilt."""
    found = _wanted(recipe.path, runtime, recipe.mounts, recipe.arguments, recipe.context)
    if not found.is_built:
        raise InputError(
            f"{recipe.path} is neither a Dockerfile nor a folder with one",
            "launcher image build ., or ./docker/Dockerfile; launcher image load brings an image",
        )
    tag = recipe.tag
    try:
        tag = tag and containers.build_name(tag)
    except ValueError as error:
        raise InputError(f"--tag: {error}") from None
    return await place.build(found, on_event, pull=recipe.pull, tag=tag)


def _wanted(
    image: str,
    runtime: str,
    mounts: tuple[str, ...],
    arguments: tuple[str, ...] = (),
    context: str = "",
) -> Environment:
    try:
        wanted = Environment(
            image=containers.image(image),
            runtime=containers.runtime(runtime) if runtime else "",
            mounts=tuple(containers.mount(one) for one in mounts),
            build_args=tuple(containers.build_argument(one) for one in arguments),
            context=context and containers.build_context(context),
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return with_local_image(os.getcwd(), wanted)


async def remove(place: ImagePlace, text: str) -> Mapping[str, Removals | HostError]:
    """Remove an image, by its name or ID, from hosts where nothing uses it. Raises InputError."""
    return await place.remove(text)
