"""What is said of hosts without an image, with another one, or that cannot start one."""

from __future__ import annotations

from launcher.runner.policy import images
from launcher.transport.answers import Image


def test_trouble_is_told_of_all_hosts_with_what_to_do() -> None:
    bad = Image("trouble", code="no-subuid", said='no subuid ranges found for user "ann"')
    error = images.trouble({"gpu1": Image("missing"), "gpu2": bad, "gpu3": bad}, "torch:1")
    assert error is not None
    assert error.host == "gpu2"
    assert "podman has no user IDs for this user" in error.message
    assert error.message.endswith("; nor on gpu3")
    assert "usermod --add-subuids" in error.hint
    assert images.trouble({"gpu1": Image("missing")}, "torch:1") is None


def test_words_of_a_runtime_that_nobody_knows_are_shown() -> None:
    error = images.trouble({"gpu1": Image("trouble", code="new", said="{odd}")}, "x")
    assert error is not None
    assert "{odd}" in error.message
    assert error.hint == "launcher exec --hosts gpu1 -- podman info shows more"


def test_hosts_with_different_images_of_a_name_are_told_apart() -> None:
    ids = {"gpu1": "a" * 64, "gpu2": "a" * 64, "gpu3": "b" * 64}
    error = images.different(ids, "torch:1")
    assert error is not None
    assert error.host == "gpu3"
    assert f"{'a' * 12} on gpu[1-2], {'b' * 12} on gpu3" in error.message
    assert images.different({"gpu1": "a" * 64}, "torch:1") is None


def test_an_image_that_nobody_can_bring_is_missing() -> None:
    error = images.missing({"gpu1": "connection refused", "gpu2": ""}, "torch:1")
    assert "no image torch:1; nor on gpu2, and it cannot be pulled: connection" in error.message
    assert "podman save -o image.tar torch:1" in error.hint
