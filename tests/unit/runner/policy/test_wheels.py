"""Which wheels fit a host, of those that a lock lists for all kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.runner.policy import wheels
from launcher.spec.errors import NoEnvironment, WheelsNotFetched
from launcher.transport.answers.environments import WantedWheels

HOST = WantedWheels(
    "3.11.7", "cpython", "cp311", "x86_64", "glibc 2.36", ("uv.lock",), "0" * 32, True
)
ARM = replace(HOST, machine="aarch64", libc="glibc 2.28")
MUSL = replace(HOST, libc="")
FREE = replace(HOST, python="3.14.0", abi="cp314t")
SUM = "ab" * 32


def lock(*packages: dict[str, Any], python: str = ">=3.9") -> dict[str, Any]:
    return {
        "lock-version": "1.0",
        "created-by": "uv",
        "requires-python": python,
        "packages": list(packages),
    }


def package(name: str, *tags: str, **more: Any) -> dict[str, Any]:
    files = [f"{name}-1.0-{tag}.whl" for tag in tags]
    listed = [{"url": f"https://x/{file}", "size": 5, "hashes": {"sha256": SUM}} for file in files]
    return {"name": name, "version": "1.0", **({"wheels": listed} if listed else {}), **more}


@pytest.mark.parametrize(
    ("host", "tag"),
    [
        (HOST, "cp311-cp311-manylinux_2_28_x86_64"),
        (ARM, "cp311-cp311-manylinux2014_aarch64"),
        (MUSL, "cp38-abi3-musllinux_1_2_x86_64"),
        (FREE, "cp314-cp314t-manylinux_2_28_x86_64"),
        (replace(HOST, python="3.12.1", abi="cp312"), "py3-none-any"),
    ],
)
def test_each_host_gets_the_best_of_those_that_fit(host: WantedWheels, tag: str) -> None:
    """Not what a newer C library needs, another Python, another machine or one without a lock."""
    found = wheels.chosen(
        lock(
            package(
                "tool",
                "py3-none-any",
                "cp311-cp311-manylinux_2_39_x86_64",
                "cp311-cp311-manylinux_2_28_x86_64",
                "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
                "cp311-cp311-manylinux2014_aarch64",
                "cp38-abi3-musllinux_1_2_x86_64",
                "cp314-cp314t-manylinux_2_28_x86_64",
                "cp311-cp311-win_amd64",
            )
        ),
        "gpu1",
        host,
        ".",
    )
    assert [one.file for one in found] == [f"tool-1.0-{tag}.whl"]
    assert found[0].source == f"https://x/tool-1.0-{tag}.whl"
    assert (found[0].size, found[0].sha256) == (5, SUM)


def test_markers_are_those_of_the_host() -> None:
    found = wheels.chosen(
        lock(
            package("one", "py3-none-any"),
            package("arm", "py3-none-any", marker="platform_machine == 'aarch64'"),
            package("old", "py3-none-any", marker="python_full_version < '3.11.5'"),
            package(
                "windows",
                marker="sys_platform == 'win32'",
                sdist={"url": "https://x/w.zip", "hashes": {"sha256": SUM}},
            ),
        ),
        "gpu1",
        HOST,
        ".",
    )
    assert [one.package for one in found] == ["one"]


def refused(host: WantedWheels, found: dict[str, Any]) -> NoEnvironment:
    with pytest.raises(NoEnvironment) as raised:
        wheels.chosen(found, "gpu3", host, "uv.lock")
    assert raised.value.host == "gpu3"
    return raised.value


def test_what_does_not_fit_is_named() -> None:
    error = refused(HOST, lock(python=">=3.12"))
    assert error.message == "uv.lock is for Python >=3.12, and it has 3.11.7"
    assert "--python" in error.hint
    kinds = ("cp312-cp312-manylinux_2_39_x86_64", "cp311-cp311-win_amd64")
    error = refused(HOST, lock(package("tool", *kinds)))
    assert error.message == (
        "tool 1.0 has no wheel for Python 3.11.7 on x86_64 with glibc 2.36: there are those for "
        "cp312 manylinux_2_39_x86_64, cp311 win_amd64"
    )
    source = {"url": "https://x/tool-1.0.tar.gz", "hashes": {"sha256": SUM}}
    assert refused(HOST, lock(package("tool", *kinds, sdist=source))).message == error.message
    error = refused(MUSL, lock(package("tool", sdist=source)))
    assert error.message.endswith("on x86_64 with musl: there is its source alone")
    assert "pip wheel --no-deps tool" in error.hint
    error = refused(HOST, lock(package("tool", vcs={"type": "git", "url": "x", "commit-id": "1"})))
    assert error.message.startswith("tool 1.0 has no wheel for")
    with pytest.raises(WheelsNotFetched, match=r"uv says of uv.lock cannot be read"):
        wheels.chosen({"lock-version": "9"}, "gpu3", HOST, "uv.lock")
    with pytest.raises(NoEnvironment, match="it has pypy"):
        wheels.require_cpython("gpu3", replace(HOST, implementation="pypy"))


def test_a_wheel_that_is_named_by_its_url_is_one() -> None:
    named = {
        "url": "https://x/y/torch-2.9%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "hashes": {"sha256": SUM},
    }
    (found,) = wheels.chosen(lock({"name": "torch", "archive": named}), "gpu1", HOST, ".")
    assert (found.file, found.version) == ("torch-2.9+cpu-cp311-cp311-linux_x86_64.whl", "2.9+cpu")
    assert wheels.listed({SUM: found}) == f"torch==2.9+cpu --hash=sha256:{SUM}\n"


@pytest.mark.parametrize("odd", ["../../../../x", "ab" * 31, "", "AB" * 32 + "\n"])
def test_a_sum_that_is_none(odd: str) -> None:
    """It is a name in a folder of this machine."""
    wheel = {"url": "https://x/one-1.0-py3-none-any.whl", "hashes": {"sha256": odd}}
    about = lock({"name": "one", "version": "1.0", "wheels": [wheel]})
    with pytest.raises(WheelsNotFetched, match=r"one-1.0-py3-none-any.whl has a sha256 in uv.lock"):
        wheels.chosen(about, "gpu1", HOST, "uv.lock")


def test_a_name_that_leads_elsewhere() -> None:
    file = "one-1.0-1%2F..%2F..%2Fx-py3-none-any.whl"
    named = {"url": f"https://x/{file}", "hashes": {"sha256": SUM}}
    for about in ({"archive": named}, {"wheels": [named]}):
        error = refused(HOST, lock({"name": "one", "version": "1.0", **about}))
        assert error.message.startswith("one 1.0 has no wheel for")


def test_hosts_that_need_the_same_share_a_set() -> None:
    same = replace(HOST, libc="glibc 2.36-9+deb12u4", folders=("a",))
    assert wheels.key(same, "") == wheels.key(HOST, "") != wheels.key(HOST, "another index")
    others = [ARM, MUSL, FREE, replace(HOST, sum="1" * 32), replace(HOST, libc="glibc 2.31")]
    assert len({wheels.key(one, "") for one in [HOST, *others]}) == 6


@pytest.mark.parametrize(
    ("machine", "libc", "name"),
    [
        ("x86_64", "glibc 2.36", "x86_64-manylinux_2_36"),
        ("x86_64", "glibc 2.29", "x86_64-manylinux_2_28"),
        ("aarch64", "glibc 2.99", "aarch64-manylinux_2_40"),
        ("riscv64", "glibc 2.39", "riscv64-unknown-linux"),
        ("x86_64", "", "x86_64-unknown-linux-musl"),
        ("x86_64", "glibc 2.12", ""),
        ("ppc64le", "glibc 2.28", ""),
        ("armv7l", "", ""),
        ("riscv64", "", ""),
    ],
)
def test_what_uv_calls_a_host(machine: str, libc: str, name: str) -> None:
    host = replace(HOST, machine=machine, libc=libc)
    if name:
        assert wheels.platform("gpu3", host) == name
        return
    with pytest.raises(NoEnvironment, match=f"uv finds no wheels of requirements for .*{machine}"):
        wheels.platform("gpu3", host)
