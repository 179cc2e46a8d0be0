"""Which processes of a run are in containers, beside them, or their runtime's; and what is removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.processes import container_list
from launcher.agent.supervisor import contained, requests
from launcher.agent.supervisor.children import Children
from launcher.agent.supervisor.contained import Containers

pytestmark = pytest.mark.thorough
SLEEP = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, in which its supervisor is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    every: list[subprocess.Popen[bytes]] = []
    yield every
    for one in every:
        one.kill()
        one.communicate()


def spec(program: Path | str, runtime: str = "podman") -> Any:
    nothing: Any = {"groups": [], "ulimits": [], "mounts": [], "devices": []}
    about = {"runtime": runtime, "program": str(program), "image": "x", "user": "0:0"}
    more = {"rootless": False, "ipc": True, "gpus": "", "home": "/h", "hosts": "/etc/hosts"}
    return {**nothing, **about, **more}


def process(key: str, folder: Path, **more: Any) -> Any:
    env = {"LAUNCHER_RUN_DIR": str(folder)}
    return {"key": key, "argv": ["true"], "env": env, "cwd": "/", **more}


def test_a_runtime_is_told_from_programs_beside_it(
    folder: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    containers = Containers("run", "gpu1", 0)
    argv, env = containers.launch(process("a-0", folder, container=spec("podman")), {"X": "1"}, {})
    (name,) = [argv[n + 1] for n, word in enumerate(argv) if word == "--name"]
    assert name in env.values(), "what a client starts outside and leaves alone bears its name"
    assert not [word for word in argv if "LAUNCHER_CONTAINER" in word], "and the container does not"
    cases = {
        "client": (SLEEP, {}),
        "left by the client": (SLEEP, env),
        "conmon": ([*SLEEP, "-n", name], {}),
        "program": (SLEEP, {}),
    }
    pids = {}
    for case, (words, more) in cases.items():
        one = subprocess.Popen(words, env={**os.environ, **more}, stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout
        one.stdout.readline()
        pids[case] = one.pid
    found = containers.programs(list(pids.values()), [pids["client"]])
    assert found == [pids["program"]]
    containers.remove()


def test_containers_of_several_runtimes_are_removed_by_each(folder: Path) -> None:
    programs = [folder / "podman", folder / "docker"]
    for program in programs:
        program.write_text('#!/bin/sh\necho "$@" >>"$0.said"\n')
        program.chmod(0o755)
    containers = Containers("run", "gpu1", 0)
    for key, program in (("a-0", programs[0]), ("b-0", programs[1]), ("c-0", programs[0])):
        wanted = spec(program, program.name)
        containers.launch(process(key, folder, container=wanted), {}, {})
    containers.launch(process("d-0", folder, container=spec("bwrap", "bwrap")), {}, {})
    assert container_list.remove(".")
    said = [(folder / f"{program.name}.said").read_text().split() for program in programs]
    assert [word[-5:] for word in said[0][-2:]] == ["0-a-0", "0-c-0"]
    assert [word[-5:] for word in said[1] if word.startswith("launcher-")] == ["0-b-0"]
    programs[1].write_text("#!/bin/sh\nexit 1\n")
    assert not container_list.remove("."), "one of them keeps what it has"


def test_a_list_of_an_earlier_version_is_read(folder: Path) -> None:
    program = folder / "podman"
    program.write_text('#!/bin/sh\necho "$@" >>"$0.said"\n')
    program.chmod(0o755)
    about = {"spec": {"runtime": "podman", "program": str(program)}, "names": ["launcher-a"]}
    (folder / "containers").write_text(json.dumps(about))
    container_list.end(str(folder))
    assert (folder / "podman.said").read_text().endswith(" launcher-a\n")
    assert not (folder / "containers").exists()


def test_a_container_of_another_run_is_not_ours(
    folder: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs have processes of the same names, and /proc shows those of all."""
    containers = Containers("run", "gpu1", 0)
    containers.launch(process("a-0", folder, container=spec("podman")), {}, {})
    pids = []
    for run in (folder / "other", folder):
        words = [*SLEEP, "launcher", "/bin", f"{run}/logs/attempt-0/a-0.out", "x"]
        one = subprocess.Popen(words, stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout
        one.stdout.readline()
        pids.append(one.pid)
    monkeypatch.setattr(contained, "nested", lambda known: [one for one in pids if one in known])
    assert containers.first("a-0") == pids[1]
    assert containers.first("b-0") is None
    started[1].kill()
    started[1].wait()
    assert containers.first("a-0") is None
    containers.remove()


@pytest.mark.parametrize(
    ("below", "asks"),
    [
        ("", False),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", False),
        ("signal.signal(signal.SIGTERM, lambda *_: None)", True),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", True),
    ],
    ids=["nothing", "what guards the container", "a program", "one that dies of it"],
)
def test_a_program_that_has_not_begun_is_asked_later(
    folder: Path,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    below: str,
    asks: bool,
) -> None:
    """Else what begins behind that would not know of it, and be killed after the grace."""
    containers = Containers("run", "gpu1", 0)
    containers.launch(process("a-0", folder, container=spec("podman")), {}, {})
    script = f"import os, signal, time\nif {below!r} and not os.fork():\n    {below or 'pass'}\n"
    script += (
        f"    print(1, flush=True); time.sleep(60)\nif not {below!r}:\n    print(1, flush=True)\n"
    )
    words = [sys.executable, "-c", script + "time.sleep(60)", "launcher", "/bin"]
    one = subprocess.Popen(
        [*words, f"{folder}/logs/attempt-0/a-0.out"], stdout=subprocess.PIPE, start_new_session=True
    )
    started.append(one)
    assert one.stdout
    one.stdout.readline()
    monkeypatch.setattr(contained, "nested", lambda known: [one.pid] if one.pid in known else [])
    try:
        asked = containers.asked_of("a-0")
        assert (asked[:1] == [one.pid] and len(asked) == 2) if asks else asked == []
    finally:
        os.killpg(one.pid, signal.SIGKILL)
        containers.remove()


def test_a_setup_in_another_image_has_an_exit_code_of_its_own(folder: Path) -> None:
    containers = Containers("run", "gpu1", 0)
    (folder / "containers.codes" / "0-setup-0").write_text("0\n")
    containers.launch(process("setup-0", folder, container=spec("podman")), {}, {})
    assert containers.exit_code("setup-0", 125) == 125
    assert containers.exit_code("plain-0", 3) == 3


def test_a_stage_without_images_has_no_containers(folder: Path) -> None:
    children = Children("run", "gpu1", [])
    request: Any = {"op": "start", "run": "run", "stage": "run", "attempt": 0, "path": ["/own"]}
    plain = process("b-0", folder)
    children.prepare({**request, "processes": [plain]})
    assert children.containers is None
    assert "HOME" in children.environment(plain)
    inside = process("a-0", folder, container=spec("podman"), path=["/in"])
    children.prepare({**request, "processes": [plain, inside], "secrets": {"S": "1"}})
    assert children.containers is not None
    assert children.environment(inside) == {"S": "1", **inside["env"]}, "an image has its own"
    argv, _ = children.containers.launch(inside, {}, {})
    assert "/in" in argv
    children.contain(False)


def test_an_image_that_a_request_names_for_all_is_that_of_each_process(folder: Path) -> None:
    """So do launchers whose runs are in one image."""
    plain: Any = {"path": ["/own"], "own_path": "/job", "container": spec("podman")}
    start = {"stage": "run", "attempt": 0, "processes": [process("a-0", folder)], **plain}
    whole: Any = {"op": "start", **json.loads(json.dumps(start))}
    assert requests.checked(whole) == "start"
    (its,) = whole["processes"]
    assert (its["container"], its["path"]) == (spec("podman"), ["/own", "/job"])
    children = Children("run", "gpu1", [])
    children.prepare(whole)
    assert children.containers is not None
    children.contain(False)
    ticket = {"number": 1, "hosts": 1, "shares": [1]}
    waits: Any = {
        "op": "wait",
        "ticket": ticket,
        "gpus": [],
        "names": {},
        "tokens": {},
        "ports": [],
    }
    waits["start"] = json.loads(json.dumps(start))
    assert requests.checked(waits) == "wait"
    assert waits["start"]["processes"][0]["container"] == spec("podman")
    gang = {"hosts": ["gpu1"], "address": "", "port": 1, "key": ""}
    gathers: Any = {"op": "gather", "gang": gang, "gpus": {}, "names": {}, "ports": []}
    gathers["starts"] = {"gpu1": json.loads(json.dumps(start))}
    assert requests.checked(gathers) == "gather"
    assert gathers["starts"]["gpu1"]["processes"][0]["container"] == spec("podman")
    whole["container"] = {"runtime": "podman"}
    assert requests.checked({"op": "claim", "gpus": [], "start": 5, "starts": "x"}) == "claim"
    with pytest.raises(requests.Refused, match=r"container\.program is missing"):
        requests.checked(whole)
