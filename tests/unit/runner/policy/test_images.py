"""What is said of hosts without an image, with another one, or that cannot start one."""

from __future__ import annotations

import pytest

from launcher.fleet.findings.images import of_image
from launcher.runner.policy import images
from launcher.spec.containers import ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.errors import ImageNotBuilt, InputError, NoEnvironment
from launcher.transport.answers.images import (
    Image,
    ImageRemoved,
    ImagesThere,
    ImageThere,
    RuntimeTrouble,
)


def test_trouble_is_told_of_all_hosts_with_what_to_do() -> None:
    bad = Image("trouble", code="no-subuid", said='no subuid ranges found for user "ann"')
    error = images.trouble({"gpu1": Image("missing"), "gpu2": bad, "gpu3": bad}, "torch:1")
    assert error is not None
    assert error.host == "gpu2"
    assert "podman has no user IDs for this user" in error.message
    assert error.message.endswith("; nor on gpu3")
    assert "usermod --add-subuids" in error.hint
    assert images.trouble({"gpu1": Image("missing")}, "torch:1") is None


@pytest.mark.parametrize(
    ("image", "looked_for", "hint"),
    [
        ("lab/x:1", "podman, docker", "apt install podman there, or docker"),
        ("/opt/x.sif", "apptainer", "install apptainer there, which alone starts a .sif"),
        ("/opt/x", "bwrap", "apt install bubblewrap there"),
        ("lab/x:1", "docker", "install docker there, or leave runtime: out"),
        ("lab/x:1", "", "apt install podman there, or docker, apptainer or bubblewrap"),
    ],
)
def test_the_runtime_that_would_take_an_image_is_named(
    image: str, looked_for: str, hint: str
) -> None:
    answer = Image("trouble", code="no-runtime", said=looked_for)
    error = images.trouble({"gpu1": answer}, image)
    assert error is not None
    assert f"there is no container runtime that takes {image}" in error.message
    assert error.hint.startswith(hint)


def test_an_image_that_is_a_path_is_not_to_be_saved_by_podman() -> None:
    named = images.missing({"gpu1": "no such host"}, "lab/x:1")
    assert named.hint.startswith("podman save -o image.tar lab/x:1")
    path = images.missing({"gpu1": ""}, "/opt/x")
    assert "podman" not in path.hint
    assert "a root folder or a .sif on each host" in path.hint


def test_an_error_about_the_image_of_some_roles_names_them() -> None:
    error = NoEnvironment("gpu1", "there is no image x", "bring it")
    assert images.of_roles(error, ()) is error
    assert str(images.of_roles(error, ("a",))) == "gpu1: role a: there is no image x"
    named = images.of_roles(error, ("a", "b"))
    assert (named.message, named.hint) == ("roles a, b: there is no image x", "bring it")
    assert isinstance(named, NoEnvironment)
    unbuilt = images.of_roles(ImageNotBuilt("x cannot be built", "correct it"), ("a",))
    assert (str(unbuilt), unbuilt.hint) == ("role a: x cannot be built", "correct it")


def test_each_build_of_a_run_has_a_log() -> None:
    one, other = Environment(image="Dockerfile"), Environment(image="b/Dockerfile")
    assert images.log(one, (one, Environment(image="x")), ("a",)) == "image.log"
    assert images.log(one, (one, other), ("a", "c")) == "image-a.log"
    assert images.log(other, (one, other), ("b",)) == "image-b.log"
    assert images.log(one, (one,), ()) == "image.log"


def test_a_check_says_whose_image_it_is() -> None:
    there = {"gpu1": having("1"), "gpu2": Image("missing", machine="x86_64")}
    said = [one.evidence for one in of_image("x", there, None, ("head",))]
    assert said[0] == "role head: podman has x (111111111111)"
    assert said[1].startswith("role head: x is not there; a run would bring it")


def test_words_of_a_runtime_that_nobody_knows_are_shown() -> None:
    error = images.trouble({"gpu1": Image("trouble", code="new", said="{odd}")}, "x")
    assert error is not None
    assert "{odd}" in error.message
    assert error.hint == "launcher exec --hosts gpu1 -- podman info shows more"


def test_hosts_with_different_images_of_a_name_are_told_apart() -> None:
    there = {"gpu1": having("a"), "gpu2": having("a"), "gpu3": having("b")}
    error = images.different(there, "torch:1")
    assert error is not None
    assert error.host == "gpu3"
    assert f"{'a' * 12} on gpu[1-2], {'b' * 12} on gpu3" in error.message
    assert images.different({"gpu1": having("a")}, "torch:1") is None


def test_a_name_has_an_image_for_each_kind_of_machine() -> None:
    there = {"gpu1": having("a"), "arm1": having("b", "aarch64"), "gpu2": having("a")}
    assert images.different(there, "torch:1") is None
    found = list(of_image("torch:1", there, None))
    assert "podman has torch:1 (bbbbbbbbbbbb, aarch64)" in [one.evidence for one in found]
    assert "IMAGE-DIFFERS" not in [one.code for one in found]
    error = images.different({**there, "arm2": having("c", "aarch64")}, "torch:1")
    assert error is not None
    assert "gpu" not in error.message


def having(letter: str, machine: str = "x86_64") -> Image:
    spec = ContainerSpec("podman", "/usr/bin/podman", letter * 64, "0:0")
    return Image("there", id=letter * 64, runtime="podman", machine=machine, spec=spec)


def test_an_image_that_nobody_can_bring_is_missing() -> None:
    error = images.missing({"gpu1": "connection refused", "gpu2": ""}, "torch:1")
    assert "no image torch:1; nor on gpu2, and it cannot be pulled: connection" in error.message
    assert "podman save -o image.tar torch:1" in error.hint


def of_host(*names: str, number: int = 1, runtime: str = "podman") -> ImageThere:
    return ImageThere(f"{number:020x}", runtime, f"{number}" * 64, names, 1, 1.0)


@pytest.mark.parametrize(
    "text",
    ["train:1", "localhost/train:1", "111111", "sha256:" + "1" * 64, "base", "ubuntu:24.04"],
)
def test_an_image_is_meant_by_any_name_or_the_beginning_of_its_id(text: str) -> None:
    names = ("localhost/train:1", "localhost/base:latest", "docker.io/library/ubuntu:24.04")
    there = {"a": ImagesThere((of_host(*names), of_host("x:1", number=2))), "b": ImagesThere(())}
    assert [its[0].id[0] for its in images.choose(there, text).values()] == ["1"]


def test_a_word_that_means_several_or_none_is_refused() -> None:
    both = ImagesThere((of_host("localhost/x:1"), of_host("docker.io/library/x:1", number=2)))
    with pytest.raises(InputError, match="x:1 may be any of several images on a: ") as several:
        images.choose({"a": both}, "x:1")
    assert "docker.io/library/x:1 (222222222222)" in str(several.value)
    assert images.choose({"a": both}, "localhost/x:1")["a"][0].id[0] == "1"
    with pytest.raises(InputError, match=r"no image y:1 on a\Z"):
        images.choose({"a": both}, "y:1")
    silent = ImagesThere((), {"docker": RuntimeTrouble("no-daemon")})
    with pytest.raises(InputError) as unknown:
        images.choose({"a": silent}, "y:1")
    assert unknown.value.hint.startswith("docker did not answer everywhere")


def test_an_image_that_two_runtimes_have_is_meant_in_both() -> None:
    both = ImagesThere((of_host("localhost/x:1"), of_host("x:1", runtime="docker")))
    (its,) = images.choose({"a": both}, "x:1").values()
    assert [one.runtime for one in its] == ["podman", "docker"]


def test_who_uses_an_image_is_named_with_what_ends_it() -> None:
    mine = of_host("localhost/x:1")
    error = images.stays("a", mine, ImageRemoved("used", by=("run calm-otter-3f9a",)))
    assert error
    assert (str(error), error.hint) == (
        "a: x:1 is used by run calm-otter-3f9a, and stays",
        "launcher stop calm-otter-3f9a ends it",
    )
    assert images.stays("a", mine, ImageRemoved("removed")) is None
    full = images.stays("a", mine, ImageRemoved("failed", code="no-space", said="disk"))
    assert full
    assert "no room" in full.message
