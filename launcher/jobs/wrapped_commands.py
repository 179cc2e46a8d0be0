"""Find the launcher that a command starts inside another: behind ``numactl``, in a script, by ``make``.

What only mentions a launcher, in a comment, by ``echo`` or to look for it, starts none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from ..spec.frozen import frozen
from . import start_commands
from .shell_commands import commands
from .start_command import behind_python

#: Programs that choose an environment for the command behind them, and their options with a value.
_ENVIRONMENTS = {
    "uv run": "--extra --no-extra --group --no-group --only-group --no-editable-package --env-file -w "
    "--with --with-editable --with-requirements --package --python-platform --index --default-index -i "
    "--index-url --extra-index-url -f --find-links --index-strategy --keyring-provider -P "
    "--upgrade-package --upgrade-group --resolution --prerelease --fork-strategy --exclude-newer "
    "--reinstall-package --link-mode -C --config-setting --no-build-package --no-binary-package "
    "--cache-dir --refresh-package -p --python --color --allow-insecure-host --directory --project "
    "--config-file",
    "poetry run": "-C --directory -P --project",
    "pipenv run": "",
    "pdm run": "-p --project",
    "pixi run": "-e --environment -m --manifest-path",
    **dict.fromkeys(("conda run", "mamba run", "micromamba run"), "-n --name -p --prefix --cwd"),
}
#: The same of all programs that start the command behind them.
_WRAPPERS = {
    tuple(name.split()): valued.split()
    for name, valued in {
        **_ENVIRONMENTS,
        "env": "-u --unset -C --chdir -S",
        "numactl": "-C --physcpubind -N --cpunodebind -m --membind -i --interleave -p --preferred "
        "-P -w --weighted-interleave",
        "time": "-f --format -o --output",
        "nohup": "",
        "setsid": "",
        "nice": "-n --adjustment",
        "ionice": "-c --class -n --classdata",
        "stdbuf": "-i -o -e --input --output --error",
        "sudo": "-u --user -g --group",
        "timeout": "-s --signal -k --kill-after",
        "taskset": "",
    }.items()
}
#: Those with an argument of their own in front of the command.
_WITH_ARGUMENT = ("timeout", "taskset")
#: Programs that start the command behind options of theirs, which are many.
_SOMEWHERE = frozenset(
    {
        *(
            "nsys",
            "ncu",
            "rocprof",
            "rocprofv3",
            "py-spy",
            "memray",
            "scalene",
            "strace",
            "ltrace",
            "perf",
        ),
        *("xvfb-run", "unbuffer", "catchsegv", "prlimit", "chrt", "flock", "systemd-run", "cgexec"),
        *("apptainer", "singularity", "hatch", "rye", "pipx", "uvx"),
    }
)
SHELLS = ("bash", "sh", "zsh", "dash", "ksh")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
#: Words of a shell in front of a command.
_KEYWORDS = frozenset(
    {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "exec", "eval"}
)
_ENDS = {"fi": "if", "esac": "case"}
_ONLY_ASKS = frozenset({"--help", "-h", "--version", "-V", "--check-build", "-cb"})
_VARIABLE = re.compile(r"\$\{?(\w+)(?::?-[^}]*)?(?:\[@\])?\}?")
_RULE = re.compile(
    r"(?P<targets>[^\s#:=][^:=#]*?)\s*::?(?!=)\s*(?P<needs>[^#;=]*)(?:;(?P<recipe>.*))?"
)
_MAKE_VARIABLE = re.compile(r"(?:export\s+|override\s+)?([\w.-]+)\s*(?::{0,3}|\?|\+)=\s*(.*)")
_MAKE_REFERENCE = re.compile(r"\$[({]([\w.-]+)[)}]")


@frozen
class Wrapped:
    """A command behind another: the words in front of it, what they are called, and the rest."""

    called: str
    front: tuple[str, ...]
    rest: tuple[str, ...]


def unwrapped(words: tuple[str, ...]) -> Wrapped | None:
    """Return the command behind a program that starts it, or None."""
    if not words:
        return None
    named = (words[0].rpartition("/")[2], *words[1:2])
    for names, valued in _WRAPPERS.items():
        if named[: len(names)] == names:
            at = len(names)
            while at < len(words) and (
                words[at].startswith("-") or _is_variable(names[0], words[at])
            ):
                if words[at] == "--":
                    at += 1
                    break
                if names == ("uv", "run") and words[at] in ("-m", "--module"):
                    return Wrapped("uv run", words[:at], ("python", "-m", *words[at + 1 :]))
                at += 2 if words[at] in valued else 1
            at += names[0] in _WITH_ARGUMENT
            return Wrapped(" ".join(names), words[:at], words[at:])
    if named[0] in _SOMEWHERE:
        found = (at for at in range(1, len(words) - 1) if _begins(words[at:]))
        if at := next(found, 0):
            return Wrapped(named[0], words[:at], words[at:])
    return None


def _begins(words: tuple[str, ...]) -> bool:
    """Return whether a command begins here that launcher reads."""
    name = words[0].rpartition("/")[2]
    known = start_commands.PYTHON.match(name) or name in SHELLS or (name,) in _WRAPPERS
    return bool(known or start_commands.program(words))


def chooses_environment(words: tuple[str, ...]) -> bool:
    """Return whether a command is behind a program that chooses its environment, as ``uv run``."""
    inner = unwrapped(words)
    return inner is not None and inner.called in _ENVIRONMENTS


def _is_variable(program: str, word: str) -> bool:
    return program in ("env", "sudo") and _ASSIGNMENT.match(word) is not None


def launcher(words: tuple[str, ...]) -> tuple[str, str]:
    """Return the launcher that a command starts, and what stands in front of it; "" for none."""
    called: list[str] = []
    while True:
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        if name := start_commands.program(words):
            return name, " ".join(called)
        if (text := shell_text(words)) is not None:
            found = started(text)
            shell = f"{words[0].rpartition('/')[2]} -c"
            return (found.name, " ".join([*called, shell])) if found else ("", "")
        if (inner := unwrapped(words)) is None:
            return "", ""
        called.append(inner.called)
        words = inner.rest


def shell_text(words: tuple[str, ...]) -> str | None:
    """Return the text that ``bash -c TEXT`` runs, or None."""
    at = _behind_shell(words)
    if (
        at
        and any(re.fullmatch(r"-[a-z]*c[a-z]*", word) for word in words[1:at])
        and at < len(words)
    ):
        return words[at]
    return None


def script(words: tuple[str, ...]) -> str:
    """Return the path of the shell script that a command may start, wrappers aside; "" for none."""
    words = _bare(words)
    if not words or shell_text(words) is not None:
        return ""
    at = _behind_shell(words)
    if at:
        return words[at] if at < len(words) else ""
    return words[0] if "/" in words[0] or words[0].endswith(".sh") else ""


def python_script(words: tuple[str, ...]) -> str:
    """Return the path of the Python script that a command starts, wrappers aside; "" for none."""
    words = _bare(words)
    if words and start_commands.PYTHON.match(words[0]):
        words = behind_python(words)
    return words[0] if words and words[0].endswith(".py") else ""


def _bare(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command without wrappers in front."""
    while (inner := unwrapped(words)) is not None:
        words = inner.rest
    return words


def _behind_shell(words: tuple[str, ...]) -> int:
    """Return the place of the first argument of a shell; 0 if the command starts none."""
    if not words or words[0].rpartition("/")[2] not in SHELLS:
        return 0
    at = 1
    while at < len(words) and words[at].startswith(("-", "+")):
        is_valued = re.fullmatch(r"[-+]\w*[oO]|--rcfile|--init-file", words[at])
        at += 2 if is_valued else 1
    return at


@frozen
class Made:
    """What ``make`` is asked for: the folder and file of its rules ("": as usual), and targets."""

    folder: str
    file: str
    targets: tuple[str, ...]


def made(words: tuple[str, ...]) -> Made | None:
    """Return what ``make`` is asked for, wrappers aside; None for another command."""
    words = _bare(words)
    if not words or words[0].rpartition("/")[2] not in ("make", "gmake"):
        return None
    folder = file = ""
    targets, left = [], list(words[1:])
    while left:
        word = left.pop(0)
        if word in ("-C", "-f", "--directory", "--file", "--makefile") and left:
            value = left.pop(0)
            folder, file = (value, file) if word in ("-C", "--directory") else (folder, value)
        elif not word.startswith("-") and "=" not in word and not word.isdigit():
            targets.append(word)
    return Made(folder, file, tuple(targets))


@frozen
class Peeled:
    """What prefixes mean that stand in front of a launcher: variables, a conda environment, and the
    ``wrapper`` that chooses another one."""

    envs: Mapping[str, str]
    conda: str
    wrapper: tuple[str, ...]
    words: tuple[str, ...]


def peeled(words: tuple[str, ...]) -> Peeled:
    """Return a launcher's command without prefixes whose meaning is certain: variables, ``env``,
    ``time``, ``nohup``, ``conda run`` and its like. A command with others is returned as it is."""
    envs: dict[str, str] = {}
    wrapper: tuple[str, ...] = ()
    conda, rest = "", words
    while True:
        front = without_variables(rest)
        envs, rest = {**envs, **front.envs}, front.words
        inner = unwrapped(rest)
        if inner is None:
            break
        options = inner.front[len(inner.called.split()) :]
        if inner.called == "env" and not any(word.startswith("-") for word in options):
            envs |= {name: value for name, _, value in (word.partition("=") for word in options)}
        elif inner.called == "conda run" and (named := _conda(options)):
            conda = named
        elif inner.called in _ENVIRONMENTS:
            # Or else it keeps to itself what the command prints until that has ended.
            live = ("--no-capture-output",) if inner.called == "conda run" else ()
            wrapper += (*inner.front[:2], *live, *(word for word in options if word not in live))
            # Poetry adds it by itself unless the command has one, as those that launcher makes do.
            if inner.called == "poetry run" and "--" not in options:
                wrapper += ("--",)
        elif inner.called not in ("time", "nohup") or {*options} - {"-p"}:
            return Peeled({}, "", (), words)
        rest = inner.rest
    found = start_commands.program(rest)
    return Peeled(envs, conda, wrapper, rest) if found else Peeled({}, "", (), words)


def without_variables(words: tuple[str, ...]) -> Peeled:
    """Return a command without the variables in front of it; one of variables alone as it is."""
    envs: dict[str, str] = {}
    rest = words
    while rest and _ASSIGNMENT.match(rest[0]) and "+=" not in rest[0].partition("=")[0] + "=":
        name, _, envs[name] = rest[0].partition("=")
        rest = rest[1:]
    return Peeled(envs, "", (), rest) if rest else Peeled({}, "", (), words)


#: Options of ``conda run`` that concern its own output.
_ABOUT_OUTPUT = frozenset({"--no-capture-output", "--live-stream", "-s"})


def _conda(options: tuple[str, ...]) -> str:
    """Return the environment that options of ``conda run`` name; "" if they say more than that."""
    left = [word for word in options if word not in _ABOUT_OUTPUT]
    named = ("-n", "--name", "-p", "--prefix")
    return left[1] if len(left) == 2 and left[0] in named else ""


@frozen
class Started:
    """The line of a file that starts a launcher, and which; ``alone``: by ``torchrun --standalone``."""

    path: str
    line: int
    name: str
    alone: bool = False


#: Returns the text of a script by its path, "" for what is none.
Read = Callable[[str], str]
#: What is known of the scripts that were read, by their paths.
Known = dict[str, Started | None]


def _nothing(path: str) -> str:
    return ""


def started_by(words: tuple[str, ...], read: Read, known: Known | None = None) -> Started | None:
    """Return what the shell script starts that a command runs, itself or by scripts that it calls.

    Each script is read once, whoever calls it.
    """
    path, known = script(words), {} if known is None else known
    if not path or path.startswith("/"):
        return None
    if path not in known:
        known[path] = None  # while it is read: it may call itself
        text = read(path)
        if text and (_is_shell(text) or path.endswith(".sh") or path != _bare(words)[0]):
            known[path] = started(text, path, read, known)
    return known[path]


def _is_shell(text: str) -> bool:
    return re.match(r"#!.*\b(?:ba|da|z|k)?sh\b", text) is not None


def started(
    text: str, path: str = "", read: Read = _nothing, known: Known | None = None
) -> Started | None:
    """Return what a shell script starts, itself or by scripts that it calls; None for no launcher.

    In an ``if`` or ``case`` that starts a plain Python elsewhere, nobody knows which it will be.
    """
    variables: dict[str, str] = {}
    known = {} if known is None else known
    depth, either = 0, False
    candidate: Started | None = None
    for line, command in commands(text):
        words = command
        if words[0] in _ENDS:
            depth, words = max(0, depth - 1), words[1:]
            if not depth:
                if candidate and not either:
                    return candidate
                either, candidate = False, None
        depth += words[:1] in (("if",), ("case",))
        while words and words[0] in _KEYWORDS:
            is_text = words[0] == "eval" and " " in "".join(words[1:2])
            words = (_words(words[1]) or ()) + words[2:] if is_text else words[1:]
            depth += words[:1] == ("if",)
        words = program_of(words, variables)
        name = _starts(words)
        alone = "--standalone" in words
        found = (
            Started(path, line, name, alone) if name else started_by(_sourced(words), read, known)
        )
        if found:
            candidate = candidate or found
            if not depth:
                return candidate
        either |= bool(depth and not found and words and start_commands.PYTHON.match(words[0]))
    return None if either else candidate


def _sourced(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command with a shell in place of ``source``, which reads a script as one does."""
    return ("bash", *words[1:]) if words[:1] in (("source",), (".",)) else words


def _starts(words: tuple[str, ...]) -> str:
    """Return the launcher that a simple command starts; "" for none, or if it is only asked."""
    name = launcher(words)[0]
    return name if len(words) > 1 and not _ONLY_ASKS & set(words[1:3]) else ""


def program_of(words: tuple[str, ...], variables: dict[str, str]) -> tuple[str, ...]:
    """Return a simple command without assignments in front, which go to ``variables``."""
    if words and words[0] in ("export", "local", "declare", "readonly"):
        words = words[1:]
    while words and _ASSIGNMENT.match(words[0]):
        name, _, variables[name] = words[0].partition("=")
        words = words[1:]
    return _with_variable(words, variables)


def _with_variable(words: tuple[str, ...], variables: dict[str, str]) -> tuple[str, ...]:
    """Return a command whose first word, a variable of the script, is filled in."""
    match = _VARIABLE.fullmatch(words[0]) if words else None
    if match is None:
        return words
    value = variables.get(match[1], "")
    if not value and "PYTHON" in match[1].upper():
        value = "python"
    found = _words(value)
    return () if found is None else found + words[1:]


def _words(text: str) -> tuple[str, ...] | None:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return None


def started_by_make(
    text: str, targets: tuple[str, ...], path: str = "", read: Read = _nothing
) -> Started | None:
    """Return what a makefile starts for these targets; None for no launcher.

    Without targets, the first one counts, as for ``make``.
    """
    rules, variables = _rules(text)
    usual = (name for name in rules if not name.startswith("."))
    left = list(targets or [*usual][:1])
    seen: set[str] = set()
    known: Known = {}
    while left:
        name = left.pop(0)
        if name in seen or name not in rules:
            continue
        seen.add(name)
        needs, recipe = rules[name]
        left += needs
        for line, command in recipe:
            recipe_line = _filled(command.lstrip("@+- \t"), variables)
            if found := started(recipe_line, "", read, known):
                return found if found.path else Started(path, line, found.name, found.alone)
            for _, words in commands(recipe_line):
                again = made(words)
                if again and not again.folder and not again.file:
                    left += again.targets
    return None


_Rules = dict[str, tuple[list[str], list[tuple[int, str]]]]


def _rules(text: str) -> tuple[_Rules, dict[str, str]]:
    """Return needs and recipe of each target of a makefile, and its variables."""
    rules: _Rules = {}
    variables = {"MAKE": "make"}
    current: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line, first = lines[at], at + 1
        at += 1
        while line.endswith("\\") and at < len(lines):
            line, at = f"{line[:-1]} {lines[at].strip()}", at + 1
        if line.startswith("\t"):
            for name in current:
                rules[name][1].append((first, line.strip()))
        elif match := _MAKE_VARIABLE.fullmatch(line.strip()):
            variables[match[1]] = match[2]
        elif match := _RULE.fullmatch(line.rstrip()):
            current = _filled(match["targets"], variables).split()
            for name in current:
                needs, recipe = rules.setdefault(name, ([], []))
                needs += _filled(match["needs"], variables).split()
                if match["recipe"]:
                    recipe.append((first, match["recipe"].strip()))
    return rules, variables


def _filled(text: str, variables: dict[str, str]) -> str:
    for _ in range(5):
        text = _MAKE_REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)
    return text.replace("$$", "$")
