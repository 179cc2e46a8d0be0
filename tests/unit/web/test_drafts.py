"""Jobs from the form are planned and refused as by the command line, with the field that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from launcher.api.client import AsyncClient
from launcher.api.jobs import load_job
from launcher.spec.model import Host, Inventory
from launcher.web import app
from launcher.web.guard import Session

HOSTS = tuple(Host(name=name, address="127.0.0.1", gpus=2) for name in ("gpu1", "gpu2"))


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    work = tmp_path / "work"
    (work / "src" / ".hidden").mkdir(parents=True)
    for name in ("train.py", "src/eval.py", "src/.hidden/no.py", "data.csv"):
        (work / name).write_text("")
    monkeypatch.chdir(work)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session = Session(8770)
    client = AsyncClient(Inventory(hosts=HOSTS))
    console = TestClient(app.Console(session, client).app(), base_url="http://127.0.0.1:8770")
    assert console.post("/session", json={"code": session.code}).status_code == 204
    return console


def plan(owner: TestClient, **values: Any) -> Any:
    return owner.post("/api/plan", json={"values": values})


def test_the_plan_and_a_job_file_that_the_command_takes(owner: TestClient, tmp_path: Path) -> None:
    values = {"run": "train.py --lr 0.1", "framework": "torch", "resources": {"gpus": 4}}
    answer = plan(owner, **values, envs={"A": "x: y"}, max_restarts=1)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [(node["host"], node["ranks"], node["gpus"]) for node in told["nodes"]] == [
        ("gpu1", [0, 1], ["0", "1"]),
        ("gpu2", [2, 3], ["0", "1"]),
    ]
    assert yaml.safe_load(told["file"]) == {**values, "envs": {"A": "x: y"}, "max_restarts": 1}
    (tmp_path / "job.yaml").write_text(told["file"])
    assert load_job(tmp_path / "job.yaml")["envs"] == {"A": "x: y"}


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"run": "nope.py"}, "run", "there is no nope.py"),
        ({"run": "train.py", "num_nodes": "two"}, "num_nodes", "not a number of hosts"),
        ({"run": "train.py", "num_nodes": 3}, "num_nodes", "3"),
        ({"run": "train.py", "resources": {"gpus": "two"}}, "resources.gpus", "two"),
        ({"run": "train.py", "resources": {"gpus": 99}}, "resources.gpus", "99"),
        ({"run": "train.py", "framework": "pytorch"}, "framework", "pytorch"),
        ({"run": "train.py", "hosts": ["gpu9"]}, "hosts", "gpu9"),
        ({"run": "train.py", "envs": {"A": "1"}, "grace": "soon"}, "grace", "soon"),
        ({"run": "train.py", "workdir": "nowhere"}, "run", "nowhere"),
        ({"run": "train.py", "wait": "soon"}, "wait", "soon"),
        ({"run": "train.py", "bla": 1}, "bla", "bla"),
        ({"run": "train.py", "environment": {"conda": "a", "bla": 1}}, "environment.bla", "bla"),
        ({"run": "train.py", "environment": {"wheels": "w"}}, "environment", "for uv alone"),
        ({"run": "train.py", "environment": {"conda": "a", "venv": "b"}}, "environment.venv", "b"),
        (
            {"run": "train.py", "checkpoints": {"path": "ckpt", "every": "soon"}},
            "checkpoints.every",
            "not a duration",
        ),
    ],
)
def test_an_error_has_its_field(
    owner: TestClient, values: dict[str, Any], field: str, text: str
) -> None:
    answer = plan(owner, **values)
    assert answer.status_code == 400
    told = answer.json()
    assert text in told["error"], told
    assert told["field"] == field, told
    assert "launcher import" not in (told["hint"] or ""), told


#: YAML that is typed into a field: the field that an error is at, and its words.
TEXTS = [
    ("data", "speech: [", "data", "line 1: not YAML"),
    ("data", "# nothing", "data", "empty"),
    ("data", "speech:\n  form: /x\n", "data.speech.form", 'unknown key "form" in data.speech'),
    ("data", "speech: {from: '/a'}\ntext:\n  - 1\n", "data.text", "data.text must be a mapping"),
    ("data", "{a: b,", "data", "line 1: not YAML"),
    ("outputs", "paths: [a]\nto: nowhere", "outputs.to", "is not a store"),
    ("bla", "a: 1", "bla", "bla"),
]


@pytest.mark.parametrize(("key", "text", "field", "words"), TEXTS)
def test_yaml_in_a_field_is_refused_at_the_field(
    owner: TestClient, key: str, text: str, field: str, words: str
) -> None:
    body = {"values": {"run": "train.py"}, "texts": {key: text}}
    answer = owner.post("/api/plan", json=body)
    assert answer.status_code == 400
    told = answer.json()
    assert words in told["error"], told
    assert told["field"] == field, told


def test_yaml_in_a_field_is_in_the_job_file_as_it_was_typed(
    owner: TestClient, tmp_path: Path
) -> None:
    texts = {
        "outputs": "# both\npaths: [results]\ncheckpoints:\n  path: ckpt\n  every: 010m\n",
        "data": "speech:\n  from: s3://bucket/speech\n  to: 0x10",
    }
    values = {"run": "train.py", "environment": {"conda": "ml"}}
    answer = owner.post("/api/plan", json={"values": values, "texts": texts})
    assert answer.status_code == 200, answer.text
    told = answer.json()["file"]
    assert "  # both\n" in told and "every: 010m" in told
    (tmp_path / "job.yaml").write_text(told)
    job = load_job(tmp_path / "job.yaml")
    assert yaml.safe_load(told)["environment"] == {"conda": "ml"}
    assert [(one.name, one.to) for one in job["data"]] == [("speech", "0x10")]


def test_odd_bodies(owner: TestClient) -> None:
    assert owner.post("/api/plan", json={"values": [1]}).status_code == 400
    assert owner.post("/api/jobs", json={"values": "x"}).status_code == 400
    assert owner.post("/api/plan", json={"texts": {"data": 1}}).status_code == 400
    assert owner.post("/api/plan", json={"texts": {"a: 1\nb": "c"}}).status_code == 400
    assert owner.post("/api/jobs", json={"values": {"run": "nope.py"}}).status_code == 400
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    assert plan(owner, run=deep).status_code == 400


def test_what_the_form_asks_for(owner: TestClient) -> None:
    fields = owner.get("/api/fields").json()
    assert {"run", "resources", "envs", "time"} <= set(fields["properties"])
    assert not {"matrix", "raw", "detach"} & set(fields["properties"])
    assert "torchrun" in fields["frameworks"]
    found = owner.get("/api/scripts").json()
    assert found == {"workdir": str(Path.cwd()), "scripts": ["train.py", "src/eval.py"]}
    assert owner.get("/api/scripts", params={"workdir": "nowhere"}).status_code == 400
