"""The JSON Schemas for editors: those checked in are current, and agree with what is read."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import yaml

from launcher.jobs import job_file as jobs
from launcher.jobs import sweep_file
from launcher.spec import inventory as inventories
from launcher.spec.errors import DocumentError
from support import ROOT

FOLDER = ROOT / "inventory"
KINDS = {"inventory": inventories, "job": jobs}

GOOD = {
    "inventory": [
        "hosts: [gpu1, 'gpu[2-3]']",
        "hosts: {gpu1: , gpu2: {gpus: 8, env: {A: 1, B: yes}, labels: {rack: 7}}}",
        "sandbox: true\nssh_config: x\ndefaults: {port: 22}\nhosts: [a]\ngroups: {g: a, h: [a, g]}",
    ],
    "job": [
        "run: train.py",
        "run: [train.py, --epochs, 3, --lr, 0.1]",
        "run: x\nsecrets: [A]",
        "run: x\nsecrets: {A: , B: x}\nenvs: {A: 1}\noutputs: ckpt\nresources: {gpus: 0}",
        "run: x\nname: n\nworkdir: .\nnum_nodes: 1\nhosts: a\nsetup: make\noutputs: [a, b]\n"
        "framework: torch\nmaster_addr: 10.0.0.1\nmaster_port: 29500\ngrace: 10",
        "run: x\nmaster_port: 29500-29600\ngrace: 1.5m",
        "roles: {a: {run: x}, b: {run: [x, y], replicas: 2, setup: s, spread: true, primary: no}}",
        "run: x\nroles: {a: , b: {resources: {gpus: 1, cpus: 2, memory: 4GiB}, envs: {A: 1}, "
        "replicas: 2, overrides: {1: {resources: {gpus: 0}}}, on_exit: {fail: 3, restart: 11-20}}}",
        "run: x\nmaster_port: 29500-29600\ngrace: 1.5m\nmax_restarts: 0\nmin_nodes: 2",
    ],
}
BAD = {
    "inventory": [
        "defaults: {}",
        "hosts: [a]\nzzz: 1",
        "hosts: {a: {zzz: 1}}",
        "hosts: [a]\ndefaults: {zzz: 1}",
        "hosts: {a: {port: 0}}",
        "hosts: {a: {port: 65536}}",
        "hosts: {a: {gpus: 1.5}}",
        "hosts: {a: {env: [A]}}",
        "hosts: gpu1",
    ],
    "job": [
        "roles: {a: {replicas: 2}}\nzzz: 1",
        "run: x\nroles: {a: {zzz: 1}}",
        "run: x\nroles: {a: {replicas: 0}}",
        "run: x\nroles: {a: {overrides: {one: {}}}}",
        "run: x\nroles: {}",
        "name: x",
        "run: x\nzzz: 1",
        "run: x\nresources: {zzz: 1}",
        "run: x\nnum_nodes: 0",
        "run: x\nmin_nodes: 0",
        "run: x\nmax_restarts: -1",
        "run: x\nenvs: [A]",
        "run: {a: b}",
    ],
}


def schema(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((FOLDER / f"{kind}.schema.json").read_text()))


@pytest.mark.parametrize(("kind", "module"), KINDS.items())
def test_checked_in_schema_is_current(kind: str, module: ModuleType) -> None:
    source = sweep_file if module is jobs else module  # a sweep is a job file with two more keys
    expected = json.dumps(source.json_schema(), indent=2) + "\n"
    assert (FOLDER / f"{kind}.schema.json").read_text() == expected, (
        f"launcher schema {kind} > inventory/{kind}.schema.json"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_schema_is_one(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(kind).schema)


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in GOOD for text in GOOD[k]])
def test_good_samples(kind: str, text: str) -> None:
    KINDS[kind].load(text, "sample")
    schema(kind).validate(yaml.safe_load(text))


@pytest.mark.parametrize(("kind", "text"), [(k, text) for k in BAD for text in BAD[k]])
def test_bad_samples(kind: str, text: str) -> None:
    with pytest.raises(DocumentError):
        KINDS[kind].load(text, "sample")
    with pytest.raises(jsonschema.ValidationError):
        schema(kind).validate(yaml.safe_load(text))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_inventories_of_this_repository(path: Path) -> None:
    schema("inventory").validate(yaml.safe_load(path.read_text()))
