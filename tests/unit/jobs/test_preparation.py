"""What bash prepares in front of a process, by a real bash. ``module`` and ``conda`` are fakes, named so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.jobs import preparation
from launcher.jobs.preparation import prepared, visiting
from launcher.spec.environments import Environment
from launcher.spec.inventory import load as load_inventory
from launcher.spec.model import Host, Job, Node, Process

#: A FAKE of Environment Modules: it knows "cuda" and "nccl" alone.
FAKE = """
module() {
  case $2 in cuda/12.4|nccl) export LOADED="$LOADED $1:$2";; *) echo "no $2" >&2; return 1;; esac
}
"""
#: A FAKE of conda: what ``conda shell.posix activate PREFIX`` prints, with a mark of its own.
FAKE_CONDA = """#!/bin/sh
[ "$1 $2" = "shell.posix activate" ] || exit 2
echo "PS1='(x) '"
echo "export PATH='$3/bin:$PATH'"
echo "export CONDA_PREFIX='$3'"
echo "export CONDA_SHLVL='1'"
echo "export BY='conda'"
for each in "$3"/etc/conda/activate.d/*.sh; do echo ". '$each'"; done
"""
SHOW = ("sh", "-c", 'echo "ran$LOADED $ORDER"')


def _node(host: Host, python: str = "python3") -> Node:
    return Node(host, 0, 1, 0, python=python)


def _ran(job: Job, host: Host, visits: bool = False) -> tuple[int, str, str]:
    if visits:
        argv: tuple[str, ...] = (*visiting(job, _node(host)), *SHOW)
    else:
        argv = prepared(Process("rank-0", 0, SHOW, {}), job, _node(host)).argv
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _host(prepare: str = FAKE) -> Host:
    return Host("gpu1", prepare=prepare)


def test_host_then_modules_then_job() -> None:
    host = _host(f"{FAKE}echo hi; ORDER=host")
    job = Job(("x",), modules=("cuda/12.4", "nccl"), prepare='export ORDER="$ORDER job $LOADED"')
    expected = "ran load:cuda/12.4 load:nccl host job  load:cuda/12.4 load:nccl\n"
    assert _ran(job, host) == (0, f"hi\n{expected}", "")
    assert _ran(job, host, visits=True) == (0, expected, "hi\n")  # output of a visitor is its own


@pytest.mark.parametrize(
    ("job", "host", "code", "said"),
    [
        ({"modules": ("cuda/13",)}, _host(), 1, "no cuda/13\nlauncher: modules: cuda/13 cannot be"),
        ({"prepare": "(exit 3)"}, Host("gpu1"), 3, "launcher: prepare: ended with exit code 3"),
        ({}, _host("(exit 4)"), 4, "prepare: of gpu1 in the inventory ended with exit code 4"),
        (
            {"environment": Environment(conda="/none/x")},
            Host("gpu1"),
            1,
            "launcher: environment: there is no Python in",
        ),
    ],
)
def test_a_process_does_not_start_behind_a_failure_and_a_visitor_does(
    job: dict[str, Any], host: Host, code: int, said: str
) -> None:
    wanted = Job(("x",), **job)
    found, out, err = _ran(wanted, host)
    assert (found, out) == (code, "")
    assert said in err
    found, out, err = _ran(wanted, host, visits=True)
    assert (found, out.startswith("ran")) == (0, True)
    assert said in err


@pytest.mark.parametrize("visits", [False, True])
@pytest.mark.parametrize(
    ("lines", "code", "said"), [("exit 0", 1, "code 0"), ("set -e\n(exit 3)\n:", 3, "code 3")]
)
def test_what_exits_before_the_command_starts_has_not_succeeded(
    lines: str, code: int, said: str, visits: bool
) -> None:
    found = _ran(Job(("x",), prepare=lines), Host("gpu1"), visits)
    line = f"launcher: prepare: ended with exit {said} before the command could start\n"
    assert found == (code, "", line)
    found = _ran(Job(("x",)), _host(lines), visits)
    assert found == (code, "", line.replace("prepare:", "prepare: of gpu1 in the inventory"))


def test_without_any_of_it_nothing_stands_in_front() -> None:
    process, node = Process("rank-0", 0, SHOW, {}), _node(Host("gpu1"))
    assert prepared(process, Job(("x",)), node) is process
    for front in (preparation.visiting, preparation.for_setup, preparation.on_trial):
        assert front(Job(("x",)), node) == ()
    assert preparation.again(Job(("x",)), node) == ""
    assert preparation.command_of(process) == SHOW


def test_an_inventory_says_it() -> None:
    inventory = load_inventory("defaults: {prepare: module use /opt/mod}\nhosts: [gpu1]\n", "i")
    assert inventory.hosts[0].prepare == "module use /opt/mod"


# -- environments


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """An environment as conda makes it: its Python, its own variables, and a script."""
    place = tmp_path / "base" / "envs" / "my train"
    for folder in ("bin", "conda-meta", "etc/conda/activate.d", "etc/conda/env_vars.d"):
        (place / folder).mkdir(parents=True)
    (place / "bin/python").symlink_to(sys.executable)
    (place / "conda-meta/state").write_text(
        '{"env_vars": {"OWN": "it\'s $HOME", "GONE": "***unset***", "a b": "no"}}'
    )
    (place / "etc/conda/env_vars.d/pkg.json").write_text('{"OWN": "weaker", "PACKAGE": "1"}')
    scripts = {
        "a.sh": "export LIBRARY_AT=$CONDA_PREFIX/lib; false",
        "b.sh": 'ORDER="$LIBRARY_AT b"',
    }
    for name, text in scripts.items():
        (place / "etc/conda/activate.d" / name).write_text(f"{text}\nexport ORDER\n")
    return place


def _with(
    words: tuple[str, ...], tmp_path: Path, command: str, **env: str
) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **env}
    argv = [*words, "bash", "-c", command]
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)


def _front(place: Path, kind: str = "conda") -> tuple[str, ...]:
    job = Job(("x",), environment=Environment(**{kind: str(place)}))
    node = _node(Host("gpu1"), f"{place}/bin/python")
    return prepared(Process("rank-0", 0, (), {}), job, node).argv


def test_conda_says_how_its_environment_is_activated(tmp_path: Path, conda: Path) -> None:
    """By the conda that has it; also by one that only an interactive shell would see."""
    show = 'echo "$BY|$CONDA_PREFIX|$ORDER|${PATH%%:*}"'
    expected = f"conda|{conda}|{conda}/lib b|{conda}/bin\n"
    tool = tmp_path / "base/bin/conda"
    tool.parent.mkdir()
    tool.write_text(FAKE_CONDA)
    tool.chmod(0o755)
    done = _with(_front(conda), tmp_path, show)
    assert (done.stdout, done.stderr) == (expected, "")
    other = tmp_path / "elsewhere/bin"
    other.mkdir(parents=True)
    tool.rename(other / "conda")
    (tmp_path / ".bashrc").write_text(
        f"case $- in *i*) ;; *) return;; esac\n"
        f"__conda_setup=\"$('{other}/conda' 'shell.bash' 'hook' 2> /dev/null)\"\n"
    )
    done = _with(_front(conda), tmp_path, show)
    assert (done.stdout, done.stderr) == (expected, "")


@pytest.mark.parametrize("broken", ["", "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n"])
def test_without_a_conda_that_works_the_folder_says_it(
    tmp_path: Path, conda: Path, broken: str
) -> None:
    if broken:
        tool = tmp_path / "base/bin/conda"
        tool.parent.mkdir()
        tool.write_text(broken)
        tool.chmod(0o755)
    show = (
        'echo "$CONDA_PREFIX|$CONDA_DEFAULT_ENV|$CONDA_SHLVL|$CONDA_PROMPT_MODIFIER|$ORDER|'
        '$OWN|${GONE-unset}|$PACKAGE|$(command -v python)"'
    )
    done = _with(_front(conda), tmp_path, show)
    assert done.stdout == (
        f"{conda}|my train|1|(my train) |{conda}/lib b|it's $HOME|unset|1|{conda}/bin/python\n"
    )
    assert done.stderr == ""


def test_micromamba_is_asked_by_its_own_words(tmp_path: Path, conda: Path) -> None:
    tool = tmp_path / ".local/bin/micromamba"  # a FAKE of micromamba
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho \"export CONDA_PREFIX='$3' BY='$1 $2 $4 $5'\"\n")
    tool.chmod(0o755)
    done = _with(_front(conda), tmp_path, 'echo "$BY"')
    assert done.stdout == "shell activate --shell posix\n"


def test_a_virtual_environment_is_activated(tmp_path: Path) -> None:
    """A real one; also after it was moved, when its script names another place."""
    place = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    with (place / "bin/activate").open("a") as file:
        file.write("export MINE=yes\n")
    show = 'echo "$MINE|$VIRTUAL_ENV|$(command -v python)|${PYTHONHOME-unset}"'
    done = _with(_front(place, "venv"), tmp_path, show, PYTHONHOME="/nowhere")
    assert done.stdout == f"yes|{place}|{place}/bin/python|unset\n"
    moved = place.rename(tmp_path / "moved")
    done = _with(_front(moved, "venv"), tmp_path, show)
    assert done.stdout == f"yes|{moved}|{moved}/bin/python|unset\n"


def test_the_environment_comes_behind_modules_and_before_prepare(
    tmp_path: Path, conda: Path
) -> None:
    """What a module puts on PATH does not hide the environment's Python."""
    fake = 'module() { PATH=/modules/$2:$PATH; }; echo "host $CONDA_PREFIX"'
    job = Job(
        ("x",),
        environment=Environment(conda=str(conda)),
        modules=("python/3.9",),
        prepare='echo "job $CONDA_DEFAULT_ENV"',
    )
    node = _node(Host("gpu1", prepare=fake), f"{conda}/bin/python")
    show = 'echo "${PATH%:/usr/bin:/bin}"'
    process = Process("rank-0", 0, ("bash", "-c", show), {})
    done = _with(prepared(process, job, node).argv, tmp_path, show)
    path = f"{conda}/bin:/modules/python/3.9"
    assert done.stdout == f"host \njob my train\n{path}\n"
    assert preparation.command_of(prepared(process, job, node)) == process.argv
    shown = ("prepare: of gpu1", "module load python/3.9", f"conda environment {conda}", "prepare:")
    assert preparation.behind(job, node.host) == shown
    # A setup has the environment, and may make what `prepare:` wants.
    done = _with(preparation.for_setup(job, node), tmp_path, show)
    assert done.stdout == f"host \n{path}\n"
    # A visitor finds launcher's own programs before those of the environment.
    done = _with(preparation.visiting(job, node, first="/run/relay"), tmp_path, show)
    assert done.stdout == f"/run/relay:{path}\n"


def test_a_trial_says_what_fails(tmp_path: Path, conda: Path) -> None:
    """On stdout, where the agent reads it; the program behind it does not run then."""
    job = Job(("x",), environment=Environment(conda=str(conda)), modules=("cuda/13",))
    words = preparation.on_trial(job, _node(_host(), f"{conda}/bin/python"))
    done = _with(words, tmp_path, "echo found")
    assert done.stdout.endswith("no cuda/13\nlauncher: modules: cuda/13 cannot be loaded here\n")
    (conda / "bin/python").unlink()
    job = Job(("x",), environment=Environment(conda=str(conda)))
    words = preparation.on_trial(job, _node(_host(), f"{conda}/bin/python"))
    done = _with(words, tmp_path, "echo found")
    assert done.stdout == f"launcher: environment: there is no Python in {conda}\n"


def test_a_shell_gets_it_again(tmp_path: Path, conda: Path) -> None:
    """Behind startup files that activated another environment; and nothing of ours is left in it."""
    job = Job(("x",), environment=Environment(conda=str(conda)))
    lines = preparation.again(job, _node(Host("gpu1"), f"{conda}/bin/python"))
    show = 'eval "$AGAIN"; echo "$CONDA_PREFIX|$ORDER"; compgen -A function; compgen -v | grep laun'
    done = _with((), tmp_path, show, AGAIN=lines, CONDA_PREFIX="/other", CONDA_SHLVL="2")
    assert done.stdout == f"{conda}|{conda}/lib b\n"


@pytest.mark.skipif(
    not Path("/usr/share/modules/init/bash").exists(), reason="there is no environment-modules here"
)
def test_modules_are_there_for_whoever_asks_first(tmp_path: Path) -> None:
    """An activate that somebody has changed, or a shell below the job; nobody else waits for them."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    activate, job = (
        tmp_path / "bin" / "activate",
        Job(("x",), environment=Environment(venv=str(tmp_path))),
    )
    node = _node(Host("gpu1"), str(tmp_path / "bin" / "python"))

    def said(script: str) -> str:
        argv = prepared(Process("rank-0", 0, ("bash", "-c", script), {}), job, node).argv
        env = {"PATH": "/usr/bin:/bin"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    activate.write_text(f"export VIRTUAL_ENV={tmp_path}\n")
    assert said("echo ${MODULESHOME:-not asked}") == "not asked"
    assert said("module --version >/dev/null 2>&1; echo ${MODULESHOME:-not asked}") != "not asked"
    activate.write_text(f"export VIRTUAL_ENV={tmp_path}\nmodule load null\n")
    assert said("echo $LOADEDMODULES") == "null"


#: What a site may have in its file of modules: no variable is there of itself, and its last line fails.
START = """
[ "$NOBODY_HAS_SET_THIS" = 1 ] && export NOTHING=
declare -x WHERE=/opt/modules
module() { echo "module $* of ${WHERE-}"; }
false
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have modules as :data:`START` defines them."""
    start = tmp_path / "modules.sh"
    start.write_text(START)
    text = preparation._LATER.replace("/etc/profile.d/modules.sh", str(start))
    monkeypatch.setattr(preparation, "_LATER", text)


@pytest.mark.parametrize("strict", ["", "set -e", "set -u", "set -euo pipefail"])
def test_a_strict_script_may_ask_first_for_modules(
    site: None, tmp_path: Path, conda: Path, strict: str
) -> None:
    """What a site's file of modules does not bear is not on meanwhile, and is again behind it."""
    show = f"{strict}\nmodule load cuda; module list >/dev/null; echo $-; echo behind"
    done = _with(_front(conda), tmp_path, show)
    assert (done.returncode, done.stderr) == (0, "")
    loaded, options, last = done.stdout.splitlines()
    assert loaded.startswith("module load cuda of")
    assert last == "behind"
    assert set("eu") & set(options) == set("eu") & set(strict.removeprefix("set"))


def test_what_a_file_of_modules_declares_is_there(site: None, tmp_path: Path) -> None:
    """For what the job prepares, and for its processes; also in a run that another one starts."""
    job = Job(("x",), prepare="module load cuda")
    front = prepared(Process("rank-0", 0, (), {}), job, _node(Host("gpu1"))).argv
    done = _with((*front, *front), tmp_path, "echo $WHERE")
    assert done.stdout == "module load cuda of /opt/modules\n" * 2 + "/opt/modules\n"
