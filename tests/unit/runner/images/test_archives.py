"""Which image is in a file or folder, as podman, docker and skopeo write them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from launcher.runner.images.archives import of_path, packed, read
from launcher.spec.errors import InputError
from support.images import write_image


def oci(folder: Path, *, machines: tuple[str, ...] = ("amd64",)) -> list[str]:
    """Write an OCI folder with an image for each machine; return their IDs."""

    def blob(value: object) -> str:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (folder / "blobs/sha256" / digest).write_bytes(data)
        return digest

    ids, manifests = [], []
    for machine in machines:
        ids.append(blob({"architecture": machine, "os": "linux"}))
        manifest = blob({"config": {"digest": f"sha256:{ids[-1]}"}, "layers": []})
        platform = {"architecture": machine, "os": "linux"}
        manifests.append({"digest": f"sha256:{manifest}", "platform": platform})
    (folder / "index.json").write_text(json.dumps({"manifests": manifests}))
    return ids


def test_a_file_of_docker_says_which_image_it_holds(tmp_path: Path) -> None:
    image_id = write_image(tmp_path / "x.tar", "x:1", machine="arm64")
    found = of_path(str(tmp_path / "x.tar"))
    assert found is not None
    assert (found.id, found.machine) == (image_id, "arm64")
    assert packed(found, tmp_path / "cache") == found
    assert of_path("docker.io/x:1") is None
    assert of_path("/nothing/x.tar") is None


def test_an_oci_folder_is_packed_into_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    ids = oci(folder, machines=("s390x", "amd64"))
    found = read(folder)
    assert found.id in ids
    whole = packed(found, tmp_path / "cache")
    assert whole.path.name == f"{found.id}.tar"
    assert read(whole.path).id == found.id
    with tarfile.open(whole.path) as archive:
        assert "index.json" in archive.getnames()


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 2048])
def test_what_is_no_image_is_refused_by_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.tar is no image: ") as raised:
        read(tmp_path / "x.tar")
    assert "podman save -o FILE NAME" in raised.value.hint
    assert "\n" not in raised.value.message


def test_what_an_image_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(InputError, match=r" is no image: it has no manifests\Z"):
        read(tmp_path)
