"""Images on hosts ahead of runs and after them, by a real podman: ls, load, rm, df and prune."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher, of_runs
from support.hosts import need_lab
from support.images import (
    command_for,
    containers_on,
    own_storage,
    podman_hosts,
    write_folder,
    write_image,
)

pytestmark = [
    pytest.mark.skipif(
        shutil.which("podman") is None,
        reason="needs podman (sh tests/support/install-system-packages.sh frameworks)",
    ),
    pytest.mark.timeout(300),
]
IMAGES = "/root/.launcher/host/images"
#: The image has links into /usr, and no programs of its own.
USR = ("--mount", "/usr:ro")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    need_lab()
    with podman_hosts(tmp_path_factory.mktemp("lab")) as standing:
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    with command_for(hosts, tmp_path) as made:
        yield made
    for host in hosts.hosts.values():
        host.run("podman", "rm", "--force", "--time", "0", "--all")
        host.run("podman", "rmi", "--all", "--force")
        host.run("rm", "-rf", IMAGES)


def image(launcher: Launcher, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = launcher.call("image", *words, "-i", str(launcher.inventory))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def listed(launcher: Launcher, host: str = "lab1") -> list[dict[str, Any]]:
    value = json.loads(image(launcher, "ls", "--json").stdout)
    assert not value["failed"]
    found: list[dict[str, Any]] = value["hosts"][host]["images"]
    return found


def test_an_image_is_brought_ahead_of_a_run_which_then_finds_it(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    write_image(launcher.work / "tiny.tar", "tiny:1")
    loaded = image(launcher, "load", *USR, "tiny.tar")
    assert "tiny.tar (" in loaded.stderr
    assert "was brought to 2 hosts (lab[1-2])" in loaded.stderr
    assert not list((launcher.home / "images").glob("*"))
    assert not hosts.hosts["lab1"].run("sh", "-c", f"ls {IMAGES}/*.tar", check=False).stdout
    (head, row) = image(launcher, "ls").stdout.splitlines()
    assert head.split() == ["image", "id", "size", "runtime", "hosts", "used", "now"]
    assert row.startswith("tiny:1  ")
    assert "podman   lab[1-2]" in row
    words = ("--hosts", "lab1", "--image", "tiny.tar", *USR, "--framework", "env")
    ran = launcher.run(*words, "true")
    assert ran.code == 0, ran.err
    assert ", brought to " not in ran.err
    hosts.hosts["lab2"].run("podman", "rmi", "tiny:1")  # by hand
    assert not listed(launcher, "lab2")


def test_hosts_get_an_image_as_another_has_it(
    launcher: Launcher, hosts: labs.Lab, tmp_path: Path
) -> None:
    """The first host has it; the other has another one of that name, of an earlier day. Then this machine
    has a third one."""
    ids = {}
    for host, text in (("lab1", "new"), ("lab2", "old")):
        path = launcher.work / f"{text}.tar"
        ids[text] = write_image(path, "localhost/pushed:1", word=text)
        image(launcher, "load", *USR, path.name, "--hosts", host)
    pushed = image(launcher, "push", *USR, "localhost/pushed:1")
    assert "localhost/pushed:1 of lab1 (" in pushed.stderr
    assert "was brought to 1 host (lab2), and was on lab1 before" in pushed.stderr
    value = json.loads(image(launcher, "push", *USR, "localhost/pushed:1", "--json").stdout)
    assert (value["from"], value["brought"], value["had"]) == ("lab1", [], ["lab1", "lab2"])
    assert value["ids"] == dict.fromkeys(("lab1", "lab2"), ids["new"])
    shown = ("image", "inspect", "--format", "{{.Id}}", "localhost/pushed:1")
    assert hosts.hosts["lab2"].run("podman", *shown).stdout.decode().strip() == ids["new"]
    own = replace(launcher, env=own_storage(tmp_path / "storage"))
    third = write_image(launcher.work / "third.tar", "localhost/pushed:1", word="third")
    podman = {"env": own.environment(), "capture_output": True}
    subprocess.run(["podman", "load", "-i", launcher.work / "third.tar"], check=True, **podman)
    try:
        pushed = image(own, "push", *USR, "localhost/pushed:1")
    finally:
        subprocess.run(["podman", "system", "reset", "--force"], check=False, **podman)
    assert "localhost/pushed:1 of this machine (" in pushed.stderr
    assert "was brought to 2 hosts (lab[1-2])\n" in pushed.stderr
    for host in ("lab1", "lab2"):
        assert hosts.hosts[host].run("podman", *shown).stdout.decode().strip() == third
    nowhere = image(launcher, "push", "localhost/none:1", code=2)
    assert "no image localhost/none:1 in podman or docker of this machine, nor " in nowhere.stderr
    assert "launcher image load localhost/none:1 has hosts pull it" in nowhere.stderr
    wrong = image(launcher, "push", "./new.tar", code=2)
    assert "launcher image load ./new.tar" in wrong.stderr
    assert not list((launcher.home / "images").glob("*"))


def test_an_image_that_is_used_stays_and_says_by_whom(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    write_image(launcher.work / "tiny.tar", "tiny:1")
    loop = "trap 'exit 0' TERM; sleep 3000 & wait"
    ran = launcher.run(
        "--hosts", "lab1", "--image", "tiny.tar", *USR, "--framework", "env", "--detach", loop
    )
    assert ran.code == 0, ran.err
    run = ran.folder.name
    (mine,) = listed(launcher)
    assert (mine["runs"], mine["containers"], mine["brought"]) == ([run], [], True)
    kept = image(launcher, "rm", "tiny:1", code=1)
    assert f"tiny:1 is used by run {run}, and stays" in kept.stderr
    assert f"launcher stop {run}" in kept.stderr
    launcher.call("stop", "-")
    host.run("podman", "tag", "tiny:1", "localhost/other:2")
    words = ("--cgroups=disabled", "--network=host", "--entrypoint", "sh", "-v", "/usr:/usr:ro")
    host.run("podman", "run", "-d", "--name", "byhand", *words, "tiny:1", "-c", loop)
    kept = image(launcher, "rm", "tiny:1", code=1)
    assert "is used by container byhand, and stays" in kept.stderr
    names = host.run("podman", "image", "ls", "--format", "{{.Repository}}").stdout
    assert sorted(names.split()) == [b"localhost/other", b"localhost/tiny"]
    host.run("podman", "rm", "--force", "--time", "0", "byhand")
    gone = image(launcher, "rm", mine["id"][:12])
    assert gone.stdout.startswith("removed ")
    assert not host.run("podman", "image", "ls", "--quiet").stdout
    assert not of_runs(host)
    assert not containers_on(host)


def test_one_host_that_cannot_have_it_does_not_keep_the_others_from_it(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    write_image(launcher.work / "tiny.tar", "tiny:1")
    far = hosts.hosts["lab2"]
    far.run("mv", "/usr/bin/podman", "/usr/bin/podman.away")
    try:
        failed = image(launcher, "load", *USR, "tiny.tar", "--runtime", "podman", code=1)
        assert "tiny.tar (" in failed.stderr
        assert "was brought to 1 host (lab1)" in failed.stderr
        assert "lab2: image " in failed.stderr
        assert "there is no container runtime that takes" in failed.stderr
    finally:
        far.run("mv", "/usr/bin/podman.away", "/usr/bin/podman")
    write_image(launcher.work / "arm.tar", "arm:1", machine="arm64")
    failed = image(launcher, "load", *USR, "arm.tar", code=1)
    assert "the image is for aarch64, and this host is x86_64" in failed.stderr
    assert not hosts.hosts["lab1"].run("podman", "image", "ls", "-q", "arm:1", check=False).stdout
    unknown = image(launcher, "rm", "tin:1", code=2)
    assert "launcher knows of no image tin:1 on lab[1-2]" in unknown.stderr
    assert "tiny:1" in unknown.stderr


def test_an_image_for_which_a_host_has_no_room_does_not_fill_its_disk(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    write_image(launcher.work / "tiny.tar", "tiny:1", busybox=True)
    host = hosts.hosts["lab1"]
    host.run("mkdir", "-p", IMAGES)
    host.run("mount", "-t", "tmpfs", "-o", "size=1M", "none", IMAGES)
    try:
        failed = image(launcher, "load", *USR, "tiny.tar", "--json", code=1)
        value = json.loads(failed.stdout)
        assert value["brought"] == ["lab2"]
        assert "no space left for launcher's files" in value["failed"]["lab1"]
        assert not host.run("sh", "-c", f"ls {IMAGES}/*.tar", check=False).stdout
    finally:
        host.run("umount", IMAGES)
    image(launcher, "load", *USR, "tiny.tar")


def test_df_counts_what_launcher_brought_and_prune_removes_it(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab1"]
    write_image(launcher.work / "tiny.tar", "tiny:1")
    write_image(launcher.work / "two.tar", "two:1", word="two")
    image(launcher, "load", *USR, "tiny.tar", "--hosts", "lab1")
    host.write("/tmp/two.tar", (launcher.work / "two.tar").read_bytes())
    host.run("podman", "load", "-i", "/tmp/two.tar")  # by hand: it is not launcher's
    ran = launcher.run("--hosts", "lab1", "--image", "two:1", *USR, "--framework", "env", "true")
    assert ran.code == 0, ran.err
    host.write(f"{IMAGES}/{'a' * 64}.tar", b"x" * 100_000)  # a launcher was killed
    left = launcher.home / "images" / "load-1"
    left.mkdir(parents=True)
    (left / "x.tar").write_bytes(b"x" * 100_000)
    there = json.loads(launcher.call("df", "--json", "-i", str(launcher.inventory)).stdout)
    names = [one["name"] for one in there["hosts"]["lab1"]["images"]]
    assert names == ["localhost/tiny:1", f"{'a' * 64}.tar"]
    assert [one["name"] for one in there["here"]["caches"]] == ["load-1"]
    words = ("prune", "-i", str(launcher.inventory), "--older", "0s", "-y")
    pruned = launcher.call(*words)
    assert pruned.returncode == 0, pruned.stderr
    assert "2 images" in pruned.stdout
    assert "1 image that stayed on its way" in pruned.stdout
    names_left = host.run("podman", "image", "ls", "--format", "{{.Repository}}").stdout
    assert names_left == b"localhost/two\n"
    assert not left.exists()
    assert not host.run("sh", "-c", f"ls {IMAGES}/*.tar", check=False).stdout


def test_a_folder_of_the_host_is_listed_and_stays(launcher: Launcher, hosts: labs.Lab) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap (sh tests/support/install-system-packages.sh test)")
    write_folder(hosts.hosts["lab1"], "/srv/root")
    words = ("--hosts", "lab1", "--image", "/srv/root", "--mount", "/usr:ro", "--framework", "env")
    ran = launcher.run(*words, "true")
    assert ran.code == 0, ran.err
    kept = image(launcher, "rm", "/srv/root", code=1)
    assert "/srv/root is a path of the host, and stays" in kept.stderr


def test_check_says_what_a_run_would_and_brings_nothing(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    far = hosts.hosts["lab2"]
    write_image(launcher.work / "tiny.tar", "tiny:1")
    job = launcher.work / "job.yaml"
    text = "run: 'true'\nframework: env\nnum_nodes: 2\nenvironment: %s\n"
    job.write_text(text % "{image: tiny.tar, mounts: ['/usr:ro'], runtime: podman}")
    far.run("mv", "/usr/bin/podman", "/usr/bin/podman.away")
    try:
        found = checked(launcher, "--job", str(job))
        words = ("--image", "tiny.tar", *USR, "--framework", "env")
        ran = launcher.run("--hosts", "lab2", *words, "--runtime", "podman", "true")
    finally:
        far.run("mv", "/usr/bin/podman.away", "/usr/bin/podman")
    assert "a run would bring it to podman" in found["JOB-IMAGE"]["evidence"]
    missing = found["RUNTIME-MISSING"]
    assert (missing["hosts"], missing["level"]) == (["lab2"], "error")
    assert missing["evidence"] in ran.err
    assert missing["evidence"].startswith("there is no container runtime that takes /")
    for host in hosts.hosts.values():
        assert not host.run("podman", "image", "ls", "--quiet").stdout
        assert not host.run("sh", "-c", f"ls {IMAGES}/used", check=False).stdout
    write_image(launcher.work / "arm.tar", "arm:1", machine="arm64")
    job.write_text(text % "{image: arm.tar}")
    (one,) = (f for code, f in checked(launcher, "--job", str(job)).items() if "IMAGE-" in code)
    assert (one["code"], one["hosts"]) == ("IMAGE-MACHINE", ["lab1", "lab2"])
    assert one["evidence"] == "the image is for aarch64, and this host is x86_64"


def test_check_names_a_user_without_ids_where_nobody_else_can_start_images(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab1"]
    host.run("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", "ann")
    text = launcher.inventory.read_text().replace("user: root", "user: ann")
    launcher.inventory.write_text(text)
    assert not {c for c in checked(launcher, "--hosts", "lab1") if c.startswith("RUNTIME")}
    host.run("sed", "-i", "/^ann/d", "/etc/subuid")
    one = checked(launcher, "--hosts", "lab1")["RUNTIME-SUBUID"]
    assert one["level"] == "warning"
    assert (
        "podman has no user IDs for this user in its containers: /etc/subuid has no range"
        in str(one["evidence"])
    )
    assert "usermod --add-subuids" in one["fix"]


def checked(launcher: Launcher, *words: str) -> dict[str, dict[str, Any]]:
    """Return the findings of a check by their codes."""
    place = ("-i", str(launcher.inventory))
    done = launcher.call("check", "--no-pairs", "--json", *words, *place)
    assert done.stdout, done.stderr
    return {one["code"]: one for one in json.loads(done.stdout)["findings"]}
