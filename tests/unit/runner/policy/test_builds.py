"""Where an image is built, and for which machine."""

from __future__ import annotations

import pytest

from launcher.runner.policy import builds
from launcher.runner.policy.dockerfiles import Base
from launcher.spec.errors import ImageNotBuilt, InputError
from launcher.transport.answers.images import ImageBuild

X86, ARM = "x86_64", "aarch64"


def works(machine: str = X86) -> ImageBuild:
    return ImageBuild("yours", "podman", "/usr/bin/podman", machine)


def fails(code: str = "no-runtime", said: str = "", machine: str = X86) -> ImageBuild:
    return ImageBuild("trouble", code=code, said=said, machine=machine)


def test_this_machine_builds_if_it_can_and_is_of_the_same_kind() -> None:
    there = {"gpu1": fails(), "gpu2": works()}
    assert builds.place(works(), there, "x", X86) is None
    assert builds.place(fails(), there, "x", X86) == "gpu2"
    assert builds.place(works(ARM), there, "x", X86) == "gpu2"
    assert builds.place("no agent", there, "x", X86) == "gpu2"


def test_where_nobody_can_all_reasons_are_said_with_equal_ones_folded() -> None:
    there = {"gpu1": fails(), "gpu2": fails(), "gpu3": fails("denied", "permission denied")}
    with pytest.raises(ImageNotBuilt) as raised:
        builds.place(works(ARM), there, "x", X86)
    assert raised.value.message == (
        "nothing can build x: this machine: it is aarch64, and the hosts are x86_64; gpu[1-2]: no podman "
        "and no docker; gpu3: this user may not use docker: permission denied"
    )


def test_hosts_of_several_kinds_are_refused() -> None:
    there = {"gpu1": works(), "gpu2": works(), "arm": works(ARM)}
    with pytest.raises(InputError) as raised:
        builds.machine(there, "x", ())
    assert "x86_64 on gpu[1-2], aarch64 on arm" in raised.value.message
    assert "--hosts gpu[1-2]" in raised.value.hint


def test_a_platform_that_hosts_are_not_is_refused_with_its_line() -> None:
    base = Base("python:3", "linux/arm64", 4)
    with pytest.raises(
        InputError, match="x, line 4: it is built for linux/arm64, and the hosts are"
    ):
        builds.machine({"gpu1": works()}, "x", [base])
    assert builds.machine({"gpu1": works(ARM)}, "x", [base]) == ARM
    assert builds.machine({"gpu1": works()}, "x", [Base("a", "linux/amd64", 1)]) == X86
