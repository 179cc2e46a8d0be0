"""What README and docs show is true: commands are parsed, files are planned, programs compile.

Commands and programs are executed, and screens compared, by tests/lab/test_typed_pages.py; what other
tests execute, and what nothing does, is in tests/cases/snippets.yaml, which this module keeps honest.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
import yaml
from click.testing import CliRunner

import launcher
from launcher.cli import cli
from launcher.jobs import job_file, settings, sweep_file
from launcher.spec import inventory
from launcher.spec.errors import LauncherError
from support import ROOT, snippets

PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "decisions" not in page.parts),
    *sorted((ROOT / "examples").rglob("*.md")),
]
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
Snippet = tuple[str, str]


def blocks(*languages: str) -> Iterator[Snippet]:
    """Yield a page's name and the text of each block in one of the languages."""
    for page in PAGES:
        for _, language, text in _BLOCK.findall(page.read_text("utf-8")):
            if language in languages:
                yield str(page.relative_to(ROOT)), textwrap.dedent(text)


def commands() -> Iterator[Snippet]:
    """Yield each command line of ours: the lines of ``sh``, and those behind ``$`` of ``console``."""
    for page, text in blocks("sh", "console"):
        for line in re.sub(r"\\\n *", "", text).splitlines():
            line = line.removeprefix("$ ")
            if line.startswith("launcher "):
                yield page, line


COMMANDS = list(dict.fromkeys(commands()))
#: What runs have to be there before, in words of a command: an earlier run, a data set, a plug-in.
_BEFORE = ("--from RUN", "--data corpus train.py", "--framework seeded")
RUNS = [
    (page, line)
    for page, line in COMMANDS
    if line.startswith("launcher run ")
    and not any(words in line for words in _BEFORE)
    and line not in snippets.page_of(page).exits
]


def test_every_block_is_held_to_the_truth() -> None:
    """Most by their reader (tests/lab/test_typed_pages.py); what nothing executes stays little."""
    counts = Counter(snippets.how(block) for block in snippets.blocks())
    assert counts["typed"] > 110, counts
    assert counts["excused"] < 20, counts


def _entries(kind: str) -> list[tuple[str, str, str, str]]:
    """Return reason or test, page, start of the line, and word."""
    table = snippets.cases()[kind]
    return [
        (str(why), page, start, str(word[0]) if word else "")
        for why, lines in table.items()
        for page, start, *word in lines
    ]


@pytest.mark.parametrize(("why", "page", "start", "word"), _entries("excused"))
def test_what_is_excused_is_on_its_page(why: str, page: str, start: str, word: str) -> None:
    assert any(
        f"{line.strip().removeprefix('$ ')}$".startswith(start)
        for block in snippets.blocks_of(page)
        for line in block.text.splitlines()
    )


@pytest.mark.parametrize(("test", "page", "start", "word"), _entries("elsewhere"))
def test_what_another_test_executes_is_there(test: str, page: str, start: str, word: str) -> None:
    test_what_is_excused_is_on_its_page(test, page, start, word)
    assert word in (ROOT / test).read_text()


def test_cases_name_pages_and_their_commands() -> None:
    """A page that has lost a command loses its case."""
    for name, case in snippets.cases()["pages"].items():
        page = snippets.page_of(name)
        typed = {step.command for block in snippets.blocks_of(name) for step in block.steps}
        assert set(page.before) <= {*typed, "", "end"}, name
        assert {*page.exits, *page.talks} <= typed, name
        assert set(page.keep) <= {block.name for block in snippets.blocks_of(name)}, case
    commands = {step.command for block in snippets.blocks() for step in block.steps}
    assert set(snippets.cases()["talks"]) <= commands


def words_of(line: str) -> list[str]:
    words = list(
        itertools.takewhile(
            lambda word: word not in ("<", ">"), shlex.split(line, comments=True)[1:]
        )
    )
    return ["train.py" if word == "..." else word for word in words]


def leaf(words: list[str]) -> None:
    """Parse a command with all its options, as `launcher` does, without calling it."""
    command: click.Command = cli
    context = click.Context(cli, info_name="launcher")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None and command.name == "sweep":  # as its group does
            words, found = ["run", *words], command.get_command(context, "run")
        if found is None and command.invoke_without_command:
            break
        assert found, words
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    made = command.make_context(str(command.name), list(words), parent=context.parent)
    script = made.params.get("command_words")
    assert not script or not script[0].startswith("-"), script


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """An option that is parsed may set a variable for the rest of its command."""
    with mock.patch.dict(os.environ):
        yield


def test_there_are_as_many_as_a_reader_sees() -> None:
    assert len(COMMANDS) > 120
    assert len(RUNS) > 50


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_has_these_options(page: str, line: str) -> None:
    words = words_of(line)
    if words[0] not in ("submit-mpi", "--version"):  # the first is shown for its answer
        leaf(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with what commands name, and hosts that fit them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "inventory.yaml").write_text(
        "hosts:\n"
        "  gpu[01-04]: {gpus: 'A100:8', labels: {rack: a}}\n"
        "  gpu[1-8]: {gpus: 'A100:8'}\n"
        "  big: {gpus: 4}\n"
        "groups: {fast: 'gpu[01-04]'}\n"
    )
    (folder / "lab.yaml").write_text((folder / "inventory.yaml").read_text())
    (folder / "job.yaml").write_text(
        "run: train.py\nnum_nodes: 2\nresources: {nproc_per_node: 2}\n"
    )
    (folder / "job.sbatch").write_text("#!/bin/sh\n#SBATCH --nodes=2\nsrun hostname\n")
    (folder / "hosts.csv").write_text("gpu1\n")
    (folder / "fsdp.yaml").write_text("num_processes: 8\n")
    (folder / "envs").mkdir()
    for described in ("environment.yml", "envs/gpu.yaml"):
        (folder / described).write_text("dependencies: [python]\n")
    for lock in (
        "pixi.toml",
        "pixi.lock",
        "uv.lock",
        "requirements-gpu.txt",
        "train.tar",
        "Dockerfile",
        "docker/Dockerfile",
        "serving/uv.lock",
        "serving/pyproject.toml",
    ):
        (folder / lock).parent.mkdir(exist_ok=True)
        (folder / lock).touch()
    (folder / "wheels").mkdir()
    own = ("trainer", "fit", "cli", "main", "primes", "hvd", "client", "jinit")
    for script in ("train", "evaluate", "analyse", "tune", "train_dist", *own):
        (folder / f"{script}.py").touch()
    return folder


@pytest.mark.parametrize(("page", "line"), RUNS)
def test_a_run_has_a_plan(
    page: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "HF_HOME", "HOST", "_SPARK_AUTH_SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LAUNCHER_HOME", str(folder / "home"))
    (_, *words) = words_of(line)
    at_root = "examples/" in line
    words = [str(folder / "lab.yaml") if word == "inventory/lab.yaml" else word for word in words]
    if at_root and "-i" not in words:
        words = ["-i", str(folder / "inventory.yaml"), *words]
    with contextlib.chdir(ROOT if at_root else folder):
        done = CliRunner().invoke(cli, ["run", "--dry-run", *words], standalone_mode=False)
    assert done.exception is None, (line, done.exception, getattr(done.exception, "hint", ""))


@pytest.mark.parametrize("name", ["sglang_serve", "verl_ppo", "vllm_serve"])
def test_examples_that_need_gpus_have_a_plan(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run nowhere here, and say so. tests/frameworks/test_serving.py runs what vLLM does without."""
    monkeypatch.setenv("LAUNCHER_HOME", str(folder / "home"))
    (folder / "two.yaml").write_text(
        "hosts:\n" + "".join(f"  gpu{n}: {{gpus: 8}}\n" for n in (1, 2))
    )
    place = ROOT / "examples" / name
    words = ["--dry-run", "-i", str(folder / "two.yaml"), str(place / "job.yaml")]
    done = CliRunner().invoke(cli, ["run", *words], standalone_mode=False)
    assert done.exception is None, done.exception
    assert "16 ranks" in done.output or "2 hosts, 2 ranks" in done.output, done.output
    assert " needs GPUs: it was not run here.**" in (place / "README.md").read_text()


def read_as(text: str) -> str:
    """Return what a YAML text is for us. Raises the last error."""
    kinds: dict[str, Callable[[str], object]] = {
        "inventory": lambda text: inventory.load(text, "x"),
        "hosts": lambda text: inventory.load(f"hosts:\n  {text}", "x"),
        "defaults": lambda text: inventory.load(f"{text}\nhosts: [a]\n", "x"),
        "job": lambda text: job_file.load(text, "x"),
        "keys of a job": lambda text: job_file.load(f"{text}\nrun: train.py\n", "x"),
        "sweep": lambda text: sweep_file.load(text, "x"),
        "settings": lambda text: settings.load(text, "x"),
    }
    why: list[str] = []
    for kind, read in kinds.items():
        try:
            read(text)
        except LauncherError as error:
            why.append(f"{kind}: {error}")
        else:
            return kind
    raise AssertionError("\n".join(why))


@pytest.mark.parametrize(("page", "text"), list(blocks("yaml")))
def test_yaml_is_a_file_of_ours(page: str, text: str) -> None:
    if "runs-on:" not in text:
        assert read_as(text)
        return
    (job,) = yaml.safe_load(text)["jobs"].values()  # a workflow of GitHub
    ours = [step["run"] for step in job["steps"] if step.get("run", "").startswith("launcher ")]
    assert ours
    for line in ours:
        leaf(words_of(line))


#: What plans a file of ours, or shows what it says.
PLANS = {
    "job": "run --dry-run shown.yaml",
    "keys of a job": "run --dry-run shown.yaml",
    "sweep": "sweep --dry-run shown.yaml",
    "inventory": "inventory ls -i shown.yaml",
    "hosts": "inventory ls -i shown.yaml",
    "defaults": "inventory ls -i shown.yaml",
    "settings": "config",
}
#: What makes a file of an excerpt.
WHOLE = {
    "keys of a job": "{}\nrun: train.py\n",
    "hosts": "hosts:\n  {}",
    "defaults": "{}\nhosts: [a]\n",
}


@pytest.mark.parametrize(
    ("page", "text"), [(page, text) for page, text in blocks("yaml") if "runs-on:" not in text]
)
def test_yaml_has_a_plan(
    page: str, text: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job file and a sweep are planned, an inventory is listed, and settings are shown."""
    kind = read_as(text)
    text = WHOLE.get(kind, "{}").replace("{}", text)
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shutil.copytree(folder, tmp_path / "project")
    shutil.copy(folder / "lab.yaml", tmp_path)
    for name in re.findall(r"credential: ([\w-]+)", text):
        CliRunner().invoke(cli, ["credential", "set", name, "--from-env"], standalone_mode=False)
    place = tmp_path / "config" / "launcher" if kind == "settings" else tmp_path / "project"
    place.mkdir(parents=True, exist_ok=True)
    (place / ("config.yaml" if kind == "settings" else "shown.yaml")).write_text(text)
    with contextlib.chdir(tmp_path / "project"):
        done = CliRunner().invoke(cli, PLANS[kind].split(), standalone_mode=False)
    assert done.exception is None, (kind, done.exception, getattr(done.exception, "hint", ""))


@pytest.mark.parametrize(("page", "text"), list(blocks("json")))
def test_json_is_read_and_tasks_are_commands(page: str, text: str) -> None:
    for task in json.loads(text).get("tasks", ()):
        assert task["command"] == "launcher"
        leaf(task["args"])


@pytest.mark.parametrize(("page", "text"), list(blocks("toml")))
def test_toml_is_read(page: str, text: str) -> None:
    assert tomllib.loads(text)


def test_the_guide_of_plug_ins_shows_the_example() -> None:
    (shown,) = (text for page, text in blocks("toml") if page.endswith("own-plugins.md"))
    project = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text())[
        "project"
    ]
    assert tomllib.loads(shown)["project"]["entry-points"] == project["entry-points"]


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_a_program_compiles_and_names_what_we_have(page: str, text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "launcher":
            assert hasattr(launcher, node.attr), node.attr


def test_make_has_the_targets_that_pages_name() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, text in blocks("sh", "", "console"):
        for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, (page, target)
