"""Settings: which keys they have, what is wrong with others, and which need their user's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from launcher.cli.commands.run import command as run
from launcher.jobs import environments, job_file, settings
from launcher.jobs.run_options import OPTIONS
from launcher.spec.errors import DocumentError
from launcher.spec.model import Inventory, Job, Request

TEXT = """\
# said once
pull_every: 1h
prepare: |
  module load cuda
  ulimit -n 4096

envs: {A: 1}
notify: [desktop, "mail me"]
"""


def test_values_lines_and_texts() -> None:
    found = settings.load(TEXT, "config.yaml")
    assert (found["pull_every"].value, found["pull_every"].written) == (3600.0, "1h")
    assert found["notify"].value == ("desktop", "mail me")
    assert (found["prepare"].line, found["envs"].line) == (3, 7)
    assert found["prepare"].text == "prepare: |\n  module load cuda\n  ulimit -n 4096"
    assert found["envs"].written == {"A": "1"}


@pytest.mark.parametrize("text", ["", "# nothing yet\n\n"])
def test_a_file_that_says_nothing(text: str) -> None:
    assert settings.load(text, "config.yaml") == {}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("grace: 5s\npul_every: 1h\n", 'unknown key "pul_every" in settings', "pull_every"),
        ("run: train.py\n", 'unknown key "run"', "job file"),
        ("grace: 5s\nlost_after: soon\n", "not a duration: 'soon'", ""),
        ("grace: 5s\nstall_timeout: 0\n", "must be more than 0", ""),
        ("grace: 5s\non_stall: panic\n", "on_stall must be report or stop", ""),
        ("grace: 5s\ndetach: perhaps\n", "detach must be true or false", ""),
        ("grace: 5s\nnotify: ['']\n", "notify is empty", "desktop"),
        ("grace: 5s\nframework: torhc\n", "torhc", "torch"),
        ("grace: 5s\nlease: 1h\n", 'unknown key "lease"', "--orphan-timeout"),
    ],
)
def test_what_is_wrong_names_file_line_and_a_way_out(text: str, message: str, hint: str) -> None:
    with pytest.raises(DocumentError) as raised:
        settings.load(text, "config.yaml")
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert (raised.value.source, raised.value.line) == ("config.yaml", text.count("\n"))


def test_a_table_of_pyproject_is_read_by_the_same_keys() -> None:
    content = (
        '[project]\nname = "x"\n\n[tool.launcher]\ngrace = "5s"\nnotify = ["desktop",\n "mail"]\n'
    )
    found = settings.load_pyproject(content, "pyproject.toml")
    assert found is not None
    assert (found["grace"].value, found["grace"].line) == (5.0, 5)
    assert found["notify"].text == 'notify = ["desktop", "mail"]', "what is allowed is all of it"
    assert settings.load_pyproject("[project]\nbroken", "x") is None, "not ours to complain about"
    with pytest.raises(DocumentError, match='unknown key "grce"') as raised:
        settings.load_pyproject('[tool.launcher]\ngrce = "5s"\n', "pyproject.toml")
    assert (raised.value.source, raised.value.line) == ("pyproject.toml", 2)


def test_a_job_file_holds_every_option_of_a_run() -> None:
    text = (
        "run: t.py\npull_every: 1m\nlost_after: 2m\norphan_timeout: 3m\nstall_timeout: 4m\n"
        "on_stall: stop\nnotify: desktop\ncheck: false\ndetach: true\nranks: 0,3-5\nraw: true\n"
        "inventory: lab.yaml\ntags: [a, b]\nnote: try it\n"
        "wait: forever\ntime: 2h\npriority: high\nignore_foreign: true\nfrom: run:out\nstdin: true\n"
        "project: team-a\npreemptible: true\nmax_rate: 50MB/s\n"
    )
    found = {name: one.value for name, one in settings.in_a_job(text, "job.yaml").items()}
    assert list(found) == list(dict.fromkeys(found, None))
    assert set(found) == set(OPTIONS)
    assert (found["ranks"], found["check"]) == (frozenset({0, 3, 4, 5}), False)
    assert job_file.load(text, "job.yaml") == {"run": ("t.py",)}, "options are no part of the job"
    with pytest.raises(DocumentError, match="not a duration"):
        job_file.load("run: t.py\npull_every: often\n", "job.yaml")


@pytest.mark.parametrize(
    ("name", "value", "delicate"),
    [
        ("notify", ("desktop",), False),
        ("notify", ("desktop", "rm -rf ~"), True),
        ("notify", ("https://example.com",), True),
        ("secrets", {"AWS_SECRET": None}, True),
        ("raw", True, True),
        ("raw", False, False),
        ("grace", 3.0, False),
    ],
)
def test_what_needs_the_word_of_its_user(name: str, value: Any, delicate: bool) -> None:
    assert settings.is_delicate(name, value) is delicate


def test_defaults_are_those_that_hold() -> None:
    def read(key: str) -> Any:
        found = settings.load(f"{key}: {settings.DEFAULTS[key]}\n", "x")
        return found[key].value

    job, request = Job(("t.py",)), Request(Job(("t.py",)), Inventory(()), ())
    values: Mapping[str, Any] = {
        **{one.name: getattr(request, one.name) for one in fields(request)},
        **{one.name: getattr(job, one.name) for one in fields(job)},
        "stall_timeout": 600.0,
        "on_stall": "report",
        "detach": False,
        "raw": False,
        "max_restarts": 0,
    }
    assert {key: read(key) for key in settings.DEFAULTS} == {
        key: values[key] for key in settings.DEFAULTS
    }


#: Flags of `launcher run` that are no keys: what to run, what is said on one occasion, older names, and
#: those that stand inside resources:.
_NO_KEYS = {"command_words", "yes", "dry_run", "as_json", "lease", "no_wait"} | {
    "data_credential"  # a part of data
}
_RESOURCES = {"gpus", "gpu_ids", "nproc_per_node"}


def test_every_flag_of_a_run_is_a_key() -> None:
    flags = {flag.name for flag in run.params}
    assert flags - _NO_KEYS - _RESOURCES - set(environments.FIELDS) <= {*job_file.KEYS, *OPTIONS}
