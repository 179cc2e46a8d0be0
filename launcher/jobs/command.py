"""Read a command: a list is an argv, a single text is split into one or is a shell script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import yaml

from ..frameworks import Framework
from ..spec.errors import InputError
from ..spec.model import Job
from ..spec.yaml_document import YamlNode, text, texts
from . import placeholders, start_commands, wrapped_commands
from .start_commands import PYTHON
from .wrapped_commands import SHELLS

#: Commands of a shell that no program replaces; `module` and `conda activate` are functions of one.
_BUILTINS = frozenset(
    {"cd", "export", "source", ".", "set", "unset", "ulimit", "exec", "eval", "module", "alias"}
)
#: What only a shell understands, as a word that is not quoted: && || | ; & and redirections.
_OPERATOR = re.compile(r"&&|\|\|?|;|&|[\d&]?>>?\S*|\d?<<?<?\S*|\S*[^\s\\;];")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
#: A Python script alone: no shell would find it, so Python runs it as if arguments followed.
_SCRIPT = re.compile(r"[\w./+-]+\.py")


def read(node: YamlNode) -> tuple[str, ...]:
    """Return a command as it is written in a file. Raises DocumentError."""
    is_list = isinstance(node.yaml, yaml.SequenceNode)
    for element in node.elements() if is_list else [node]:
        if found := placeholders.problem(text(element)):
            raise element.error(*found)
    if is_list:
        words = texts(node)
        if not words:
            raise node.expected("a command")
        return words
    if not text(node).strip():
        raise node.expected("a command")
    return (text(node),)


def split(
    run: tuple[str, ...] | str,
    framework: Framework,
    called: str = "run",
    with_variables: bool = False,
) -> tuple[tuple[str, ...], bool]:
    """Return an argv and False, or a shell script and True if the framework takes one.

    A Python script without arguments is an argv, as it is with some.
    ``with_variables`` lets variables stand in front, as in ``OMP_NUM_THREADS=4 torchrun train.py``.
    Raises InputError.
    """
    if isinstance(run, str):
        run = (run,)
    placeholders.check(run)
    if len(run) == 1 and framework.shell and not _SCRIPT.fullmatch(run[0]):
        return run, True
    words = run if len(run) > 1 else _words("".join(run), called)
    if not words:
        raise InputError("nothing to run", "launcher run train.py --epochs 3")
    command = words
    while with_variables and command and _ASSIGNMENT.match(command[0]):
        command = command[1:]
    if len(command) > 1 and _is_whole(command[0]):
        raise InputError(
            f"{called}: {command[0][:60]!r} is a whole command, and {command[1][:30]!r} is behind it",
            "write all of it as one text, or each word by itself",
        )
    if command and (found := _shell_word(command, run[0] if len(run) == 1 else "")):
        raise InputError(
            f"{called}: framework {framework.name} starts one command, and this is a shell script "
            f'("{found}")',
            "an environment: environment:, python:, modules: or prepare:; variables: envs:; a script: "
            "framework: env, or run: bash train.sh",
        )
    return words, False


def _is_whole(word: str) -> bool:
    """Return whether a word is a command with arguments, and not a program with a blank in its name."""
    words = tuple(word.split())
    if len(words) < 2:
        return False
    is_wrapper = wrapped_commands.chooses_environment(words)
    is_known = PYTHON.match(words[0]) or words[0] in SHELLS or start_commands.program(words)
    return bool(is_wrapper or is_known or _shell_word(words[:1], word) is not None)


def _shell_word(words: tuple[str, ...], text: str) -> str | None:
    """Return the first word of a command that only a shell understands, or None.

    ``text`` is the command as a single text; what is quoted in it is an argument.
    """
    if words[0] in _BUILTINS or _ASSIGNMENT.match(words[0]):
        return words[0]
    if words[:2] == ("conda", "activate"):
        return "conda activate"
    lexer = shlex.shlex(_one_line(text), posix=False)
    lexer.whitespace_split = True
    try:
        return next((word for word in lexer if _OPERATOR.fullmatch(word)), None)
    except ValueError:  # quotes that only the other mode reads
        return None


def with_arguments(run: tuple[str, ...], shell: bool, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command whose script or program gets other arguments. Raises InputError."""
    if shell or not run:
        what = "a shell script" if shell else "the commands of its roles"
        raise InputError(
            f"new arguments: this run starts {what}", "change the job file, and launcher run it"
        )
    placeholders.check(tuple(arguments))
    return (*run[: _length_of_program(run)], *arguments)


def arguments_of(job: Job) -> tuple[str, ...]:
    """Return the words of a job's command behind its program; none of a shell script."""
    return () if job.shell or not job.run else job.run[_length_of_program(job.run) :]


def _length_of_program(run: Sequence[str]) -> int:
    """Return how many words of a command are its program: ``python -u train.py`` are three."""
    is_python = run[0].rpartition("/")[2].startswith("python")
    if not is_python and run[0] != "-m":
        return 1
    for place, word in enumerate(run):
        if word == "-m":
            return place + 2
        if place and not word.startswith("-"):
            return place + 1
    return len(run)


def _words(text: str, called: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(_one_line(text), comments=True))
    except ValueError as error:
        raise InputError(f"{called}: {error}: {text!r}") from None


def _one_line(text: str) -> str:
    """Join lines that end in a backslash, as a shell does outside single quotes; shlex does not."""
    return re.sub(r"('[^']*')|\\\n", lambda match: match[1] or "", text)
