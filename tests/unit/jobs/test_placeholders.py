"""Placeholders in arguments: who fills in what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.jobs import job_file as jobs
from launcher.jobs import placeholders, planner
from launcher.jobs.layout import make_layout
from launcher.spec.errors import DocumentError, InputError, PlanError
from launcher.spec.model import Host, Job, Meeting, Plan, Resources

MEETING = Meeting("10.0.0.1", 29500, {}, {"gpu0": "10.0.0.1", "gpu1": "10.0.0.2"})
#: Two of the processes of a job over hosts of 1, 3 and 2 GPUs.
VALUES = {
    "{{rank}}": ("0", "2"),
    "{{ node_rank }}": ("0", "1"),
    "{{local_rank}}": ("0", "1"),
    "{{rank_offset}}": ("0", "1"),
    "{{local_world_size}}": ("1", "3"),
    "{{world_size}}": ("6", "6"),
    "{{num_nodes}}": ("3", "3"),
    "{{master_addr}}:{{master_port}}": ("10.0.0.1:29500", "10.0.0.1:29500"),
    "{{host:node.1}}": ("10.0.0.2", "10.0.0.2"),
    "{{host:node.2}}": ("gpu2", "gpu2"),
    "{{outputs}}/a b": ("/w/runs/r/outputs/a b",) * 2,
    "\\{{rank}} {{.Names}} ${x:-{}} {{1..3},5}": ("{{rank}} {{.Names}} ${x:-{}} {{1..3},5}",) * 2,
}


def plan(
    words: tuple[str, ...],
    framework: str,
    gpus: tuple[int, ...] = (1, 3, 2),
    envs: dict[str, str] | None = None,
) -> Plan:
    hosts = [Host(f"gpu{n}", gpus=count, workdir="/w") for n, count in enumerate(gpus)]
    wanted = Resources(gpus=sum(gpus))
    job = Job(words, framework=framework, resources=wanted, envs=envs or {})
    return planner.plan(job, make_layout(job, hosts, {}, "r"), MEETING, "agent")


@pytest.mark.parametrize("token", VALUES)
def test_each_process_has_its_own(token: str) -> None:
    made = plan(("x.py", token), "torch")
    ranks = {p.rank: p.argv[-1] for node in made.nodes for p in node.processes}
    assert (ranks[0], ranks[2]) == VALUES[token]


@pytest.mark.parametrize("token", [t for t in VALUES if "rank}}" not in t or "node" in t])
def test_each_node_has_its_own(token: str) -> None:
    for framework in ("env", "torchrun"):
        made = plan(("x.py", token), framework)
        assert tuple(node.processes[0].argv[-1] for node in made.nodes[:2]) == VALUES[token]


def test_what_only_a_rank_knows_is_left_to_the_shim() -> None:
    (first, *_) = plan(("x.py", "{{rank}} of {{world_size}}", "\\{{rank}}"), "torchrun").nodes
    argv = first.processes[0].argv
    assert argv[argv.index("rank") :][:3] == ("rank", "--tokens", "--")
    assert argv[-2:] == ("{{rank}} of 6", "\\{{rank}}"), "what is escaped is the shim's as well"
    with pytest.raises(PlanError, match="is not known before env starts the ranks") as caught:
        plan(("x", "{{local_rank}}"), "env")
    assert "--framework torch" in caught.value.hint


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(PlanError, match=r"there is no node\.3 in this run"):
        plan(("x", "{{host:node.3}}"), "env")


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("{{rnk}}", "unknown placeholder {{rnk}}", 'did you mean "rank"?'),
        ("a={{ zzz }}", "unknown placeholder {{ zzz }}", "known: rank, "),
        ("{{user}}", "unknown placeholder {{user}}", "\\{{user}} to pass it on unchanged"),
        ("{{host}}", "{{host}} is malformed", "{{host:worker.2}}"),
        ("{{rank:3}}", "{{rank:3}} is malformed", "write {{rank}}"),
    ],
)
def test_bad_tokens(text: str, error: str, hint: str) -> None:
    with pytest.raises(DocumentError) as caught:
        jobs.load(f"name: x\nrun:\n- train.py\n- '{text}'\n", "job.yaml")
    assert str(caught.value) == f"job.yaml:4: {error}"
    assert hint in caught.value.hint
    with pytest.raises(InputError, match="run, word 2: ") as flag:
        jobs.make({"flag": {"run": ("train.py", text)}}, {})
    assert (error in str(flag.value), flag.value.hint) == (True, caught.value.hint)


@settings(max_examples=50)
@given(st.text(alphabet="{}\\ab:._ 1"))
def test_text_without_tokens_is_not_touched(text: str) -> None:
    if placeholders.problem(text) is None and not placeholders.used([text]) and "\\{{" not in text:
        assert placeholders.render([text], {}, str) == (text,)


@pytest.mark.parametrize("token", VALUES)
def test_variables_of_the_job_have_them_too(token: str) -> None:
    made = plan(("x.py",), "torch", envs={"WHERE": token})
    ranks = {p.rank: p.env["WHERE"] for node in made.nodes for p in node.processes}
    assert (ranks[0], ranks[2]) == VALUES[token]


def test_variables_that_only_a_rank_knows_are_left_to_the_shim() -> None:
    envs = {"OWN": "{{rank}} of {{world_size}}", "ALL": "{{world_size}}", "RAW": "\\{{rank}}"}
    process = plan(("x.py", "\\{{rank}}"), "torchrun", envs=envs).nodes[0].processes[0]
    argv = process.argv
    assert argv[argv.index("rank") :][:4] == ("rank", "--env", "OWN", "--")
    assert argv[-1] == "{{rank}}", "what the shim does not touch loses its backslash here"
    assert [process.env[name] for name in envs] == ["{{rank}} of 6", "6", "{{rank}}"]
    with pytest.raises(PlanError, match="is not known before env starts the ranks"):
        plan(("x",), "env", envs={"OWN": "{{rank}}"})


def test_setup_does_not_see_variables_whose_placeholders_have_no_value_yet() -> None:
    job = Job(("x.py",), envs={"WHERE": "tcp://{{master_addr}}:1", "PLAIN": "x"})
    layout = make_layout(job, [Host("gpu1")], {}, "r")
    env = planner.early_environment(job, layout, layout.nodes[0], 0)
    assert "WHERE" not in env
    assert env["PLAIN"] == "x"


def test_an_unknown_placeholder_of_a_variable_is_refused() -> None:
    with pytest.raises(InputError, match="unknown placeholder"):
        plan(("x.py",), "torch", envs={"WHERE": "{{master_adr}}"})
    with pytest.raises(InputError, match="--env WHERE: unknown placeholder") as caught:
        jobs.make({"flag": {"run": ("x.py",), "envs": {"WHERE": "{{master_adr}}"}}}, {})
    assert "master_addr" in caught.value.hint
