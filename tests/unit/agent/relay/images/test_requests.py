"""What a host tells of a runtime and an image, by what the runtime says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import run_lock
from launcher.agent.processes import visitors
from launcher.agent.relay.images import requests as images_module
from launcher.agent.relay.images.requests import Images

ID = "a" * 64
#: A relay that waits for a first start.
RELAY = """
import sys, time
from launcher.agent.relay.images import requests as images
images.PIECE = 0.01
host = images.Images(sys.argv[1])
request = {"do": "look", "image": "x:1", "runtime": "podman", "mounts": []}
answer = host.answer(request)
while "first start" not in answer["said"]:
    answer = host.answer(request)
print(answer["state"], flush=True)
time.sleep(300)
"""


def with_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> Images:
    """Return images of a host with these FAKES of runtimes, each a script of sh, on its PATH."""
    (folder / "bin").mkdir()
    for name, script in scripts.items():
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    root = folder / "root"
    root.mkdir()
    return Images(str(root))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer says that a runtime is still at work, but where a test wants that."""
    monkeypatch.setattr(images_module, "PIECE", 60.0)


def look(images: Images, **more: object) -> dict[str, Any]:
    request = {"do": "look", "image": "x:1", "runtime": "podman", "mounts": []}
    return images.answer({**request, **more})


def begun(images: Images) -> None:
    """Wait until a first container is started."""
    found = look(images)
    while found["said"].startswith("podman is busy"):
        found = look(images)
    assert found["state"] == "working"
    assert found["said"].startswith("its first start, ")


def there(machine: str) -> str:
    return (
        f'case "$1" in image) echo {ID} {machine};; run) echo >>"$0.runs"; '
        "echo /opt/bin/python3 3.12.1;; esac"
    )


def test_an_image_tells_of_its_python_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    images = with_runtime(tmp_path, monkeypatch, podman=there(machine))
    for _ in range(2):
        found = look(images)
        assert (found["state"], found["id"]) == ("there", ID)
        assert (found["python"], found["python_version"]) == ("/opt/bin/python3", "3.12.1")
    assert (tmp_path / "bin/podman.runs").read_text() == "\n"
    assert found["spec"]["user"] == f"{os.getuid()}:{os.getgid()}"
    assert f"{images.root}:{images.root}" in found["spec"]["mounts"]
    look(images, mounts=["/opt"])  # a Python of the host may change
    look(images, mounts=["/opt"])
    assert (tmp_path / "bin/podman.runs").read_text() == "\n" * 3


def test_a_first_start_may_take_long_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rights, podman gives each file of an image to the user's IDs: that takes minutes."""
    monkeypatch.setattr(images_module, "PIECE", 0.01)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    slow = there(machine).replace("run) ", 'run) read -r word <"$0.fifo"; ')
    images = with_runtime(tmp_path, monkeypatch, podman=slow)
    os.mkfifo(tmp_path / "bin/podman.fifo")
    for _ in range(3):
        begun(images)
    (tmp_path / "bin/podman.fifo").write_text("go on\n")
    found = look(images)
    while found["state"] == "working":
        found = look(images)
    assert (found["state"], found["python_version"]) == ("there", "3.12.1")
    assert (tmp_path / "bin/podman.runs").read_text() == "\n"
    assert not os.listdir(os.path.join(images.root, "visitors"))


@pytest.mark.parametrize("how", ["end", "expire", "killed", "another"])
def test_a_first_start_that_nobody_waits_for_leaves_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(images_module, "PIECE", 0.01)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    slow = there(machine).replace("run) ", 'rm) echo "$@" >>"$0.rm";; run) exec sleep 3000; ')
    images = with_runtime(tmp_path, monkeypatch, podman=slow)
    if how == "killed":
        words = [sys.executable, "-c", RELAY, images.root]
        relay = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert relay.stdout
        assert relay.stdout.readline() == b"working\n"
    else:
        begun(images)
    (name,) = [n for n in os.listdir(f"{images.root}/visitors") if not n.endswith(".fifo")]
    visitors.end_left(images.root)
    assert not (tmp_path / "bin/podman.rm").exists(), "one that is waited for stays"
    if how == "killed":
        relay.kill()
        relay.communicate()
        visitors.end_left(images.root)
    elif how == "another":
        assert look(images, runtime="apptainer")["code"] == "no-runtime"
    elif how == "expire":
        monkeypatch.setattr(images_module, "ABANDONED", -1.0)
        images.expire()
    else:
        images.end()
    assert (tmp_path / "bin/podman.rm").read_text() == f"rm --force --ignore --volumes {name}\n"
    assert not os.listdir(os.path.join(images.root, "visitors"))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Error: no subuid ranges found for user ann in /etc/subuid", "no-subuid"),
        ('Error: cannot set up namespace using "/usr/bin/newuidmap"', "no-subuid"),
        ("permission denied while trying to connect to the Docker daemon socket", "denied"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "no-daemon"),
        ("cannot clone: Operation not permitted", "no-namespaces"),
        ("bwrap: setting up uid map: Permission denied", "no-namespaces"),
        ("crun: executable file `sh` not found in $PATH: No such file or directory", "no-shell"),
        ('exec: "sh": executable file not found in $PATH: unknown.', "no-shell"),
        ('exec "sh": executable file not found in $PATH', "no-shell"),
        ("bwrap: execvp sh: No such file or directory", "no-shell"),
        ("write /x: no space left on device", "no-space"),
        ("something else", "cannot-start"),
    ],
)
def test_what_is_in_the_way_has_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: str
) -> None:
    images = with_runtime(tmp_path, monkeypatch, podman=f"echo '{said}' >&2; exit 125")
    found = look(images)
    assert (found["state"], found["code"]) == ("trouble", code)
    assert said in found["said"]


def test_what_another_runtime_would_not_change_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = with_runtime(tmp_path, monkeypatch, podman=there("s390x"), docker="exit 1")
    found = look(images, runtime="auto")
    assert found["code"] == "other-machine"
    assert found["said"].startswith("the image is for s390x, and this host is ")


def test_of_several_ids_that_for_this_machine_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on hosts of two kinds has pinned two."""
    other = "b" * 64
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    podman = there(machine).replace(
        "image)", f'image) case "$*" in *{other}) echo {other} s390x; exit;; esac;'
    )
    images = with_runtime(tmp_path, monkeypatch, podman=podman)
    found = look(images, pinned=f"{other} {ID}")
    assert (found["state"], found["id"]) == ("there", ID)
    assert found["machine"] == os.uname().machine


def test_an_image_that_is_not_there_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'echo "Error: x:1: image not known" >&2; exit 125'
    images = with_runtime(tmp_path, monkeypatch, podman=script)
    assert look(images)["state"] == "missing"
    found = look(images, runtime="apptainer")
    assert (found["code"], found["said"]) == ("no-runtime", "apptainer")


def test_a_file_for_another_machine_is_refused_before_it_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = with_runtime(tmp_path, monkeypatch, podman="echo image not known >&2; exit 125")
    found = look(images, machine="arm64" if os.uname().machine == "x86_64" else "amd64")
    assert (found["state"], found["code"]) == ("trouble", "other-machine")


def test_an_image_that_a_connection_is_about_to_use_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    images = with_runtime(tmp_path, monkeypatch, podman=there(machine))
    assert look(images, uses=True, run="calm-otter-3f9a")["state"] == "there"
    (key,) = os.listdir(os.path.join(images.root, "images", "used"))
    other = Images(images.root)
    done = other.answer({"do": "remove", "key": key})
    assert (done["state"], done["by"]) == ("used", ["a run that begins"])
    assert other.answer({"do": "remove", "key": "../../etc"})["state"] == "missing"


#: A FAKE of podman with one image, which somebody removes while its first container runs.
REMOVED = """
cd "${0%/*}"
case "$1 $*" in
  image*Size*) [ -e there ] && echo ID 1 '["x:1"]' || { echo no such image >&2; exit 125; };;
  image*) [ -e there ] && echo ID MACHINE || { echo no such image >&2; exit 125; };;
  rmi*) rm there;;
  run*) if [ -e remover ]; then ./remover; fi; echo launcher-begun; echo none;;
esac
"""
#: What ``launcher image rm`` has a host do.
REMOVER = """#!/bin/sh
exec PYTHON -c '
import os, sys
from launcher.agent.relay.images.store import ImageStore
store = ImageStore(sys.argv[1])
assert [store.remove(key)["state"] for key in os.listdir(store.folder + "/used")] == ["removed"]
' ROOT
"""


def test_an_image_that_was_removed_while_it_was_looked_at_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    script = REMOVED.replace("ID", ID).replace("MACHINE", machine)
    first = with_runtime(tmp_path, monkeypatch, podman=script)
    (tmp_path / "bin/there").touch()
    assert look(first, uses=True)["state"] == "there"
    (key,) = os.listdir(f"{first.root}/images/used")
    first._store.locks.drop(key)  # as its connection ends
    remover = tmp_path / "bin/remover"
    remover.write_text(REMOVER.replace("PYTHON", sys.executable).replace("ROOT", first.root))
    remover.chmod(0o755)
    found = look(Images(first.root), uses=True, mounts=["/usr"])
    assert not (tmp_path / "bin/there").exists()
    assert found["state"] == "missing"


def test_a_tag_that_is_lost_while_an_image_stays_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    podman = (
        f'case "$*" in *Architecture*) echo {ID} {machine};; '
        f"""*Size*) echo '{ID} 9 ["x:1","y:1"]';; run*) echo none;; ps*) ;; """
        'rmi*) echo "image is in use by a container" >&2; exit 2;; tag*) echo "$3" >>"$0.tags";; esac'
    )
    images = with_runtime(tmp_path, monkeypatch, podman=podman)
    look(images, uses=True)
    (one,) = Images(images.root).answer({"do": "list"})["images"]
    assert (one["names"], one["bytes"], one["brought"]) == (["x:1", "y:1"], 9, False)
    images._store.locks.drop(one["key"])
    done = Images(images.root).answer({"do": "remove", "key": one["key"]})
    assert (done["state"], done["said"]) == ("failed", "image is in use by a container")
    assert (tmp_path / "bin/podman.tags").read_text() == "x:1\ny:1\n"


def test_only_what_was_brought_is_noted_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has pulled ``y:1`` by hand, and keeps it when brought images are removed."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    other = "b" * 64
    podman = (
        f'case "$*" in *Architecture*y:1) echo {other} {machine};; *Architecture*) echo {ID} {machine};; '
        f"""*Size*) echo '{ID} 9 ["x:1"]'; echo '{other} 9 ["y:1"]';; run*) echo none;; ps*) ;; esac"""
    )
    images = with_runtime(tmp_path, monkeypatch, podman=podman)
    pulls: dict[str, Any] = {"do": "pull", "image": "x:1", "program": f"{tmp_path}/bin/podman"}
    while images.answer(pulls)["state"] == "working":
        pass
    look(images, uses=True)
    look(images, uses=True, image="y:1")
    listed = Images(images.root).answer({"do": "list"})["images"]
    assert {one["names"][0]: one["brought"] for one in listed} == {"x:1": True, "y:1": False}


def test_a_run_keeps_all_images_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = with_runtime(tmp_path, monkeypatch, podman="exit 1")
    store, run = images._store, "calm-otter-3f9a"
    folder = Path(images.root, "runs", run)
    folder.mkdir(parents=True)
    monkeypatch.setattr(run_lock, "is_alive", lambda run_dir: True)
    for image_id in (ID, "b" * 64, ID):
        store.note("podman", "podman", "x:1", image_id, run, False)
    keys = os.listdir(os.path.join(images.root, "images", "used"))
    assert len(keys) == 2
    for key in keys:
        done = images.answer({"do": "remove", "key": key})
        assert (done["state"], done.get("by")) == ("used", [f"run {run}"])
    for link in folder.iterdir():
        link.unlink()
    (folder / "image").symlink_to(Path(images.root, "images", "used", keys[0]))
    done = images.answer({"do": "remove", "key": keys[0]})
    assert done["state"] == "used", "the link that an earlier version has made counts"
