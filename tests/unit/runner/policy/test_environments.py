"""What is said of hosts without the job's environment."""

from __future__ import annotations

import pytest

from launcher.runner.policy import environments
from launcher.spec.environments import Environment
from launcher.spec.errors import HostError, NoEnvironment, NoPython, NoRsync, PythonTooOld
from launcher.spec.model import Host


def _missing(host: str, environment: Environment, error: type[HostError] = NoPython) -> HostError:
    said = "~/v/bin/python is Python 3.6" if error is PythonTooOld else "there is no conda ... x"
    return environments.missing(Host(host), environment, error(host, said, "a hint"))


def test_a_host_without_it() -> None:
    named = _missing("gpu1", Environment(conda="x"))
    assert (named.code, str(named), named.hint) == (
        "no-environment",
        "gpu1: there is no conda ... x",
        "a hint",
    )
    folder = _missing("gpu1", Environment(venv="~/v"))
    assert str(folder) == "gpu1: there is no Python in the virtual environment ~/v"
    assert folder.hint.startswith("python3 -m venv ~/v there makes one")
    old = _missing("gpu1", Environment(conda="x"), PythonTooOld)
    assert (old.code, old.message) == ("python-too-old", "the conda environment x has Python 3.6")
    assert isinstance(_missing("gpu1", Environment(conda="x"), NoRsync), NoRsync)


def test_the_first_of_several_names_the_others() -> None:
    x = Environment(conda="x")
    one, two, three = (_missing(f"gpu{n}", x) for n in (1, 2, 3))
    assert str(environments.first([one])) == str(one)
    found = environments.first([one, NoRsync("gpu4", "no rsync"), two, three])
    assert str(found) == "gpu1: there is no conda ... x; nor on gpu[2-3]"
    assert found.hint == one.hint
    assert str(environments.first([three, two, one])) == str(found)  # whoever answers first
    other = NoRsync("gpu4", "no rsync")
    assert environments.first([other, one]) is other


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("Resolved\nerror: The Python is wrong\n  hint: x\n", "The Python is wrong"),
        (
            "error: No solution\n  cause: Because x\n  cause: a is not there\n",
            "No solution: a is not there",
        ),
        ("ERROR: No matching distribution found for x\n", "No matching distribution found for x"),
        (
            "  × No solution found:\n  ╰─▶ Because tiny was not found\n    because\n",
            "Because tiny was not found because",
        ),
        ("  × Failed to build\n", "Failed to build"),
        (
            "The virtual environment was not created successfully because ensurepip is not available."
            "\n\nFailing command: /v/bin/python3\n",
            "ensurepip is not available to this Python: apt install python3-venv there, or pip install uv",
        ),
        ("Killed\n", ""),
        ("", ""),
    ],
)
def test_the_cause_of_a_failed_build(log: str, cause: str) -> None:
    assert environments.cause(log) == cause


def test_what_cannot_be_activated() -> None:
    assert environments.failed({}) is None
    found = environments.failed({"gpu10": "...", "gpu2": "modules: cuda/13 cannot be loaded here"})
    assert isinstance(found, NoEnvironment)
    assert str(found) == "gpu2: modules: cuda/13 cannot be loaded here; nor on gpu10"
    assert "module avail" in found.hint
    found = environments.failed(
        {"gpu2": "prepare: of gpu2 in the inventory ended with exit code 4"}
    )
    assert found is not None
    assert "--no-check" in found.hint


#: What a real conda 26.9 has printed, and what micromamba 2 prints.
OF_CONDA = [
    (
        "Solving environment: ...working... failed\n\nPackagesNotFoundInChannelsError: The following "
        "packages are missing from the target environment:\n\n  - nope=3\n  - nope2\n\n\n",
        "The following packages are missing from the target environment: nope=3; nope2",
        "",
    ),
    (
        "failed\n\nCondaHTTPError: HTTP 000 CONNECTION FAILED for url "
        "<https://channel.example/x/linux-64/current_repodata.json>\nElapsed: -\n",
        "HTTP 000 CONNECTION FAILED for url <https://channel.example/x/linux-64/current_repodata.json>",
        "channel.example",
    ),
    (
        "Pip subprocess error:\nERROR: Could not find a version that satisfies the requirement x==3\n"
        "ERROR: No matching distribution found for x==3\n\nfailed\n\nCondaEnvException: Pip failed\n",
        "Could not find a version that satisfies the requirement x==3",
        "",
    ),
    (
        "LibMambaUnsatisfiableError: Encountered problems while solving:\n"
        "  - nothing provides requested tiny 9**\n",
        "Encountered problems while solving: nothing provides requested tiny 9**",
        "",
    ),
    (
        "error    libmamba Could not solve for environment specs\n"
        "    The following packages are incompatible\n"
        "    ├─ python =3.12 * is requested and can be installed;\n"
        "    └─ tiny =1 * is not installable because it requires\n"
        "       └─ python =3.8 *, which conflicts with any installable versions previously reported.\n"
        "critical libmamba Could not solve for environment specs\n",
        "Could not solve for environment specs: python =3.12 * is requested and can be installed; tiny =1 "
        "* is not installable because it requires; python =3.8 *, which conflicts with any installable "
        "versions previously reported",
        "",
    ),
    ("Linking python-3.12\n", "", ""),
]


@pytest.mark.parametrize(("log", "cause", "server"), OF_CONDA)
def test_the_cause_in_the_words_of_conda(log: str, cause: str, server: str) -> None:
    assert environments.cause(log, "conda") == cause
    assert environments.unreachable(log) == server
