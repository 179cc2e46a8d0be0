"""Jobs as plain scripts: quoting, and what is refused."""

from __future__ import annotations

import subprocess
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.interop.scripts import scripts, shell
from launcher.jobs import job_file as jobs
from launcher.spec import inventory as inventories
from launcher.spec.errors import InputError
from launcher.spec.model import Job

HOSTS = "hosts:\n  a: {address: 10.0.0.1, gpus: 2}\n  b: {address: 10.0.0.2, gpus: 2}\n"


def job_of(**values: Any) -> Job:
    return jobs.make({"file": {"num_nodes": 2, **values}}, {})


def files(**values: Any) -> tuple[dict[str, str], list[str]]:
    inventory = inventories.load(HOSTS, "x")
    return scripts(job_of(**values), inventory, inventory.hosts)


# -- quoting


WORDS = st.text(
    st.one_of(st.sampled_from("'\"$`\\ \n\t~*!#&;|<>(){}[]%=-"), st.characters(codec="utf-8")),
    max_size=12,
).map(lambda text: text.replace("\0", ""))


@pytest.mark.thorough
@settings(max_examples=60)
@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
def test_words_and_variables_survive_a_real_sh(words: list[str], value: str) -> None:
    lines = [*shell.exports({"A_VALUE": value}), f"set -- {shell.join(['x', *words])}; shift"]
    lines += ['printf "%s\\0" "$A_VALUE" "$@"']
    with tempfile.TemporaryDirectory() as folder:  # what is quoted badly may write files
        for program in ("sh", "bash"):
            text = "\n".join(lines)
            said = subprocess.run(
                [program, "-c", text], capture_output=True, check=True, cwd=folder
            )
            assert said.stdout.decode() == "".join(f"{word}\0" for word in [value, *words])


# -- what a script is, and what it cannot be


def test_a_script_is_the_plan() -> None:
    made, notes = files(
        framework="torch", run=("echo", "{{rank}}", "a 'b", "{{outputs}}"), name="t", outputs=("o",)
    )
    assert set(made) == {"run.sh", "a.sh", "b.sh", "ssh_config"}
    assert "exec echo 2 'a '\"'\"'b' \"${ROOT}\"/runs/t/outputs" in made["b.sh"]
    for line in ("export RANK=3", "export WORLD_SIZE=4", "export MASTER_ADDR=10.0.0.1"):
        assert f"  {line}\n" in made["b.sh"]
    assert notes[0] == "outputs stay on the hosts"
    assert "10.0.0.1, which is untested" in notes[1]
    assert 'HostName "10.0.0.2"' in made["ssh_config"]


def test_torchrun_needs_nothing_of_ours_there() -> None:
    made, _ = files(run=("train.py",))
    assert "--no-python python3 train.py" in made["b.sh"]
    assert "--node-rank=1" in made["b.sh"]
    assert "start.py" not in made["b.sh"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"framework": "horovod"}, "horovod starts its ranks through launcher's own ssh"),
        ({"framework": "horovod-direct"}, "horovod-direct needs launcher's agent"),
        ({"run": ("a.py", "{{rank}}")}, "{{rank}} is filled in by launcher"),
        ({"num_nodes": "1:2"}, "an elastic job cannot be exported"),
        ({"environment": {"uv": "."}}, "uv: .: an exported script builds no environment"),
    ],
)
def test_what_no_script_can_do_is_refused(values: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match="^" + error.replace("{", "[{]")):
        files(**{"run": ("a.py",), **values})
