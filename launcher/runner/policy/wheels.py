"""Which wheels a host needs, of what a lock lists for all kinds of them. Pure.

uv resolves, and writes what it has found as a ``pylock.toml`` (PEP 751); ``packaging`` chooses from it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ...spec.errors import NoEnvironment, WheelsNotFetched
from ...spec.frozen import frozen
from ...transport.answers.environments import WantedWheels

if TYPE_CHECKING:
    from packaging.pylock import Package, Pylock
    from packaging.tags import Tag

#: The oldest glibc for which there are wheels; and those that uv knows by a name of their own.
OLDEST, OLDEST_X86 = 17, 5
_NAMED = (17, 28, *range(31, 41))
#: What musl wheels are for.
_MUSL = (2, 1, 0)
#: What wheels were called before they had the version of glibc in their names.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_FILE = re.compile(r"[\w.+!-]+\.whl\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
#: Kinds of wheels that an error names.
MOST_KINDS = 3


@frozen
class Wheel:
    """A wheel: where it is, and its bytes (None: not known) and sums, by their kind, as far as the lock
    says them. ``index`` is the one that lists it, "" if that is not known."""

    package: str
    version: str
    file: str
    source: str
    size: int | None = None
    sums: Mapping[str, str] = field(default_factory=dict)
    index: str = ""

    @property
    def sha256(self) -> str:
        """Its sha256; "" if the lock has none."""
        return self.sums.get("sha256", "")


def key(wanted: WantedWheels, origin: str) -> str:
    """Return what tells a set of wheels from others: equal for hosts that need the same. ``origin`` is
    what decides beside the text where they come from; see ``uv_settings``."""
    about = (wanted.sum, origin, wanted.is_lock, wanted.implementation, wanted.abi, wanted.machine)
    glibc = _glibc(wanted)
    told = "\0".join(map(str, (*about, wanted.python, glibc)))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def described(wanted: WantedWheels) -> str:
    """Return ``Python 3.11.7 on x86_64 with glibc 2.36``."""
    glibc = _glibc(wanted)
    name = "Python" if wanted.implementation == "cpython" else wanted.implementation
    return (
        f"{name} {wanted.python} on {wanted.machine} with {f'glibc 2.{glibc}' if glibc else 'musl'}"
    )


def _glibc(wanted: WantedWheels) -> int:
    """Return the minor version of glibc, 0 for musl."""
    found = re.match(r"glibc 2\.(\d+)", wanted.libc)
    return int(found[1]) if found else 0


def platform(host: str, wanted: WantedWheels) -> str:
    """Return what uv calls the kind of a host, the newest that it knows and that runs there. Raises
    NoEnvironment for a kind that it does not know."""
    glibc = _glibc(wanted)
    fitting = [minor for minor in _NAMED if minor <= glibc]
    if wanted.machine in ("x86_64", "aarch64"):
        if not glibc:
            return f"{wanted.machine}-unknown-linux-musl"
        if fitting:
            return f"{wanted.machine}-manylinux_2_{fitting[-1]}"
    elif wanted.machine == "riscv64" and glibc:
        return "riscv64-unknown-linux"
    raise NoEnvironment(
        host,
        f"uv finds no wheels of requirements for {described(wanted)}: it does not know such hosts",
        "a lock is for all of them: uv lock, in a project; or a folder of wheels: --wheels DIR",
    )


def tags(wanted: WantedWheels) -> Iterator[Tag]:
    """Yield the tags of wheels that fit a host, best first."""
    from packaging.tags import compatible_tags, cpython_tags

    version = tuple(int(part) for part in re.findall(r"\d+", wanted.python)[:2])
    platforms = list(_platforms(wanted))
    yield from cpython_tags(version, [wanted.abi], platforms)
    interpreter = "cp{}{}".format(*version)
    yield from compatible_tags(version, interpreter, platforms)


def _platforms(wanted: WantedWheels) -> Iterator[str]:
    machine, glibc = wanted.machine, _glibc(wanted)
    if not glibc:
        yield from (f"musllinux_1_{minor}_{machine}" for minor in _MUSL)
    oldest = OLDEST_X86 if machine in ("x86_64", "i686") else OLDEST
    for minor in range(glibc, oldest - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if legacy := _LEGACY.get(minor):
            yield f"{legacy}_{machine}"
    yield f"linux_{machine}"


def markers(wanted: WantedWheels) -> dict[str, str]:
    """Return what markers of requirements see of a host."""
    is_cpython = wanted.implementation == "cpython"
    return {
        "implementation_name": wanted.implementation,
        "implementation_version": wanted.python,
        "os_name": "posix",
        "platform_machine": wanted.machine,
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": wanted.python,
        "platform_python_implementation": "CPython" if is_cpython else wanted.implementation,
        "python_version": ".".join(wanted.python.split(".")[:2]),
        "sys_platform": "linux",
    }


def require_cpython(host: str, wanted: WantedWheels) -> None:
    """Raise NoEnvironment for another Python than CPython: its wheels are called otherwise."""
    if wanted.implementation != "cpython":
        raise NoEnvironment(
            host,
            f"wheels are fetched for CPython, and it has {wanted.implementation}",
            "python: (--python) names another one there; or a folder of wheels: --wheels DIR",
        )


def chosen(lock: Mapping[str, Any], host: str, wanted: WantedWheels, recipe: str) -> list[Wheel]:
    """Return the wheels for a host, of those in a ``pylock.toml``; ``recipe`` is what people call it.

    Raises NoEnvironment where a host needs what there is not, WheelsNotFetched for what is no lock.
    """
    from packaging.pylock import Pylock, PylockSelectError, PylockValidationError

    try:
        found = Pylock.from_dict(_read(lock))
    except PylockValidationError as error:
        raise WheelsNotFetched(
            f"what uv says of {recipe} cannot be read: {error}",
            "pip install --upgrade uv packaging on this machine",
        ) from None
    if found.requires_python and not found.requires_python.contains(
        wanted.python, prereleases=True
    ):
        raise NoEnvironment(
            host,
            f"{recipe} is for Python {found.requires_python}, and it has {wanted.python}",
            "python: (--python python3.12) names another one there; or choose hosts: --hosts NAMES",
        )
    try:
        return list(_wheels(found, host, wanted, recipe))
    except PylockSelectError as error:
        named = re.search(r"No wheel found .* for package '([^']+)'", str(error))
        if not named:
            raise NoEnvironment(host, f"{recipe} does not fit: {error}", _LOCKED) from None
        package = next(one for one in found.packages if one.name == named[1])
        raise _no_wheel(host, wanted, package, False) from None


def _read(lock: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lock without what has an odd name, for which all of it would be refused: sources, which
    nobody builds, and wheels of another age."""
    packages = []
    for one in lock.get("packages", ()):
        listed = [wheel for wheel in one.get("wheels", ()) if _is_wheel(wheel)]
        package = {name: value for name, value in one.items() if name not in ("wheels", "sdist")}
        if listed:
            package["wheels"] = listed
        elif "sdist" in one or "wheels" in one:
            name = f"{str(one['name']).replace('-', '_')}-{one.get('version', 0)}.tar.gz"
            package["sdist"] = {"path": name, "hashes": {"sha256": "0" * 64}}
        packages.append(package)
    return {**lock, "packages": packages}


def _is_wheel(wheel: Mapping[str, Any]) -> bool:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    place = str(wheel.get("name") or wheel.get("url") or wheel.get("path") or "")
    file = unquote(place.rpartition("/")[2])
    try:
        parse_wheel_filename(file)
    except InvalidWheelFilename:
        return False
    return _FILE.match(file) is not None


_LOCKED = "uv lock brings a lock up to date; or choose hosts: --hosts NAMES"


def _wheels(lock: Pylock, host: str, wanted: WantedWheels, recipe: str) -> Iterator[Wheel]:
    from packaging.pylock import PackageArchive, PackageWheel
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    for package, source in lock.select(environment=markers(wanted), tags=list(tags(wanted))):  # type: ignore[arg-type]
        if not isinstance(source, PackageWheel | PackageArchive):
            raise _no_wheel(host, wanted, package, package.sdist is not None)
        place = source.url or source.path or ""
        file = unquote(place.rpartition("/")[2].partition("#")[0].partition("?")[0])
        if isinstance(source, PackageWheel):
            file = unquote(source.filename)
        try:
            name, version, _, _ = parse_wheel_filename(file)
        except InvalidWheelFilename:
            file = ""
        if not _FILE.match(file):
            raise _no_wheel(host, wanted, package, True) from None
        sums = {kind: value.lower() for kind, value in source.hashes.items()}
        if not _SHA256.match(sums.get("sha256", "0" * 64)):  # it becomes the name of a file
            raise WheelsNotFetched(
                f"{file} has a sha256 in {recipe} that is none: {sums['sha256'][:80]!r}", _LOCKED
            )
        yield Wheel(name, str(version), file, place, source.size, sums, package.index or "")


def _no_wheel(host: str, wanted: WantedWheels, package: Package, has_source: bool) -> NoEnvironment:
    name = f"{package.name} {package.version}" if package.version else str(package.name)
    kinds = dict.fromkeys(_kind(wheel.filename) for wheel in package.wheels or ())
    there = ", ".join(list(kinds)[:MOST_KINDS])
    more = ", ..." if len(kinds) > MOST_KINDS else ""
    others = f": there are those for {there}{more}" if there else ""
    if has_source and not there:
        others = ": there is its source alone"
    return NoEnvironment(
        host,
        f"{name} has no wheel for {described(wanted)}{others}",
        f"take a version that has one; or build it on a host of that kind (pip wheel --no-deps "
        f"{package.name}), and name the folder: --find-links in requirements, find-links in [tool.uv]",
    )


def _kind(file: str) -> str:
    """Return ``cp312 manylinux_2_28_x86_64`` of a wheel."""
    parts = file.removesuffix(".whl").split("-")
    return f"{parts[-3]} {parts[-1].split('.')[0]}" if len(parts) >= 5 else file


def listed(wheels: Mapping[str, Wheel]) -> str:
    """Return requirements for wheels by their sha256, as pip and uv install them."""
    lines = (
        f"{one.package}=={one.version} --hash=sha256:{digest}\n" for digest, one in wheels.items()
    )
    return "".join(sorted(lines))
