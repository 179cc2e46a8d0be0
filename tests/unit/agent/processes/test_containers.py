"""How a command becomes that of a container runtime; and what the first process in a container does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.agent.base.messages import ContainerSpec
from launcher.agent.processes import containers
from launcher.agent.processes.containers import Contained


def spec(runtime: str, **more: object) -> ContainerSpec:
    values = {
        "runtime": runtime,
        "program": f"/usr/bin/{runtime}",
        "image": "abc",
        "user": "1000:1000",
        "groups": [44, 109],
        "ulimits": ["memlock=-1:-1"],
        "rootless": True,
        "ipc": True,
        "mounts": ["/w:/w", "/data:/data:ro"],
        "devices": ["/dev/infiniband"],
        "gpus": "cdi",
        "home": "/w/home",
        "hosts": "/etc/hosts",
    }
    return {**values, **more}  # type: ignore[return-value, typeddict-item]


WHAT = Contained(
    ["python", "train.py"],
    {"RANK": "3", "TOKEN": "secret", "LD_PRELOAD": "x.so"},
    "/w/runs/r/code",
    ["/w/runs/r/bin"],
    ("/w/o", "/w/e", "/w/f", "/w/c"),
)


def made(runtime: str, what: Contained = WHAT, **more: object) -> tuple[list[str], dict[str, str]]:
    return containers.command(spec(runtime, **more), what, "name", "launcher.run=r", {"memory": 99})


def has(argv: list[str], *words: str) -> bool:
    """Return whether these words stand in an argv one behind the other."""
    return any(tuple(argv[n : n + len(words)]) == words for n in range(len(argv)))


@pytest.mark.parametrize("runtime", containers.RUNTIMES)
def test_a_container_has_what_the_process_has_outside(runtime: str) -> None:
    argv, env = made(runtime)
    assert argv[0] == f"/usr/bin/{runtime}"
    assert argv[-2:] == ["python", "train.py"]
    assert "/w/runs/r/code" in argv
    assert any("/data" in word for word in argv)
    assert any(word.startswith("/etc/hosts") for word in argv)
    assert "secret" in env.values()
    assert not [word for word in argv if "secret" in word]  # everybody can read arguments


def test_podman_keeps_user_network_limits_and_control_group() -> None:
    argv, env = made("podman")
    assert {"--network=host", "--ipc=host", "--uts=host", "--cgroups=disabled"} <= set(argv)
    assert {"--userns=keep-id", "--pull=never", "--rm", "--log-driver=none"} <= set(argv)
    assert has(argv, "--ulimit", "host")
    assert has(argv, "--user", "1000:1000")
    assert has(argv, "--group-add", "keep-groups")
    assert has(argv, "--device", "nvidia.com/gpu=all")
    assert has(argv, "--device", "/dev/infiniband")
    assert has(argv, "--volume", "/data:/data:ro")
    assert has(argv, "--name", "name")
    assert has(argv, "--label", "launcher.run=r")
    assert has(argv, "--entrypoint", "sh", "abc")
    assert env == {"RANK": "3", "TOKEN": "secret"}
    # what the client would follow itself is for the container alone
    assert has(argv, "--env", "LD_PRELOAD=x.so")
    assert has(argv, "--env", "RANK")
    argv, _ = made("podman", rootless=False, gpus="", ipc=False)
    assert not {"--userns=keep-id", "--ipc=host", "nvidia.com/gpu=all"} & set(argv)
    assert has(argv, "--volume", "/dev/shm:/dev/shm")


def test_docker_gets_groups_limits_and_gpus_by_its_own_options() -> None:
    argv, _ = made("docker")
    assert has(argv, "--group-add", "44", "--group-add", "109")
    assert has(argv, "--ulimit", "memlock=-1:-1")
    assert has(argv, "--memory", "99")
    assert has(argv, "--gpus", "all")
    assert not {"--userns=keep-id", "--cgroups=disabled", "--no-hosts"} & set(argv)


def test_apptainer_passes_variables_by_its_prefix() -> None:
    argv, env = made("apptainer", image="/srv/x.sif")
    assert argv[1] == "exec"
    assert {"--cleanenv", "--no-eval", "--pid", "--nv"} <= set(argv)
    assert has(argv, "--bind", "/data:/data:ro")
    assert has(argv, "--pwd", "/w/runs/r/code")
    assert has(argv, "/srv/x.sif", "sh", "-c")
    assert env["APPTAINERENV_RANK"] == "3"


def test_bwrap_binds_a_folder_that_stays_as_it_is() -> None:
    argv, env = made("bwrap", image="/srv/root")
    assert has(argv, "--ro-bind", "/srv/root", "/")
    assert has(argv, "--ro-bind", "/data", "/data")
    assert has(argv, "--bind", "/w", "/w")
    assert {"--die-with-parent", "--unshare-pid"} <= set(argv)
    assert env["RANK"] == "3"
    login = {"LD_LIBRARY_PATH": "/x", "PATH": "/usr/bin"}
    assert "LD_LIBRARY_PATH" not in containers.client_environment(spec("bwrap"), env, login)
    assert containers.client_environment(spec("podman"), {"A": "1"}, login) == {**login, "A": "1"}


def test_a_visitor_gets_input_and_a_terminal() -> None:
    argv, _ = made("podman", Contained(["sh"], {}, "/", terminal="tty"))
    assert {"--interactive", "--tty"} <= set(argv)
    argv, _ = made("podman", Contained(["sh"], {}, "/", terminal="pipe"))
    assert "--interactive" in argv
    assert "--tty" not in argv


def first(tmp_path: Path, *argv: str, files: tuple[str, str, str, str]) -> int:
    """Run the first process of a container, outside of one."""
    what = Contained(list(argv), {}, "/", [str(tmp_path)], files)
    return subprocess.run(["sh", *what.first], check=False, env=dict(os.environ)).returncode


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("nothing-there", 127)]
)
def test_the_first_process_writes_logs_and_tells_the_exit_code(
    tmp_path: Path, script: str, code: int
) -> None:
    files = (str(tmp_path / "o"), str(tmp_path / "e"), "", str(tmp_path / "c"))
    assert first(tmp_path, "sh", "-c", f"echo $PATH; echo bad >&2; {script}", files=files) == code
    assert (tmp_path / "o").read_text().startswith(f"{tmp_path}:")
    assert (tmp_path / "e").read_text().startswith("bad\n")
    assert (tmp_path / "c").read_text() == f"{code}\n"


def test_the_first_process_waits_for_a_program_that_was_asked_to_stop(tmp_path: Path) -> None:
    files = (str(tmp_path / "o"), str(tmp_path / "e"), "", str(tmp_path / "c"))
    ask = "kill -TERM $PPID; trap 'echo saved; exit 5' TERM; kill -TERM $$; sleep 60"
    assert first(tmp_path, "sh", "-c", ask, files=files) == 5
    assert (tmp_path / "o").read_text() == "saved\n"


def test_containers_are_removed_by_their_names_where_a_runtime_keeps_them() -> None:
    assert containers.removal(spec("podman"), ["a", "b"])[-2:] == ["a", "b"]
    assert containers.removal(spec("docker"), ["a"])[-1] == "a"
    assert containers.removal(spec("bwrap"), ["a"]) == []
