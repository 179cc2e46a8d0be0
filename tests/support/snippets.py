"""What README and docs show, block by block: commands, programs, files and screens.

``tests/cases/snippets.yaml`` says what has to be there before a page's commands are typed, and which
lines no test of a page can execute, each with its reason.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from support import ROOT

CASES = ROOT / "tests" / "cases" / "snippets.yaml"
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
#: The first line of a file that a page shows, with its name.
_NAME = re.compile(r"# ((?:~/|\.)?[\w./-]+\.(?:ya?ml|py|toml)|\.launcherignore)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line there, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> str:
        """The name of the file that it shows, if its first line says so."""
        found = _NAME.match(self.text)
        return found[1] if found else ""

    @property
    def steps(self) -> list[Step]:
        """What a reader types, each with the screen below it; a screen alone is a step without command."""
        text = re.sub(r"\\\n *", "", self.text)
        if self.language == "sh" and not self.name:
            lines = (bare(line) for line in text.splitlines())
            return [Step(line) for line in lines if line]
        if self.language not in ("console", "text"):
            return []
        first, *rest = re.split(r"^\$ ", text, flags=re.MULTILINE)
        found = [Step("", first.splitlines())] if first else []
        for typed in rest:
            command, *screen = typed.splitlines()
            found.append(Step(bare(command), screen))
        return found


@dataclass(frozen=True)
class Step:
    """A command, and the screen that a page shows of it."""

    command: str
    screen: Sequence[str] = ()


@dataclass
class Page:
    """What the cases say of a page."""

    before: Mapping[str, str] = field(default_factory=dict)
    exits: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    talks: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    unordered: bool = False
    needs: Sequence[str] = ()
    keep: Sequence[str] = ()
    prelude: str = ""


def bare(line: str) -> str:
    """Return a command line without its comment."""
    return re.sub(r"(^|\s+)#\s.*", "", line).strip()


def pages() -> list[str]:
    """Return README and all pages of docs, but for decisions, which record what was."""
    names = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))]
    return ["README.md", *(name for name in names if "/decisions/" not in name)]


@functools.cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """Return the blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]))
        for found in _BLOCK.finditer(text)
    )


def blocks(*languages: str) -> Iterator[Block]:
    """Yield the blocks of all pages in one of the languages, or in any."""
    for page in pages():
        yield from (b for b in blocks_of(page) if not languages or b.language in languages)


@functools.cache
def cases() -> dict[str, Any]:
    """Return the table of cases."""
    found: dict[str, Any] = yaml.safe_load(CASES.read_text("utf-8"))
    return found


def page_of(name: str) -> Page:
    """Return what the cases say of a page."""
    return Page(**cases()["pages"].get(name, {}))


_HOST = r"(?:gpu|local|lab|bare|big)\d*(?:\[[\d,-]+\])?"
_GENERAL = (
    (r"\x1b\[[0-9;?]*[a-zA-Z]", ""),
    (r"[\u2580-\u259f\u250a]+|#{2,}|(?<= )#$|\|", " "),  # bars
    (r"\b(?:[a-z]+-)+(?:[0-9a-f]{8}-)?[0-9a-f]{4}\b", "RUN"),
    (r"\b[0-9a-f]{8,64}\b", "HEX"),
    (r"\b(?:RTX )?A\d{2,4}(?:-SXM4)?(?:[ -]\d+ ?GB)?", "MODEL"),
    (r"(?:~|/root|/[^\s\"]*?/ann)/(?:\.launcher/)?(?:sandbox/\S+?/)?", "~/"),
    (rf"\b{_HOST}(?:,{_HOST})*(?!\w)", "HOST"),
    (r"\b(?:ann|bob|eve|alice|root|nobody|me|you)\b(?:,(?:ann|bob|eve)\b)*", "USER"),
    (r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b", "DAY"),
    (r"\b(\d+) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", r"\1 MONTH"),
    (r"\d+(?:[.,:]\d+)*", "0"),
    (r"(?:DAY|0 MONTH) 0", "0"),
    (r"HEX\+", "HEX"),
    (r"0(?:[-,x]0)+", "0"),
    (r"0 (?:[kMG]?B|[KMG]iB)\b", "0 B"),
    (r"0 [kMG]bit/s", "0 bit/s"),
    (r"0 k?Wh", "0 Wh"),
    (r"0 (?:ms|s|min|h|d)\b(?: 0(?: s| min)?\b)?", "0 s"),
    (r"-{2,}", "-"),
    (r"\s+", " "),
)


def general(line: str) -> str:
    """Return a line of a screen without what differs from run to run: names, times, sizes, counts."""
    for pattern, instead in _GENERAL:
        line = re.sub(pattern, instead, line)
    return line.strip()


def missing(screen: Sequence[str], output: str, unordered: bool = False) -> list[str]:
    """Return the lines of a screen that an output does not have, in this order or in any.

    ``...`` stands for lines that were left out, or for the rest of one.
    """
    said = [general(line) for line in output.splitlines()]
    lost = []
    for line in screen:
        wanted = general(line)
        if wanted in ("", "..."):
            continue
        parts = map(re.escape, re.split(r"\s*(?:\.\.\.|…)\s*", wanted))
        pattern = re.compile(".*".join(parts))
        at = next((n for n, one in enumerate(said) if pattern.fullmatch(one)), None)
        if at is None:
            lost.append(line)
        else:
            said = [*said[:at], *said[at + 1 :]] if unordered else said[at + 1 :]
    return lost


def excuse(page: str, line: str) -> str:
    """Return why no reader types a line, or is shown it: what executes it, or why nothing does."""
    whole = f"{line}$"
    for kind in ("elsewhere", "excused"):
        for why, lines in cases()[kind].items():
            if any(name == page and whole.startswith(start) for name, start, *_ in lines):
                return str(why)
    return ""


def how(block: Block) -> str:
    """Return what holds a block to the truth: ``typed``, a folder of tests, a unit test, or ``excused``."""
    if block.language in ("yaml", "json", "toml"):
        return "planned or read"
    if block.language == "rooms":
        return "compared with the imports"
    if block.page.startswith("docs/reference/") and not block.language:
        return "generated"
    lines = [step.command or step.screen[0] for step in block.steps]
    lines = lines or [block.text.lstrip().partition("\n")[0]]
    why = [excuse(block.page, line.strip()) for line in lines]
    if block.name == ".launcherignore" or not all(why):
        return "typed"
    return "excused" if any(one in cases()["excused"] for one in why) else "executed elsewhere"


def typed_pages() -> list[str]:
    """Return the pages on which a reader types or is shown something."""
    return [page for page in pages() if any(how(block) == "typed" for block in blocks_of(page))]
