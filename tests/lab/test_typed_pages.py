"""Every command and program of README and docs is executed, page by page, on real sshd hosts.

A page is typed from its top to its end in a folder with the files that it shows. What it shows as a
screen has to be what the commands print, but for names, times, sizes and counts. The cases, and what
no page can execute, are in tests/cases/snippets.yaml.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT, gpu_tools, snippets
from support import lab as labs
from support.command import end_followers, of_runs
from support.hosts import need_lab
from support.reader import Reader

HOSTS = [
    *(labs.HostSpec(f"gpu{number}", gpus=8) for number in range(1, 9)),
    labs.HostSpec("big", port=2222, gpus=4, passwords=True),
]
#: What stands in for words that mean "one of yours".
RUNS = {"RUN": "this", "OTHER": "other"}
WORDS = {"DEST": "dest", "DIR": "folder", "SWEEP": "-"}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """The hosts that the pages name, with GPUs that a fake nvidia-smi lists."""
    need_lab()
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(HOSTS, tmp_path_factory.mktemp("hosts"), share=share) as standing:
        big = standing.hosts["big"]
        big.add_user("alice", "correct horse")
        for user in ("root", "alice"):
            big.let_in(user, standing.identity_file.with_suffix(".pub").read_bytes())
        for host in standing.hosts.values():
            fake = gpu_tools.nvidia_smi(host.spec.gpu_uuids)
            # Without arguments, as people call it by hand.
            fake = fake.replace("-L)", "-L|'')")
            a100 = fake.replace("NVIDIA Fake GPU", "NVIDIA A100-SXM4-80GB")
            host.write("/usr/local/bin/nvidia-smi", a100.encode(), 0o755)
        yield standing


@pytest.fixture
def reader(hosts: labs.Lab, tmp_path: Path) -> Iterator[Reader]:
    """A reader with an empty record. Fail a page that leaves a process of a run on a host."""
    reader = Reader(tmp_path / "ann", tmp_path / "project")
    (reader.home / ".ssh").mkdir(parents=True, mode=0o700)
    config = re.sub(r"^Host gpu(\d)$", r"Host gpu\1 gpu0\1", hosts.ssh_config.read_text(), flags=re.M)
    (reader.home / ".ssh" / "config").write_text(config)
    yield reader
    end_followers(tmp_path)
    left = reader.end_all()
    for host in hosts.hosts.values():
        foreign = "cut -d, -f1 /run/fake-gpu-apps | xargs -r kill; rm -f /run/fake-gpu-*"
        host.run("sh", "-c", foreign, check=False)
        for process in of_runs(host):
            left.append(f"{host.name}: {' '.join(process.argv)}")
            host.run("kill", "-9", str(process.pid), check=False)
    assert not left, "processes are left"


def lay_out(reader: Reader, page: str, case: snippets.Page) -> None:
    """Make the folder in which a page is read: its clone, or a project of the reader's."""
    shutil.copytree(ROOT / "inventory", reader.work / "inventory")
    shutil.copytree(ROOT / "examples", reader.work / "examples")
    common = snippets.cases()["files"]
    text = "".join(block.text for block in snippets.blocks_of(page))
    numbered = "inventory-0" if re.search(r"\bgpu\[?0", text) else "inventory"
    for name, content in {**common, **case.files}.items():
        file = reader.home / name[2:] if name.startswith("~/") else reader.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.replace("{python}", sys.executable))
        if name.startswith("~/bin/"):
            file.chmod(0o755)
    for name in ("inventory.yaml", "lab.yaml", "inventory/lab.yaml"):
        if name not in case.files:
            (reader.work / name).write_text(snippets.cases()[numbered])


def typed(reader: Reader, command: str) -> str:
    """Return a command with the names of this reader's runs and folders."""
    for word, instead in WORDS.items():
        command = re.sub(rf"(?<![\w$-]){word}\b", instead, command)
    for word, name in RUNS.items():
        if re.search(rf"(?<![\w$-]){word}\b", command):
            command = re.sub(rf"(?<![\w$-]){word}\b", reader.run(name), command)
    for shown, name in re.findall(r"\b(([a-z]+)-[0-9a-f]{4})\b", command):
        command = command.replace(shown, reader.run(name))
    return re.sub(r"(?<=\s)\.\.\.$", "train.py", command)


@pytest.mark.parametrize("page", snippets.typed_pages())
def test_a_page_is_typed(page: str, reader: Reader) -> None:
    case = snippets.page_of(page)
    lay_out(reader, page, case)
    before = dict(case.before)
    wrong: list[str] = []

    def prepare(key: str) -> None:
        if script := before.pop(key, ""):
            if reader.type(f"set -e\n{script}"):
                pytest.fail("\n".join([f"before {key!r}: {reader.said[-1]}", *wrong]), pytrace=False)

    words = " ".join(step.command for b in snippets.blocks_of(page) for step in b.steps)
    scenes = " ".join(case.before.values())
    for word, name in RUNS.items():
        if re.search(rf"\b{word}\b", words) and f"--name {name} " not in scenes:
            assert reader.type(f"launcher run --nodes 2 --name {name} train.py") == 0
    prepare("")
    for block in snippets.blocks_of(page):
        if block.name and block.language != "python" and block.name not in case.keep:
            file = Path(block.name.replace("~", str(reader.home)))
            (reader.work / file).parent.mkdir(parents=True, exist_ok=True)
            (reader.work / file).write_text(block.text)
        if block.language == "python" and snippets.how(block) == "typed":
            (reader.work / "shown.py").write_text(f"{case.prelude}\n{block.text}")
            if reader.type("python shown.py"):
                wrong.append(f"{block}: {reader.said[-1][1]}")
        for step in block.steps:
            if not step.command or snippets.excuse(page, step.command):
                continue
            prepare(step.command)
            command = typed(reader, step.command)
            dialogue = {**snippets.cases()["talks"], **case.talks}.get(step.command)
            if dialogue is not None:
                code = reader.talk(command, [tuple(one) for one in dialogue])
            else:
                code = reader.type(command)
            shown = reader.said[-1][1]
            by_ctrl_c = dialogue and dialogue[-1][1] == "\x03" and code == 130
            if (code != case.exits.get(step.command, 0) and not by_ctrl_c) or "Traceback (most" in shown:
                wrong.append(f"{block}: {step.command}: exit {code}\n{shown[-900:]}")
            for line in snippets.missing(step.screen, shown):
                if not snippets.excuse(page, line.strip()):
                    wrong.append(f"{block}: not printed: {line}")
    prepare("end")
    assert not before, f"no such commands on the page: {list(before)}"
    for block in snippets.blocks_of(page):
        for step in block.steps:
            if step.command or snippets.excuse(page, step.screen[0]):
                continue
            lost = [snippets.missing(step.screen, shown) for _, shown in reader.said] or [["all"]]
            best = [one for one in min(lost, key=len) if not snippets.excuse(page, one.strip())]
            if best:
                wrong.append(f"{block}: no command prints: {best}")
    Path("/tmp/said").mkdir(exist_ok=True)  # XXX
    Path("/tmp/said", page.replace("/", "_")).write_text("\n".join(f"$ {c}\n{t}" for c, t in reader.said))  # XXX
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
