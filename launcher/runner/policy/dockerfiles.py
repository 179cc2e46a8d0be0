"""What a Dockerfile says, as far as it matters around its build: steps and their lines, what it begins
from, and for which machine; and what the log of a build says of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...spec.frozen import frozen

#: What Dockerfiles call machines, and what the kernel does.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*\Z")
_HEREDOC = re.compile(r"<<-?\s*([\"']?)(\w+)\1")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
#: A step in a log: of podman, with the stage if there are several; of docker; and of its BuildKit.
_STEPS = (
    re.compile(r"(?:\[(?P<stage>\d+)/\d+\] )?STEP (?P<step>\d+)(?:/(?P<all>\d+))?: (?P<text>.+)"),
    re.compile(r"Step (?P<step>\d+)/(?P<all>\d+) : (?P<text>.+)"),
    re.compile(r"#\d+ \[(?:(?P<name>\S+) )?(?P<step>\d+)/(?P<all>\d+)\] (?P<text>.+)"),
)
#: Where BuildKit says that a build has failed.
_LINE = re.compile(r"^\S*Dockerfile:(\d+)$", re.M)
_EXIT = re.compile(r"(?:exit status |exit code: |returned a non-zero code: )(\d+)")
#: What podman says in front of a reason.
_PREFIX = re.compile(r"\AError: (?:building at STEP \".*?\": )?")
#: Lines of a log that say nothing of why a build has failed.
_NOISE = re.compile(
    r"subprocess exited with status \d+\Z|-+>? ?[0-9a-f]{11,12}\Z|-{4,}\Z|"
    r"DEPRECATED: The legacy builder|Install the buildx|https://docs\.docker\.com/go/buildx|"
    r"time=\"[^\"]*\" level=(?:debug|info|warning)"
)
#: Words of registries that cannot be reached, and of names that mean none.
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|connection refused|network is unreachable|"
    r"TLS handshake timeout|failed to do request|Temporary failure in name resolution",
    re.I,
)
_SHORT = re.compile(r"no unqualified-search registries|did not resolve to an alias", re.I)
_ABSENT = re.compile(
    r"manifest unknown|not found|access to the resource is denied|requested access|unauthorized",
    re.I,
)
#: Begins the line behind which a build is tried again.
_AGAIN = re.compile(r"launcher: containers cannot be made here for RUN.*\n")
#: Lines of a log that are shown, and characters of one.
LAST, WIDTH = 8, 300


@frozen
class Instruction:
    """An instruction as it is written, on one line; the line where it begins, and its stage from 1."""

    line: int
    text: str
    stage: int

    @property
    def word(self) -> str:
        """Its first word, in capitals."""
        return self.text.split(None, 1)[0].upper()


@frozen
class Step:
    """A step in a log. ``name`` tells it from others, and ``label`` is what people see."""

    number: int
    of: int
    text: str
    stage: int = 0

    @property
    def label(self) -> str:
        """As in ``step 3/5: RUN make``."""
        of = f"/{self.of}" if self.of else ""
        stage = f"stage {self.stage}, " if self.stage else ""
        return f"{stage}step {self.number}{of}: {' '.join(self.text.split())[:WIDTH]}"


@frozen
class Failure:
    """Why a build has failed: what, with the line of the Dockerfile, and what to do about it; and the
    last lines of its log."""

    what: str
    hint: str
    line: int
    lines: tuple[str, ...]


def instructions(text: str) -> tuple[Instruction, ...]:
    """Return the instructions of a Dockerfile."""
    found: list[Instruction] = []
    escape, is_top, stage = "\\", True, 0
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line, start = lines[at].strip(), at
        at += 1
        if is_top and (directive := _DIRECTIVE.match(line)):
            if directive[1].lower() == "escape" and directive[2] == "`":
                escape = "`"
            continue
        is_top = False
        if not line or line.startswith("#"):
            continue
        whole = line
        while whole.endswith(escape) and at < len(lines):
            whole = whole[:-1].rstrip()
            more = lines[at].strip()
            at += 1
            while (not more or more.startswith("#")) and at < len(lines):
                more = lines[at].strip()  # comments and empty lines may stand between
                at += 1
            whole += " " + more
        for mark in _HEREDOC.finditer(whole) if _takes_heredocs(whole) else ():
            while at < len(lines) and lines[at].strip() != mark[2]:
                at += 1
            at += 1
        one = " ".join(whole.split())
        stage += one.split(None, 1)[0].upper() == "FROM"
        found.append(Instruction(start + 1, one, stage))
    return tuple(found)


def _takes_heredocs(text: str) -> bool:
    return text.split(None, 1)[0].upper() in ("RUN", "COPY", "ADD")


@frozen
class Base:
    """What a stage begins from, and the machine that it names, if it does; with the line."""

    name: str
    platform: str
    line: int


def bases(found: Sequence[Instruction], arguments: Mapping[str, str]) -> tuple[Base, ...]:
    """Return what each stage begins from: "" for scratch, and for a stage before it."""
    known: dict[str, str] = {}
    stages: set[str] = set()
    result = []
    for one in found:
        words = one.text.split()
        if one.word == "ARG" and one.stage == 0:
            for word in words[1:]:
                name, _, value = word.partition("=")
                known[name] = arguments.get(name, value.strip("\"'"))
        if one.word != "FROM":
            continue
        flags = [word for word in words[1:] if word.startswith("--")]
        rest = [_filled(word, known) for word in words[1:] if not word.startswith("--")]
        name = rest[0] if rest else ""
        platform = next((f.partition("=")[2] for f in flags if f.startswith("--platform=")), "")
        is_ours = name.lower() in stages or name == "scratch"
        result.append(Base("" if is_ours else name, _filled(platform, known), one.line))
        if len(rest) > 2 and rest[1].upper() == "AS":
            stages.add(rest[2].lower())
    return tuple(result)


def _filled(word: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda m: known.get(m[1] or m[3], "") or m[2] or "", word)


def machine_of(found: Sequence[Base]) -> tuple[str, int]:
    """Return the machine that the last stage names, as the kernel calls it, and the line."""
    platform = found[-1].platform if found else ""
    words = platform.split("/")
    name = words[1] if len(words) > 1 else words[0]
    return MACHINES.get(name, name), found[-1].line if found else 0


# -- logs


def step(line: str) -> Step | None:
    """Return the step that begins with a line of a log, if one does."""
    for pattern in _STEPS:
        if known := pattern.match(line):
            groups = known.groupdict()
            if (groups.get("name") or "") == "internal":
                return None
            return Step(
                int(groups["step"]),
                int(groups.get("all") or 0),
                groups["text"].strip(),
                int(groups.get("stage") or 0),
            )
    return None


def line_of(found: Sequence[Instruction], at: Step) -> int:
    """Return the line of a Dockerfile where a step begins; 0 if that is not known."""
    wanted = " ".join(at.text.split())
    fitting = [one for one in found if one.text == wanted or one.text.startswith(wanted)]
    if at.stage:
        fitting = [one for one in fitting if one.stage == at.stage] or fitting
    if len(fitting) == 1:
        return fitting[0].line
    inside = [one for one in found if one.stage == (at.stage or 1)]
    several = len({one.stage for one in found if one.stage}) > 1
    if (at.stage or not several) and 0 < at.number <= len(inside):
        by_number = inside[at.number - 1]
        if by_number.word == wanted.split(None, 1)[0].upper():
            return by_number.line
    return fitting[0].line if fitting else 0


def failure(log: str, found: Sequence[Instruction], said: str, code: str) -> Failure:
    """Return why a build has failed, by its log, and what the host says of it."""
    log = _AGAIN.split(log)[-1]
    lines = [line.rstrip() for line in log.splitlines()]
    steps = [one for one in map(step, lines) if one]
    last = steps[-1] if steps else None
    line = line_of(found, last) if last else 0
    if named := _LINE.findall(log):
        line = int(named[-1])
    at = f"line {line}" if line else ""
    instruction = next((one for one in found if one.line == line), None)
    text = instruction.text if instruction else (" ".join(last.text.split()) if last else "")
    is_from = text.upper().startswith("FROM") or not last
    where = f"{at}: {text[:120]}" if at and text else at or text[:120] or "FROM"
    end = "\n".join(lines[-30:])
    shown = tuple(one[:WIDTH] for one in lines if one.strip() and not _NOISE.match(one.strip()))[
        -LAST:
    ]
    if code == "no-space":
        return Failure(
            f"{where}: there is no room left",
            "podman system prune there (docker system prune) frees what nothing uses",
            line,
            shown,
        )
    if is_from and _SHORT.search(end):
        return Failure(
            f"{where}: podman does not know from which registry",
            "write it out in the Dockerfile, as docker.io/library/python:3.12, or list "
            "unqualified-search-registries in registries.conf there",
            line,
            shown,
        )
    if is_from and _UNREACHABLE.search(end):
        return Failure(
            f"{where}: its registry cannot be reached",
            "podman load -i FILE there, of an image that podman save wrote elsewhere; or build where "
            "there is a network",
            line,
            shown,
        )
    if is_from and _ABSENT.search(end):
        hint = "is the name right? podman login there, if the registry wants one"
        return Failure(f"{where}: there is no such image for us", hint, line, shown)
    exits = _EXIT.findall(end)
    reason = _PREFIX.sub("", said).partition(" &imagebuilder")[0][:WIDTH]
    how = f"ended with exit code {exits[-1]}" if exits and last else f"failed: {reason}"
    return Failure(f"{where} {how}", "", line, shown)
