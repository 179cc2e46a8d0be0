"""How a Python on a host is named: by a path, ``venv:DIR`` or ``conda:NAME``; and the environment of a
job, which is activated as well."""

from __future__ import annotations

import posixpath
import re

from . import containers
from .frozen import frozen

#: What stands before the folder of a virtual environment, and the name of a conda environment.
VENV, CONDA = "venv:", "conda:"
_NAME = re.compile(r"[\w.+-]{1,100}\Z", re.ASCII)
#: As ``wheels``: this machine fetches them, and hosts get them.
FETCH = "fetch"


@frozen
class Environment:
    """The environment in which the processes of a job run: one of its fields is set, as the job says it.

    ``conda`` is a name, or a folder, which environments of mamba, micromamba and pixi have as well; or a
    file in the job's code, as ``environment.yml``, of which each host builds one. ``venv`` is the folder
    of a virtual environment. ``uv`` is a path in the job's code, of which each host builds an
    environment: a folder with a lock of uv or requirements, or a file of these; ``wheels`` is a folder
    from which alone it takes packages then, or ``fetch`` for those that this machine gives it. ``pixi``
    is a folder in the job's code with a lock of pixi, of which each host builds an environment.
    ``image`` is the name of a container image, or a path, in which everything starts by the container
    ``runtime``, with ``mounts`` of the host; ``pinned`` is the ID that a run which is repeated has had.
    An image whose path is that of a Dockerfile is built first, with ``build_args`` and the files of the
    folder ``context``. ``name`` is what jobs call an environment that the inventory gives a host.
    Without any of them it stands for what the host has, in a role of a job that names one for the
    others.
    """

    conda: str = ""
    venv: str = ""
    uv: str = ""
    wheels: str = ""
    image: str = ""
    runtime: str = ""
    mounts: tuple[str, ...] = ()
    pinned: str = ""
    name: str = ""
    build_args: tuple[str, ...] = ()
    context: str = ""
    pixi: str = ""

    @property
    def key(self) -> str:
        """What tells it from other environments of a host."""
        if self.image:
            build = {"runtime": self.runtime, "mounts": self.mounts, "context": self.context}
            told = {**build, "build_args": self.build_args}
            more = "".join(f" {name}={value}" for name, value in told.items() if value)
            return f"image:{self.image}{more}"
        return self.python or f"{self.builder}:{self.recipe} {self.wheels}"

    @property
    def recipe(self) -> str:
        """The path in the job's code of which each host builds it; "" if none does."""
        return self.uv or self.pixi or (self.conda if is_conda_file(self.conda) else "")

    @property
    def builder(self) -> str:
        """The kind of tool that builds it, as the key of ``environment:`` that names it."""
        return "uv" if self.uv else "pixi" if self.pixi else "conda"

    def is_called(self, name: str) -> bool:
        """Return whether jobs mean this one by the name of a conda environment."""
        own = self.name or posixpath.basename(self.conda)
        return bool(name) and own == name

    @property
    def python(self) -> str | None:
        """Its Python: a path, or ``conda:NAME``; None for one that the host builds or an image has."""
        if self.recipe or self.image or self.is_none:
            return None
        return python_path(f"{CONDA}{self.conda}" if self.conda else f"{VENV}{self.venv}")

    @property
    def is_none(self) -> bool:
        """Whether it stands for what the host has."""
        return not (self.conda or self.venv or self.uv or self.pixi or self.image)

    @property
    def is_fetched(self) -> bool:
        """Whether this machine fetches the wheels that it is built of."""
        return self.wheels == FETCH

    @property
    def is_given(self) -> bool:
        """Whether hosts get it before the start."""
        return bool(self.recipe or self.image)

    @property
    def is_built(self) -> bool:
        """Whether it is an image that is built of a Dockerfile."""
        return bool(self.image) and containers.is_recipe(self.image)

    @property
    def is_activated(self) -> bool:
        """Whether bash activates it in front of each process."""
        return not (self.image or self.is_none)

    @property
    def is_named(self) -> bool:
        """Whether a host has to look where it is."""
        return bool(self.conda) and "/" not in self.conda and not self.recipe

    def __str__(self) -> str:
        """Return it as people know it: ``conda environment train``."""
        if self.is_none:
            return "what the host has"
        if self.image:
            return f"image {self.image}"
        if self.recipe:
            return f"environment built from {self.recipe}"
        return (
            f"conda environment {self.conda}" if self.conda else f"virtual environment {self.venv}"
        )


def python_path(text: str) -> str:
    """Return a Python as the rest of launcher knows it: a name on PATH, a path, or ``conda:NAME``.

    Raises ValueError.
    """
    kind, colon, place = text.partition(":")
    if kind + colon == VENV and place:
        return f"{place.rstrip('/')}/bin/python"
    if kind + colon == CONDA and place:
        if "/" in place:  # an environment by its folder, as conda -p
            return f"{place.rstrip('/')}/bin/python"
        if _NAME.match(place):
            return text
    if colon or not text.strip():
        raise ValueError(f"not a Python: {text!r} (a path, a name on PATH, venv:DIR or conda:NAME)")
    return text


def conda_name(python: str) -> str | None:
    """Return the name of the conda environment that a Python is named by, or None."""
    return python.removeprefix(CONDA) if python.startswith(CONDA) else None


def is_conda_file(text: str) -> bool:
    """Return whether this is a file that describes a conda environment, as ``environment.yml``."""
    return text.endswith((".yml", ".yaml"))


def conda_environment(text: str) -> str:
    """Return the name or the folder of a conda environment, or a file in the workdir that describes
    one. Raises ValueError."""
    return inside(text) if is_conda_file(text) else conda_on_host(text)


def conda_on_host(text: str) -> str:
    """Return the name or the folder of a conda environment that a host has. Raises ValueError."""
    if is_conda_file(text):
        raise ValueError(
            f"{text} is a file in the code of a job, so a host has none: name the environment that is "
            "there, or its folder"
        )
    if "/" in text or text.startswith(("~", "$")):
        return folder(text)
    return conda_name_of(text)


def conda_name_of(text: str) -> str:
    """Return the name of a conda environment. Raises ValueError for what cannot be one."""
    if not _NAME.match(text):
        raise ValueError(f"{text!r} cannot be the name of a conda environment")
    return text


def folder(text: str) -> str:
    """Return a folder of a host. Raises ValueError for one that is relative, so nobody knows to what."""
    if not text.startswith(("/", "~", "$")):
        raise ValueError(
            f"{text!r} is no folder of a host: write a whole path, or one that begins with ~"
        )
    return text.rstrip("/") or "/"


def inside(text: str) -> str:
    """Return a path in the workdir. Raises ValueError."""
    path = posixpath.normpath(text)
    if text.startswith(("/", "~", "$")) or path.startswith(".."):
        raise ValueError(
            f"{text!r} is no path inside the workdir, which is what hosts get: write it as seen from "
            "there, such as envs/gpu"
        )
    return path


def wheels_folder(text: str) -> str:
    """Return a folder of wheels: in the workdir, or a whole path on the hosts; or ``fetch``, which is
    no folder: that would be ``./fetch``. Raises ValueError."""
    if text == FETCH or text.startswith("/"):
        return text.rstrip("/")
    path = inside(text)
    return f"./{path}" if path == FETCH else path


def prefix(python: str) -> str:
    """Return the folder of the environment that a Python belongs to, as ``/opt/envs/train``."""
    return posixpath.dirname(posixpath.dirname(python)) or python


#: Where pixi has an environment, below the folder of a manifest.
PIXI_FOLDER = "/.pixi/envs/default"
#: A function of sh that prints where conda, mamba and their kin may be installed, without an interactive
#: shell: what variables, startup files and PATH say, then the usual places.
CONDA_BASES = """\
launcher_bases() {
  printf '%s\\n' "${CONDA_EXE%/bin/conda}" "${MAMBA_ROOT_PREFIX-}"
  for f in .bashrc .bash_profile .profile .zshrc; do
    sed -n -e "s|^ *__conda_setup=.*'\\(/[^']*\\)/bin/conda' 'shell.*|\\1|p" \\
      -e "s|^ *export MAMBA_ROOT_PREFIX='\\(/[^']*\\)'.*|\\1|p" "$HOME/$f" 2>/dev/null
  done
  f=$(command -v conda) && case $f in /*/*/*) printf '%s\\n' "${f%/*/*}";; esac
  printf '%s\\n' "$HOME/.conda" "$HOME/miniconda3" "$HOME/anaconda3" "$HOME/miniforge3" \\
    "$HOME/mambaforge" "$HOME/micromamba" "$HOME/.local/share/mamba" /opt/conda /opt/miniconda3 \\
    /opt/anaconda3 /opt/miniforge3 /opt/mambaforge /opt/micromamba
}
"""
#: A function of sh that prints where micromamba may be, in the same way.
MICROMAMBAS = """\
launcher_micromambas() {
  printf '%s\\n' "${MAMBA_EXE-}"
  for f in .bashrc .bash_profile .profile .zshrc; do
    sed -n -e "s|^ *export MAMBA_EXE=['\\"]\\(/[^'\\"]*\\)['\\"].*|\\1|p" "$HOME/$f" 2>/dev/null
  done
  printf '%s\\n' "$HOME/.local/bin/micromamba" "$HOME/bin/micromamba" /usr/local/bin/micromamba
  command -v micromamba
}
"""
#: Lines of sh that print the programs which can build a conda environment on a host, best first.
CONDA_BUILDERS = (
    CONDA_BASES
    + MICROMAMBAS
    + """\
for k in micromamba mamba conda; do
  { launcher_micromambas; command -v $k; printf '%s\\n' "${CONDA_EXE-}"
    launcher_bases | while IFS= read -r b; do printf '%s\\n' "$b/bin/$k" "$b/condabin/$k"; done
  } | while IFS= read -r p; do
    case $p in */$k) if [ -f "$p" ] && [ -x "$p" ]; then printf '%s\\n' "$p"; fi;; esac
  done
done
"""
)
