"""Plug-ins of other packages, whole (those of examples/plugin) and broken."""

from __future__ import annotations

import asyncio
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import frameworks
from launcher.api import formats, plugins
from launcher.api.jobs import dry_run, make_job
from launcher.fleet.findings import Finding
from launcher.fleet.findings.plugins import PLUGINS, of_plugins
from launcher.fleet.inventory_file import load_inventory
from launcher.records import events as ev
from launcher.runner import notify
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Host, Inventory
from launcher.spec.plugins import PluginWarning
from support import ROOT
from support.surveys import survey

EXAMPLE = ROOT / "examples" / "plugin"
#: What breaks, by the message of the error: at its import, or when it is used.
MODULES = {
    "absent": "import not_installed_anywhere",
    "wrong": "it = 5",
    "raises": """
from launcher.api.plugins import InventoryFormat, TaskFormat
def fails(*_):
    raise KeyError("hosts")
""",
}


def install(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """Write the metadata of an installed package."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in of.items())
        for group, of in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example is installed; yield a folder for more."""
    place = tmp_path / "site"
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(place, project["name"], project["entry-points"])
    for folder in (EXAMPLE, place):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{EXAMPLE}:{place}")
    frameworks.get.cache_clear()
    yield place
    frameworks.get.cache_clear()
    for name in [name for name in sys.modules if name.startswith(("launcher_example", "broken_"))]:
        del sys.modules[name]


def break_(place: Path, group: str, value: str) -> str:
    """Install a broken plug-in ``bad``; return how errors name its package."""
    for name, text in MODULES.items():
        (place / f"broken_{name}.py").write_text(text)
    install(place, "bad-pack", {group: {"bad": value}})
    return "bad-pack 1.2"


def sent(folder: Path, to: str) -> list[ev.Event]:
    """Send the news of a run's end; return what failed."""
    notify.ask(folder, [to])
    failed: list[ev.Event] = []

    async def send() -> None:
        notifier = notify.Notifier(folder, failed.append, lambda: 7.0)
        notifier.hear(ev.RunEnded(5.0, "failed", "exit-3", "gpu1"))
        await notifier.finish()

    asyncio.run(send())
    return failed


# -- whole


def test_a_framework(installed: Path) -> None:
    job = make_job(run=("true",), framework="seeded", num_nodes=1)
    (process,) = dry_run(job, Inventory((Host("h"),))).nodes[0].processes
    assert process.env["SEED"] == "1000"


def test_an_inventory_is_recognised_before_it_is_taken_for_a_plain_list(
    installed: Path, tmp_path: Path
) -> None:
    file = tmp_path / "hosts.csv"
    file.write_text("host,address,gpus,rack\ngpu1,10.0.0.1,8,A\ngpu2,10.0.0.2,4,B\n")
    inventory = load_inventory(file)
    assert [(host.name, host.address, host.gpus) for host in inventory.hosts] == [
        ("gpu1", "10.0.0.1", 8),
        ("gpu2", "10.0.0.2", 4),
    ]
    assert inventory.notes == ("line 1: the column rack is not carried over",)
    assert "(table of hosts)" in formats.import_inventory(file.read_text(), "hosts.csv", "csv")[1]
    with pytest.raises(DocumentError, match="cannot be port") as caught:
        formats.import_inventory("host,port\ngpu1,x\n", "hosts.csv", "csv")
    assert (caught.value.source, caught.value.line) == ("hosts.csv", 2)


def test_a_task(installed: Path) -> None:
    text = "name: demo\nnodes: 2\ncommand: python train.py\nqueue: fast\n"
    job, notes = formats.import_task(text, "task.recipe", "recipe")
    assert 'num_nodes: 2\nrun: "python train.py"\n' in job
    assert notes == ("line 4: queue is not carried over",)
    with pytest.raises(InputError) as caught:
        formats.import_task(text, "task.recipe", "recipes")
    assert caught.value.hint == 'did you mean "recipe"?'


def test_a_check(installed: Path) -> None:
    checks = PLUGINS.each()
    assert of_plugins(checks, survey("gpu1"), Host("gpu1")) == []
    old = replace(survey("gpu1"), kernel="4.18.0-553")
    (finding,) = of_plugins(checks, old, Host("gpu1"))
    assert (finding.code, finding.level, finding.hosts) == ("KERNEL-OLD", "warning", ("gpu1",))


def test_a_notifier_gets_the_news_and_what_stands_behind_its_name(
    installed: Path, tmp_path: Path
) -> None:
    notify.check([f"append:{tmp_path}/news"])
    assert sent(tmp_path, f"append:{tmp_path}/news") == []
    assert (tmp_path / "news").read_text() == f"ended: {tmp_path.name} failed (exit-3)\n"
    (failed,) = sent(tmp_path, f"append:{tmp_path}/no/s3cret")
    assert isinstance(failed, ev.NotificationFailed)
    assert failed.to == "notifier append"
    assert failed.problem.startswith("notifier append exited with 1: FileNotFoundError: ")


def test_nothing_is_imported_unless_used(installed: Path, tmp_path: Path) -> None:
    make_job(run=("true",), framework="seeded")
    formats.import_inventory("gpu1 slots=8\n", "hosts", "hostfile")
    formats.import_inventory("[all]\ngpu1\n", "hosts.ini", None)
    notify.check(["desktop", "https://example.org/hook", "curl -d x y:z"])
    found = {name for name in sys.modules if name.startswith("launcher_example.")}
    assert found == {"launcher_example.framework"}


def test_names_for_plug_ins_are_these() -> None:
    assert set(plugins.__all__) == set(plugins._HOME)
    assert all(getattr(plugins, name).__doc__ for name in plugins.__all__)
    with pytest.raises(AttributeError):
        plugins.Nothing  # noqa: B018


# -- broken


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("broken_absent:it", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ("broken_wrong:it", "broken_wrong:it is not an InventoryFormat of launcher.api.plugins"),
        ("broken_wrong:other", "has no attribute 'other'"),
    ],
)
def test_a_broken_format_harms_no_other(installed: Path, value: str, why: str) -> None:
    package = break_(installed, "launcher.inventories", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        formats.import_inventory("[all]\ngpu1\n", "hosts.ini", None)  # ours
        formats.import_inventory("host\ngpu1\n", "hosts.csv", "csv")
    with pytest.raises(InputError) as caught:
        formats.import_inventory("gpu1\n", "hosts", "bad")
    assert str(caught.value).startswith(
        f'inventory format plug-in "bad" of {package} cannot be used: '
    )
    assert why in str(caught.value)
    assert "pip uninstall bad-pack" in caught.value.hint
    with pytest.warns(PluginWarning, match='"bad" of bad-pack 1.2 is skipped'):
        formats.import_inventory("host,gpus\ngpu1,8\n", "hosts.csv", None)


@pytest.mark.parametrize("result", ["1 / 0", "['a process']"])
def test_a_framework_that_fails_is_named(installed: Path, result: str) -> None:
    package = break_(installed, "launcher.frameworks", "broken_plan:Bad")
    (installed / "broken_plan.py").write_text(
        "from launcher.api.plugins import Framework\n"
        "class Bad(Framework):\n"
        "    name = 'bad'\n"
        f"    def processes(self, place):\n        return {result}\n"
    )
    job = make_job(run=("true",), framework="bad", num_nodes=1)
    with pytest.raises(InputError, match=f'framework plug-in "bad" of {package} failed: '):
        dry_run(job, Inventory((Host("h"),)))


@pytest.mark.parametrize("group", ["launcher.inventories", "launcher.tasks"])
def test_a_format_that_fails_is_named(installed: Path, group: str) -> None:
    package = break_(installed, group, "broken_raises:it")
    kind = (
        "InventoryFormat('x', fails, fails)" if "inv" in group else "TaskFormat('x', fails, False)"
    )
    with (installed / "broken_raises.py").open("a") as file:
        file.write(f"it = {kind}\n")
    read = formats.import_inventory if "inv" in group else formats.import_task
    with pytest.raises(InputError, match=f"of {package} failed: KeyError: 'hosts'"):
        read("gpu1\n", "hosts", "bad")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("broken_absent:it", "of bad-pack 1.2 cannot be used: ModuleNotFoundError"),
        ("broken_wrong:it", "is not a function of a survey and a host"),
        ("broken_raises:fails", "of bad-pack 1.2 failed: KeyError: 'hosts'"),
    ],
)
def test_a_broken_check_is_a_finding(installed: Path, value: str, says: str) -> None:
    break_(installed, "launcher.checks", value)
    found = of_plugins(PLUGINS.each(), survey("gpu1"), Host("gpu1"))
    (broken,) = (finding for finding in found if finding.code == "PLUGIN-BROKEN")
    assert says in broken.evidence
    assert "pip uninstall bad-pack" in broken.fix


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (5, "5 is not a Finding"),
        (Finding("DISK-FULL", "error", (), ""), 'the code "DISK-FULL" does not begin with KERNEL-'),
        (Finding("KERNEL-OLD", "error", (), ["4.18"]), "evidence and fix are texts"),  # type: ignore[arg-type]
        (Finding("KERNEL-OLD", "fatal", (), ""), 'the level "fatal" is none of'),
    ],
)
def test_a_check_yields_findings_of_its_own(installed: Path, one: object, why: str) -> None:
    (broken,) = of_plugins({"kernel": lambda *_: [one]}, survey("gpu1"), Host("gpu1"))  # type: ignore[dict-item, list-item]
    assert broken.code == "PLUGIN-BROKEN"
    assert why in broken.evidence


def test_a_broken_notifier_is_an_error_for_who_asks_for_it(installed: Path) -> None:
    package = break_(installed, "launcher.notifiers", "broken_wrong:it")
    notify.check(["desktop", "append:file"])
    with pytest.raises(InputError, match=f'notifier plug-in "bad" of {package} cannot be used'):
        notify.check(["bad:x"])
    with pytest.raises(InputError, match='no notifier "slack" is installed') as caught:
        notify.check(["slack:#runs"])
    assert caught.value.hint == f"installed: append, bad; without one: {notify.PLACES}"
