"""What is there before ranks start: environments, images, modules that are imported ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ...spec.frozen import frozen
from ..reasons import Cold, NotKept
from .event import Event


@frozen
class Preloaded(Event):
    """A host has imported modules ahead of its ranks, in so many seconds; or ``problem`` is why not.

    ``kept``: an attempt before, or a run, had imported them; these seconds were for a look at that.
    """

    host: str
    seconds: float
    problem: Cold | None = None
    detail: str = ""
    attempt: int = 0
    kept: bool = False


@frozen
class KeptWarm(Event):
    """What a host has imported stays there for so many seconds once the run is over, from when no other
    attempt follows; not if it is not ``kept``, and ``why`` says why."""

    host: str
    seconds: float
    kept: bool = True
    attempt: int = 0
    why: NotKept | None = None
    detail: str = ""


@frozen
class ImportedAnew(Event):
    """A host could not use what it had imported for the attempt or the run before: it imports everything
    again."""

    host: str
    why: Cold
    detail: str = ""
    attempt: int = 0


@frozen
class StartedCold(Event):
    """A rank was not forked from the Python that has imported modules on its host: it started alone."""

    host: str
    why: Cold
    detail: str = ""
    attempt: int = 0


@frozen
class EnvironmentBuilding(Event):
    """Hosts that build the run's environment, or wait for it or for its wheels; what ``host`` said last.
    So far ``done`` bytes of wheels were moved in ``seconds``, of ``total`` where that is known (0:
    neither)."""

    hosts: tuple[str, ...]
    host: str
    said: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0


@frozen
class WheelsFetched(Event):
    """This machine has the wheels for hosts of one kind; ``fetched`` of their ``bytes`` came now."""

    wheels: int
    bytes: int
    fetched: int
    seconds: float


@frozen
class WheelsGiven(Event):
    """These hosts have the wheels of which they build, ``bytes`` each; ``copied`` bytes travelled."""

    hosts: tuple[str, ...]
    wheels: int
    bytes: int
    copied: int
    seconds: float


@frozen
class EnvironmentBuilt(Event):
    """All ``hosts`` have the run's environment; ``built`` of them had to build it."""

    hosts: int
    built: int
    seconds: float


@frozen
class ImageBringing(Event):
    """Hosts that pull, load, save or try the run's image, or wait for one; what ``host`` said last. So
    far ``done`` bytes were moved in ``seconds``, of ``total`` where that is known (0: neither)."""

    hosts: tuple[str, ...]
    host: str
    said: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0


@frozen
class ImageContext(Event):
    """Much may be copied by the build of an image: ``largest`` are entries of the folder, with their
    bytes. With a ``host``, all of it is sent there."""

    bytes: int
    files: int
    largest: tuple[tuple[str, int], ...] = ()
    host: str = ""


@frozen
class SecretsInImage(Event):
    """Files that look like secrets may be copied by the build of an image. Recorded the first time."""

    paths: tuple[str, ...]


@frozen
class ImageBuilding(Event):
    """The image is built ``on`` this machine or a host, which begins the next ``step``."""

    on: str
    step: str


@frozen
class ImageBuilt(Event):
    """The image was built ``on`` this machine or a host."""

    image: str
    id: str
    on: str
    runtime: str
    seconds: float


@frozen
class ImageUnchanged(Event):
    """Nothing of which the image is built has changed since it was ``built``; ``moved`` are names of
    images that it began from, and that mean others by now."""

    image: str
    id: str
    built: float
    moved: tuple[str, ...] = ()


@frozen
class ImageNotBuilt(Event):
    """The build of the image has failed; ``lines`` are the last of its log."""

    image: str
    on: str
    lines: tuple[str, ...]


@frozen
class ImageGiven(Event):
    """All hosts have the run's image, or that of some ``roles``; ``brought`` names those that lacked it.
    ``runtimes`` is what starts it, by host; an image that is a folder has no ``id``. Hosts of several
    kinds have one each: ``ids`` by kind."""

    image: str
    id: str
    runtimes: Mapping[str, str]
    brought: tuple[str, ...]
    seconds: float
    ids: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
