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
    *(labs.HostSpec(f"lab{number}") for number in range(1, 6)),
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
        for host in (one for one in standing.hosts.values() if one.spec.gpus):
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
    config = re.sub(
        r"^Host gpu(\d)$", r"Host gpu\1 gpu0\1", hosts.ssh_config.read_text(), flags=re.M
    )
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


class Reading:
    """A page that is read from its top to its end; ``wrong`` is what did not hold."""

    def __init__(self, page: str, reader: Reader) -> None:
        self.page, self.reader, self.case = page, reader, snippets.page_of(page)
        self.before = dict(self.case.before)
        self.talks = {**snippets.cases()["talks"], **self.case.talks}
        self.wrong: list[str] = []

    def read(self) -> None:
        """Type all of it."""
        self._start_runs()
        self._prepare("")
        for block in snippets.blocks_of(self.page):
            self._block(block)
        self._prepare("end")
        for block in snippets.blocks_of(self.page):
            for step in block.steps:
                if not step.command:
                    self._find(block, step)

    def _start_runs(self) -> None:
        """Start what RUN and OTHER stand for, unless the case does."""
        typed = [step.command for b in snippets.blocks_of(self.page) for step in b.steps]
        for word, name in RUNS.items():
            is_named = any(re.search(rf"\b{word}\b", line) for line in typed)
            if is_named and f"--name {name} " not in " ".join(self.before.values()):
                assert self.reader.type(f"launcher run --nodes 2 --name {name} train.py") == 0

    def _prepare(self, key: str) -> None:
        script = self.before.pop(key, "")
        if script and self.reader.type(f"set -e\n{script}"):
            why = f"before {key!r}: {self.reader.said[-1][1][-3000:]}"
            pytest.fail("\n".join([why, *self.wrong]), pytrace=False)

    def _block(self, block: snippets.Block) -> None:
        if block.language == "python":
            if snippets.how(block) == "typed":
                (self.reader.work / "shown.py").write_text(f"{self.case.prelude}\n{block.text}")
                if self.reader.type("python shown.py"):
                    self.wrong.append(f"{block}: {self.reader.said[-1][1]}")
            return
        if block.name and block.name not in self.case.keep:
            file = self.reader.work / block.name.replace("~", str(self.reader.home))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        for step in block.steps:
            if step.command and not snippets.excuse(self.page, step.command):
                self._prepare(step.command)
                self._step(block, step)

    def _step(self, block: snippets.Block, step: snippets.Step) -> None:
        command, dialogue = self._with_names(step.command), self.talks.get(step.command)
        talk = dialogue is not None
        code = self.reader.talk(command, dialogue) if talk else self.reader.type(command)
        shown = self.reader.said[-1][1]
        by_ctrl_c = bool(dialogue) and dialogue[-1][1] == "\x03" and code == 130
        ends = code == self.case.exits.get(step.command, 0) or by_ctrl_c
        if not ends or f"{ROOT}/launcher/" in shown:
            self.wrong.append(f"{block}: {step.command}: exit {code}\n{shown[-900:]}")
        for line in self._lost(step, shown):
            self.wrong.append(f"{block}: {step.command} does not print: {line}\n{shown[-3000:]}")

    def _find(self, block: snippets.Block, step: snippets.Step) -> None:
        """Find a screen that stands alone in what one command has printed."""
        if snippets.excuse(self.page, step.screen[0].strip()):
            return
        lost = [self._lost(step, shown) for _, shown in self.reader.said]
        if best := min(lost, key=len):
            self.wrong.append(f"{block}: no command prints: {best}")

    def _lost(self, step: snippets.Step, shown: str) -> list[str]:
        lost = snippets.missing(step.screen, shown, self.case.unordered)
        return [line for line in lost if not snippets.excuse(self.page, line.strip())]

    def _with_names(self, command: str) -> str:
        """Return a command with the names of this reader's runs and folders."""
        for word, instead in WORDS.items():
            command = re.sub(rf"(?<![\w$-]){word}\b", instead, command)
        for word, name in RUNS.items():
            if re.search(rf"(?<![\w$-]){word}\b", command):
                command = re.sub(rf"(?<![\w$-]){word}\b", self.reader.run(name), command)
        for shown, name in re.findall(r"\b(([a-z]+)-[0-9a-f]{4})\b", command):
            command = command.replace(shown, self.reader.run(name))
        return re.sub(r"(?<=\s)\.\.\.$", "train.py", command)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in snippets.cases()["slow"] else [])
        for page in snippets.typed_pages()
    ],
)
def test_a_page_is_typed(page: str, reader: Reader) -> None:
    reading = Reading(page, reader)
    if lacking := [program for program in reading.case.needs if shutil.which(program) is None]:
        pytest.skip(f"not here: {', '.join(lacking)}")
    lay_out(reader, page, reading.case)
    reading.read()
    if reading.wrong:
        pytest.fail("\n".join(reading.wrong), pytrace=False)
