"""How a job names its environment, and that it has one Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from launcher.jobs import job_file
from launcher.jobs.environments import (
    images_of,
    is_needed,
    modules_on,
    of_flags,
    on_host,
    roles_with,
    unable,
    uses_gpus,
    with_python,
)
from launcher.jobs.layout import make_layout
from launcher.jobs.planner import plan, search_path, search_path_inside
from launcher.jobs.preparation import behind, command_of
from launcher.records import codec
from launcher.runner.images.inside import in_image
from launcher.runner.launch import _setups
from launcher.runner.policy.environments import of_roles
from launcher.runner.requests import changed, make_request
from launcher.spec.containers import Container, ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.errors import InputError, NoEnvironment, PlanError
from launcher.spec.model import (
    Facts,
    Gpu,
    Host,
    Inventory,
    Job,
    Layout,
    Meeting,
    Node,
    Request,
    Role,
    Task,
)
from launcher.spec.typed_json import from_json

TRAIN = Environment(conda="train")


def _made(**layers: Mapping[str, Any]) -> Job:
    return job_file.make({"file": {"run": ("t.py",), **layers.pop("file", {})}, **layers}, {})


def _loaded(text: str) -> Job:
    return job_file.make({"file": job_file.load(f"run: t.py\n{text}\n", "job.yaml")}, {})


@pytest.mark.parametrize(
    ("text", "environment", "modules"),
    [
        ("environment: {conda: train}", TRAIN, ()),
        ("environment: {conda: ~/envs/x/}", Environment(conda="~/envs/x"), ()),
        ("environment: {venv: $SCRATCH/v, modules: cuda/12.4}", Environment(venv="$SCRATCH/v"), 1),
        ("environment: {modules: [cuda/12.4]}", None, 1),
        ("modules: [cuda/12.4]", None, 1),
        ("environment: {uv: ./env/}", Environment(uv="env"), ()),
        ("environment: {conda: ./envs/gpu.yaml}", Environment(conda="envs/gpu.yaml"), ()),
        (
            "environment: {uv: ., wheels: /srv/wheels/}",
            Environment(uv=".", wheels="/srv/wheels"),
            (),
        ),
    ],
)
def test_files_say_it(text: str, environment: Environment | None, modules: int) -> None:
    job = _loaded(text)
    assert (job.environment, job.modules) == (environment, ("cuda/12.4",) if modules else ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("environment: {conda: a, venv: /v}", "job.yaml:2: environment: names conda and venv"),
        ("environment: {conda: a b}", "'a b' cannot be the name of a conda environment"),
        (
            "environment: {conda: ~/environment.yml}",
            "'~/environment.yml' is no path inside the workdir",
        ),
        ("environment: {venv: .venv}", "'.venv' is no folder of a host"),
        ("environment: {images: x}", 'unknown key "images"'),
        ("environment: {modules: a;b}", "job.yaml:2: 'a;b' cannot be the name of a module"),
        ("modules: a;b", "job.yaml:2: 'a;b' cannot be the name of a module"),
        ("modules: a\nenvironment: {modules: b}", "job.yaml:3: modules: stands in environment:"),
        (
            "python: python3.12\nenvironment: {conda: a}",
            "job.yaml:3: python3.12 and the conda",
        ),
        ("environment: {uv: ../x}", "'../x' is no path inside the workdir"),
        ("environment: {conda: a, wheels: w}", "wheels are for uv alone"),
        ("environment: {conda: a, runtime: podman}", "runtime is for image alone"),
        ("environment: {image: a, conda: b}", "names conda and image, and a job has one"),
        ("environment: {image: x, build_args: {A-B: 1}}", "'A-B=1' is no argument of a build"),
        ("environment: {conda: x, context: .}", "context is for image alone"),
        (
            "environment: {image: x, context: 'https://x'}",
            "'https://x' is no folder of this machine",
        ),
        ("environment: {image: a, runtime: lxc}", "'lxc' is no container runtime"),
        ("environment: {image: a, mounts: [data]}", "'data' cannot be mounted: /data"),
        ("environment: {image: a, modules: [cuda]}", "an image loads no modules"),
        ("conda: train", 'unknown key "conda"'),
    ],
)
def test_files_that_cannot_mean_it(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        _loaded(text)
    assert said in f"{raised.value} {raised.value.hint}"


def test_the_stronger_layer_names_the_python() -> None:
    by_file = {"environment": {"conda": "train", "modules": ("cuda",)}}
    job = _made(file=by_file, flag={"python": "python3.12"})
    assert (job.python, job.environment, job.modules) == ("python3.12", None, ("cuda",))
    assert job.sources["environment"] == "default"
    job = _made(file={"python": "python3.12"}, flag={"environment": TRAIN})
    assert (job.python, job.environment) == (None, TRAIN)
    job = _made(file=by_file, flag={"environment": Environment(venv="/v")})
    assert (job.environment, job.modules) == (Environment(venv="/v"), ("cuda",))
    # uv builds with the job's Python.
    job = _made(file={"python": "python3.12"}, flag={"environment": Environment(uv=".")})
    assert (job.python, job.environment) == ("python3.12", Environment(uv="."))
    assert with_python((Host("gpu1"),), job)[0].python == "python3.12"
    with pytest.raises(InputError, match="are two Pythons"):
        _made(flag={"python": "python3.12", "environment": TRAIN})
    with pytest.raises(InputError, match="environment has no images"):
        _made(argument={"environment": {"images": "x"}})


def test_flags_say_it() -> None:
    assert of_flags({"conda": "train"}, "/") == TRAIN
    assert of_flags({"venv": "/home/ann/v/"}, "/home/bob") == Environment(venv="/home/ann/v")
    # The shell here has replaced ~ by its own home.
    assert of_flags({"venv": "/home/ann/v"}, "/home/ann") == Environment(venv="~/v")
    assert of_flags({"uv": ".", "wheels": "w/"}, "/h") == Environment(uv=".", wheels="w")
    fetched = of_flags({"uv": ".", "wheels": "fetch"}, "/h")
    folder = of_flags({"uv": ".", "wheels": "./fetch/"}, "/h")
    assert fetched
    assert folder
    assert (fetched.is_fetched, folder.is_fetched, folder.wheels) == (True, False, "./fetch")
    image = of_flags({"image": "docker://a/b:1", "mounts": ("/data", "~/s:/s:ro")}, "/h")
    assert image == Environment(image="a/b:1", mounts=("/data", "~/s:/s:ro"))
    assert str(image) == "image a/b:1"
    with pytest.raises(InputError, match="--mount is for --image alone"):
        of_flags({"mounts": ("/data",)}, "/h")
    with pytest.raises(InputError, match="--image: 'a b' is no image"):
        of_flags({"image": "a b"}, "/h")
    for path in ("./my image", "/data/my image.tar", "my image.tar", "docker files/Dockerfile"):
        assert of_flags({"image": path}, "/h") == Environment(image=path)
    with pytest.raises(InputError, match="--wheels is for --uv alone"):
        of_flags({"wheels": "w"}, "/h")
    with pytest.raises(InputError, match="--conda and --venv contradict"):
        of_flags({"conda": "a", "venv": "/b"}, "/h")
    with pytest.raises(InputError, match=r"--venv: 'v' is no folder of a host"):
        of_flags({"venv": "v"}, "/h")


def test_hosts_get_its_python() -> None:
    hosts = (Host("gpu1", python="python3.9"),)
    for job, python in (
        (Job(("x",)), "python3.9"),
        (Job(("x",), environment=TRAIN), "conda:train"),
        (Job(("x",), environment=Environment(conda="/opt/x")), "/opt/x/bin/python"),
        (Job(("x",), environment=Environment(venv="~/v")), "~/v/bin/python"),
    ):
        assert with_python(hosts, job)[0].python == python


def test_a_record_keeps_it() -> None:
    job = Job(("x",), environment=Environment(conda="train"))
    described = codec.describe_job(job)
    assert from_json(Job, {**described, "secrets": {}}) == job
    assert "environment" not in codec.describe_job(Job(("x",)))


# -- of roles and hosts

ROLES = "framework: torch\nroles:\n  a: {}\n  b: {environment: {venv: /b, modules: gcc}}\n"
B = Environment(venv="/b")


@pytest.mark.parametrize(
    ("job", "of_host", "role", "found"),
    [
        # The inventory's is a default, and says where the one is that a job names.
        (Job(("x",)), Environment(venv="/h"), "", "/h"),
        (Job(("x",)), None, "", None),
        (Job(("x",), python="python3"), Environment(venv="/h"), "", None),
        (Job(("x",), environment=TRAIN), Environment(conda="/data/envs/train"), "", "/data/envs"),
        (Job(("x",), environment=TRAIN), Environment(venv="/h", name="train"), "", "/h"),
        (Job(("x",), environment=TRAIN), Environment(venv="/h/train"), "", "conda:train"),
        (Job(("x",), environment=TRAIN), Environment(conda="/train", name="y"), "", "conda:train"),
        (Job(("x",), environment=Environment(conda="/x/train")), TRAIN, "", "/x/train"),
        # A role's own comes before the job's, and before the host's.
        (Job(("x",), environment=TRAIN, roles=(Role("a"),)), None, "a", "conda:train"),
        (Job(("x",), environment=TRAIN, roles=(Role("a", environment=B),)), None, "a", "/b"),
        (Job(("x",), roles=(Role("a", environment=B),)), Environment(venv="/h"), "a", "/b"),
        (
            Job(("x",), roles=(Role("a", environment=TRAIN),)),
            Environment(venv="/h", name="train"),
            "a",
            "/h",
        ),
    ],
)
def test_whose_environment_counts(
    job: Job, of_host: Environment | None, role: str, found: str | None
) -> None:
    its = on_host(job, Host("gpu1", environment=of_host), role)
    assert ((its and its.python) or "").startswith(found or "")
    assert (its is None) == (found is None)


def test_modules_follow_the_same_order() -> None:
    host, role = Host("gpu1", modules=("host",)), Role("a", modules=("role",))
    assert modules_on(Job(("x",)), host) == ("host",)
    assert modules_on(Job(("x",), modules=("job",), roles=(role,)), host) == ("job",)
    assert modules_on(Job(("x",), modules=("job",), roles=(role,)), host, "a") == ("role",)
    assert modules_on(Job(("x",), environment=Environment(image="i")), host) == ()


def test_a_stronger_layer_replaces_those_of_roles() -> None:
    def roles(**layers: Any) -> list[tuple[Environment | None, tuple[str, ...]]]:
        job = job_file.make({**layers, "file": job_file.load(f"run: x\n{ROLES}", "j")}, {})
        return [(role.environment, role.modules) for role in job.roles]

    def under(**values: Any) -> list[tuple[Environment | None, tuple[str, ...]]]:
        layers = {"file": job_file.load(f"run: x\n{ROLES}", "j"), "flag": values}
        job = job_file.make(layers, {})
        return [(role.environment, role.modules) for role in job.roles]

    own = [(None, ()), (B, ("gcc",))]
    assert roles(settings={"environment": TRAIN}) == own
    assert under() == own
    assert under(environment=TRAIN) == under(python="python3") == [(None, ()), (None, ("gcc",))]
    assert under(modules=("cuda",)) == [(None, ()), (B, ())]
    assert under(environment=Environment(image="i")) == [(None, ()), (None, ())]
    with pytest.raises(InputError, match="role b has its own"):
        under(preload=("torch",))
    assert roles(settings={"environment": Environment(image="i")}) == own, "they stay out of it"


def test_an_image_takes_the_place_of_weaker_modules_and_refuses_others() -> None:
    image = Environment(image="i")
    of_file = {"file": job_file.load("run: x\nmodules: [cuda]", "j")}
    assert job_file.make({**of_file, "flag": {"environment": image}}, {}).modules == ()
    assert job_file.make({**of_file, "flag": {"environment": None}}, {}).modules == ("cuda",)
    in_file = {"file": job_file.load("run: x\nenvironment: {image: i}", "j")}
    for given in (
        {"flag": {"run": "x", "environment": image, "modules": ("cuda",)}},
        {**in_file, "flag": {"modules": ("cuda",)}},
    ):
        with pytest.raises(InputError, match="image i loads no modules of the host"):
            job_file.make(given, {})


@pytest.mark.parametrize("name", ["-h", "cu*", "a b", ""])
def test_what_is_no_module_is_refused_on_the_command_line_as_well(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a module"):
        job_file.make({"flag": {"run": "x", "modules": (name,)}}, {})


IN_IMAGES = """
roles:
  head: {environment: {image: a, mounts: [/sets]}, resources: {gpus: 1}}
  worker: {replicas: 2, environment: {image: b}}
  same: {environment: {image: b}}
  plain: {environment: none}
  other: {}
environment: {conda: train}
modules: [cuda]
"""


def _in_images(more: str = "") -> Job:
    return job_file.make({"file": job_file.load(f"run: t.py{IN_IMAGES}{more}", "j")}, {})


def test_each_role_says_which_image_it_is_in() -> None:
    job, host = _in_images(), Host("gpu1", modules=("of-host",), prepare="module use x")
    own = {role.name: on_host(job, host, role.name) for role in job.roles}
    assert own["head"] == Environment(image="a", mounts=("/sets",))
    assert own["worker"] == own["same"] == Environment(image="b")
    assert own["plain"] is None
    assert own["other"] == TRAIN
    loaded = {name: modules_on(job, host, name) for name in own}
    assert loaded == {
        **dict.fromkeys(own, ("cuda",)),
        **dict.fromkeys(("head", "worker", "same"), ()),
    }
    assert behind(job, host, "worker") == ("image b",)
    assert behind(job, host, "plain") == ("prepare: of gpu1", "module load cuda")
    assert images_of(job) == (own["head"], own["worker"])
    assert [uses_gpus(job, one) for one in images_of(job)] == [True, False]
    assert roles_with(job, Environment(image="b")) == ("worker", "same")
    assert from_json(Job, {**codec.describe_job(job), "secrets": {}}).roles == job.roles
    assert not any(
        role.environment
        for role in job_file.make(
            {"file": job_file.load(f"run: t.py{IN_IMAGES}", "j"), "flag": {"environment": None}}, {}
        ).roles
    ), "--image none"


def test_only_hosts_of_a_role_need_its_image() -> None:
    job = _in_images()
    a, b = images_of(job)
    tasks = {"gpu1": (Task("head", 0, 0),), "gpu2": (Task("same", 0, 1),)}
    nodes = tuple(
        Node(Host(name), n, 1, n, tasks=its) for n, (name, its) in enumerate(tasks.items())
    )
    layout = Layout("r", nodes)
    needed = [[is_needed(job, layout, name, one) for one in (a, b)] for name in tasks]
    assert needed == [[True, False], [False, True]]
    assert is_needed(job, Layout("r", ()), "gpu3", a), "nobody knows yet who runs it"
    bound = replace(job, roles=tuple(replace(one, host="gpu1") for one in job.roles))
    assert not is_needed(bound, Layout("r", ()), "gpu3", a), "unless the role names its host"
    of_job = replace(job, environment=a, setup="true")
    assert is_needed(of_job, layout, "gpu2", a), "for the job's setup"


def test_images_with_the_same_name_are_told_apart_by_what_else_they_say() -> None:
    one = Environment(image="Dockerfile", build_args=("A=1",))
    keys = {
        one.key,
        replace(one, build_args=("A=2",)).key,
        replace(one, mounts=("/a",)).key,
        replace(one, context="/a").key,
        Environment(image="Dockerfile").key,
    }
    assert len(keys) == 5
    assert replace(one, pinned="0" * 64).key == one.key


def _contained(image: str, python: str) -> Container:
    return Container(f"id-of-{image}", ContainerSpec("podman", "podman", image, "0:0"), python)


def test_processes_of_a_role_are_planned_for_its_image() -> None:
    job = _in_images("framework: torch\n")
    (host,) = with_python(
        (Host("gpu1", python="/h/bin/python", env={"PATH": "/own", "X": "1"}),), job
    )
    a, b = images_of(job)
    facts = Facts(
        *("gpu1", "gpu1", "/r", "/h/bin/python", "3.11", 8),
        gpus=(Gpu(0),),
        pythons={"conda:train": "/opt/train/bin/python"},
        containers={a.key: _contained("a", "/in/a/python"), b.key: _contained("b", "")},
    )
    layout = make_layout(job, [host], {"gpu1": facts}, "r")
    (entry,) = plan(job, layout, Meeting("gpu1", 1), "agent").nodes
    found = {process.key: process for process in entry.processes}
    programs = {key: command_of(process)[0] for key, process in found.items()}
    assert programs["head-0"] == "/in/a/python"
    assert programs["worker-1"] == programs["same-0"] == "python3"
    assert programs["plain-0"] == "/h/bin/python"
    assert programs["other-0"] == "/opt/train/bin/python"
    paths = {key: process.env.get("PATH") for key, process in found.items()}
    assert (paths["head-0"], paths["plain-0"]) == (None, "/own"), "an image has its own"
    node = entry.node
    assert search_path(job, node, "r") == ("/r/runs/r/bin", "/h/bin")
    assert search_path_inside(job, node, "r", "head") == ("/r/runs/r/bin/image-0",)
    assert search_path_inside(job, node, "r", "same") == ("/r/runs/r/bin/image-1",)
    its = {role.name: in_image(job, layout, node, role.name) for role in job.roles}
    assert its["head"]["container"]["image"] == "a"
    assert its["worker"]["container"]["image"] == its["same"]["container"]["image"] == "b"
    assert its["plain"] == its["other"] == {}


def test_a_run_that_is_repeated_wants_the_images_that_its_roles_had() -> None:
    job = _in_images()
    a, b = images_of(job)
    one, other = {a.key: _contained("a", "")}, {b.key: _contained("b", "")}
    tasks = ({"containers": one}, {"containers": other}, {"containers": {**one, **other}})
    nodes = tuple(Node(Host(f"gpu{n}"), n, 1, n, **its) for n, its in enumerate(tasks))
    request = make_request(job, Inventory(tuple(node.host for node in nodes)))
    again = changed(request, Layout("r", nodes)).job
    assert [role.environment and role.environment.pinned for role in again.roles] == [
        *("id-of-a", "id-of-b", "id-of-b", ""),
        None,
    ]
    assert again.environment == TRAIN


def test_setups_run_apart_for_each_image() -> None:
    job = _in_images("setup: all\n")
    job = replace(job, roles=tuple(replace(role, setup=role.name) for role in job.roles))
    a, b = images_of(job)
    node = Node(
        *(Host("gpu1"), 0, 4, 0),
        tasks=tuple(Task(role.name, 0, n) for n, role in enumerate(job.roles)),
        containers={a.key: _contained("a", ""), b.key: _contained("b", "")},
    )
    found = dict(_setups(job, node))
    assert list(found) == ["", "head", "worker"]
    assert found["head"] == ["bash", "-ec", "head", "head"]
    assert found["worker"][3:] == ["worker", "same"]
    assert len(found[""]) == 6, "of the job, of plain and of other, each in its environment"
    assert list(dict(_setups(job, node, {"", "plain", "other", "worker"}))) == ["head", "same"]
    with pytest.raises(NoEnvironment, match="the image b was not brought there"):
        _setups(job, replace(node, containers={a.key: _contained("a", "")}))


def test_processes_have_the_python_of_their_role() -> None:
    job = job_file.make({"file": job_file.load(f"run: t.py\n{ROLES}", "j")}, {})
    (host,) = with_python((Host("gpu1", environment=TRAIN),), job)
    assert host.python == "python3", "no environment is that of the whole host"
    pythons = {"conda:train": "/opt/train/bin/python", "/b/bin/python": "/b/bin/python"}
    facts = Facts("gpu1", "gpu1", "/r", "/usr/bin/python3", "3.11", 8, pythons=pythons)
    layout = make_layout(job, [host], {"gpu1": facts})
    (entry,) = plan(job, layout, Meeting("gpu1", 1), "agent").nodes
    programs = [command_of(process)[0] for process in entry.processes]
    assert programs == list(pythons.values())
    assert "gcc" not in entry.processes[0].argv[2]
    assert "launcher_load gcc" in entry.processes[1].argv[2]
    request = Request(job, Inventory((host,)), (host,))
    assert codec.read_run(codec.describe_run(request, layout, 0.0)) == (request, layout)


def test_roles_are_placed_where_their_environment_is() -> None:
    job = job_file.make({"file": job_file.load(f"run: t.py\n{ROLES}", "j")}, {})
    hosts = [Host("gpu1"), Host("gpu2")]
    has = {"/b/bin/python": "/b/bin/python"}
    known = {
        name: Facts(name, name, "/r", "/usr/bin/python3", "3.11", 8, pythons=pythons)
        for name, pythons in (("gpu1", {}), ("gpu2", has))
    }
    assert unable(job, hosts[0], {}) == {"b"}
    layout = make_layout(job, hosts, known)
    places = {task.role: node.host.name for node in layout.nodes for task in node.tasks}
    assert places["b"] == "gpu2"
    with pytest.raises(PlanError):
        make_layout(job, hosts[:1], known)
    # What a job's setup runs in is needed everywhere.
    with_setup = replace(job, setup="true", environment=TRAIN)
    assert unable(with_setup, hosts[1], has) == {"a", "b"}
    assert unable(replace(with_setup, setup=None), hosts[1], has) == {"a"}


def test_a_record_that_is_read_leads_to_the_same_python() -> None:
    """Records hold hosts as the inventory has them: a rerun finds the job's Python there again."""
    request = make_request(Job(("x",), environment=TRAIN), Inventory((Host("gpu1"),)))
    node = Node(request.hosts[0], 0, 1, 0, python="/opt/train/bin/python")
    again = codec.read_run(codec.describe_run(request, Layout("r", (node,)), 0.0))
    assert changed(*again).hosts[0].python == request.hosts[0].python == "conda:train"


def test_the_role_that_most_hosts_lack_is_named() -> None:
    one, two = (NoEnvironment(name, "there is no x", "make it") for name in ("gpu1", "gpu2"))
    other = NoEnvironment("gpu1", "there is no y", "make it")
    found = of_roles({"gpu1": {"a": other, "b": one}, "gpu2": {"b": two}, "gpu3": {}})
    assert str(found) == "gpu1: role b: there is no x; nor on gpu2"
    assert isinstance(found, NoEnvironment)
    assert of_roles({"gpu3": {}}) is None
