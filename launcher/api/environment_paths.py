"""Looks at the files on this machine that say what an environment is made of."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..spec import containers
from ..spec.environments import Environment
from ..spec.errors import InputError
from ..spec.files import read_text


def with_local_image(workdir: str, environment: Environment) -> Environment:
    """Return an environment whose image, if it is named by a path, is named by a whole one. Raises
    InputError."""
    is_here = containers.is_path(environment.image)
    return _with_image_path(workdir, environment) if is_here else environment


def _with_image_path(workdir: str, environment: Environment) -> Environment:
    """Return an environment whose image is named by a whole path: of this machine, or of the hosts.

    Raises InputError for a path of this machine where nothing is.
    """
    image = os.path.expanduser(environment.image)
    path = os.path.normpath(os.path.join(workdir, image))
    if os.path.isdir(path):
        path = _recipe_in(path) or path
    is_here = os.path.exists(path)
    is_ours = not os.path.isabs(image)  # and no path of the hosts
    if not is_here and (is_ours or containers.is_recipe(path)):
        raise InputError(
            f"image: there is no {environment.image} in {workdir}",
            "podman save -o FILE NAME writes one; a path of the hosts begins with /",
        )
    if is_ours and os.path.isdir(path) and not _may_be_image(path):
        raise InputError(
            f"image: {environment.image} is a folder with neither a Dockerfile nor an image",
            "name the Dockerfile, or an OCI folder, which has an index.json",
        )
    found = replace(environment, image=path)
    if not found.is_built:
        if build := environment.context or environment.build_args:
            what = "context" if build is environment.context else "build_args"
            raise InputError(
                f"{what}: is for a Dockerfile, and {environment.image} is none",
                "image: ./Dockerfile, or the path of a folder that has one",
            )
        return found
    if found.runtime not in ("", containers.AUTO, "podman", "docker"):
        raise InputError(
            f"runtime: {found.runtime} takes no image that is built of a Dockerfile",
            "runtime: podman, or leave it out",
        )
    context = environment.context and os.path.expanduser(environment.context)
    if context:
        context = os.path.normpath(os.path.join(workdir, context))
        if not os.path.isdir(context):
            raise InputError(
                f"context: {environment.context} is no folder in {workdir}",
                "it holds the files that the Dockerfile copies",
            )
    if not os.path.isfile(path):
        raise InputError(f"image: {environment.image} is no file", "name the Dockerfile in it")
    return replace(found, context=context)


def _is_image(folder: str) -> bool:
    """Return whether a folder is an image itself: one of OCI, or a root folder, for bwrap."""
    is_oci = os.path.exists(os.path.join(folder, "index.json"))
    has_users = os.path.exists(os.path.join(folder, "etc", "passwd"))
    return is_oci or (has_users and os.path.isdir(os.path.join(folder, "usr")))


def _may_be_image(folder: str) -> bool:
    """Return whether a folder without a Dockerfile may be an image, if one without users."""
    programs = (os.path.join(folder, name) for name in ("usr", "bin"))
    return _is_image(folder) or any(map(os.path.isdir, programs))


def _recipe_in(folder: str) -> str | None:
    """Return the Dockerfile in a folder of this machine, unless that is an image itself."""
    if _is_image(folder):
        return None
    there = (os.path.join(folder, name) for name in containers.RECIPES)
    return next((path for path in there if os.path.isfile(path)), None)


def check_uv(folder: Path, environment: Environment) -> None:
    """Raise InputError where nothing says what hosts are to build, or from which wheels."""
    place = folder / environment.uv
    if place.name in ("uv.lock", "pyproject.toml"):
        raise InputError(f"uv: {environment.uv} is named by its folder", f"--uv {place.parent}")
    if not place.exists():
        raise InputError(f"uv: there is no {environment.uv} in {folder}", "such as --uv .")
    if place.is_dir() and not (place / "uv.lock").exists():
        if (place / "pyproject.toml").exists() and not (place / "requirements.txt").exists():
            raise InputError(
                f"uv: {place} has a pyproject.toml, and no uv.lock that says which versions hosts get",
                f"uv lock --project {place}",
            )
        if not (place / "requirements.txt").exists():
            raise InputError(
                f"uv: {place} has neither uv.lock nor requirements.txt",
                "uv lock; or name a file: --uv FILE",
            )
    wheels = environment.wheels
    if environment.is_fetched:
        from ..runner.wheels import tools

        tools.require_tools()
    elif wheels and not wheels.startswith("/") and not (folder / wheels).is_dir():
        raise InputError(
            f"wheels: there is no folder {wheels} in {folder}",
            f"pip download -d {wheels} -r requirements.txt makes one; or fetch, for those that it needs",
        )


def check_pixi(workdir: Path, named: str) -> None:
    """Raise InputError where nothing says which packages hosts get."""
    place = workdir / named
    if place.name in ("pixi.lock", "pixi.toml", "pyproject.toml"):
        raise InputError(f"pixi: {named} is named by its folder", f"--pixi {place.parent}")
    if not place.is_dir():
        raise InputError(f"pixi: there is no folder {named} in {workdir}", "such as --pixi .")
    project = place / "pyproject.toml"
    text = read_text(project, "the manifest") if project.is_file() else ""
    if not (place / "pixi.toml").is_file() and "[tool.pixi." not in text:
        raise InputError(
            f"pixi: {place} has neither pixi.toml nor a pyproject.toml with [tool.pixi]",
            f"pixi init {place}",
        )
    if not (place / "pixi.lock").is_file():
        raise InputError(
            f"pixi: {place} has no pixi.lock that says which versions hosts get",
            f"pixi lock --manifest-path {place}",
        )
