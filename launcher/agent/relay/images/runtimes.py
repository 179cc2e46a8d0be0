"""What podman and docker answer: whether an image is there, who uses it, and what is in the way."""

from __future__ import annotations

import os
import re

from ...base import lean
from ...processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ...base.messages import Message

#: Seconds for a runtime to answer.
PATIENCE = 30.0
#: What runtimes say of an image that is not there.
_LOGGED = re.compile(r'time="[^"]*" level=\w+ msg="(.*)"$')
_MISSING = re.compile(r"no such image|image not known|failed to find image|no such object", re.I)
#: Codes of what is in the way, by the words of a runtime. Sentences are made where people read them.
_TROUBLE = (
    ("no-subuid", re.compile(r"no sub[ug]id ranges|cannot find mappings for user|newuidmap", re.I)),
    (
        "denied",
        re.compile(r"permission denied while trying to connect|docker\.sock: .*denied", re.I),
    ),
    (
        "no-daemon",
        re.compile(r"cannot connect to the docker daemon|is the docker daemon running", re.I),
    ),
    (
        "no-namespaces",
        re.compile(
            r"cannot clone|user namespaces|creating new namespace|uid map|No permissions", re.I
        ),
    ),
    (
        "no-shell",
        re.compile(
            r"""(?:executable file |exec: |execvp )[`"']?sh\b|"sh": executable file not""", re.I
        ),
    ),
    ("no-space", re.compile(r"no space left|disk quota", re.I)),
)


def program(name: str) -> str:
    """Return the path of a program, or ""."""
    try:
        return processes.find_program(name, os.environ.get("PATH", os.defpath), "/")
    except FileNotFoundError:
        return ""


def login() -> dict[str, str]:
    """Return the environment of this login, without what marks processes of a run."""
    return {n: v for n, v in os.environ.items() if not n.startswith("LAUNCHER_")}


def ran(argv: list[str], seconds: float, env: dict[str, str]) -> tuple[int, str, str]:
    """Return the exit code of a program, and what it printed."""
    import subprocess  # slow, and most runs are in no image

    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
            env=env,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return 124, "", "no answer within %d s" % seconds
    except OSError as error:
        return 127, "", str(error)
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    return done.returncode, out, err


def inspection(path: str, image: str) -> list[str]:
    """Return the argv that asks podman or docker for what :func:`read` takes."""
    return [path, "image", "inspect", "--format", "{{.Id}} {{.Architecture}}", image]


def inspected(path: str, image: str) -> dict[str, Any]:
    """Return what podman or docker know of an image."""
    return read(*ran(inspection(path, image), PATIENCE, login()))


def read(code: int, out: str, err: str) -> dict[str, Any]:
    """Return what they know of an image, by what they have printed."""
    words = out.split()
    if code == 0 and len(words) == 2:
        image_id = words[0].rpartition(":")[2]
        return {"state": "there", "id": image_id, "image": words[0], "machine": words[1]}
    if is_missing(err):
        return {"state": "missing"}
    return trouble(code_of(err) or "cannot-start", last(err) or silent(code))


def is_missing(err: str) -> bool:
    """Return whether they have said that an image is not there."""
    return bool(_MISSING.search(err)) and not re.search(r"no sub[ug]id ranges", err)


def described(path: str, ids: Iterable[str]) -> tuple[dict[str, tuple[int, list[str]]], Message]:
    """Return size and names of those images that are there, by ID; and why it does not tell, if so."""
    form = "{{.Id}} {{.Size}} {{json .RepoTags}}"
    words = [path, "image", "inspect", "--format", form, *ids]
    code, out, err = ran(words, PATIENCE, login())
    found = {}
    for line in out.splitlines():
        parts = line.split(" ", 2)
        if len(parts) == 3 and parts[1].isdigit():
            tags = lean.loads(parts[2]) or []
            names = [tag for tag in tags if isinstance(tag, str) and tag != "<none>:<none>"]
            found[parts[0].rpartition(":")[2]] = (int(parts[1]), names)
    if code and not _MISSING.search(err):
        return {}, {"code": code_of(err) or "cannot-start", "said": reason(err) or silent(code)}
    return found, {}


def has_containers(path: str) -> bool:
    """Return whether a runtime has any container; also where it does not say."""
    code, out, _ = ran([path, "ps", "--all", "--quiet"], PATIENCE, login())
    return bool(code or out.strip())


def users(path: str, image_id: str) -> list[str]:
    """Return the names of the containers that are of an image."""
    filters = ["--filter", "ancestor=" + image_id, "--format", "{{.Names}}"]
    return ran([path, "ps", "--all", *filters], PATIENCE, login())[1].split()


def remove(path: str, image_id: str, seconds: float) -> Message:
    """Remove an image with all its names; return why it stays, or {}.

    It is never forced: that would take containers along. A name that is gone while the image stays, as
    a container has begun meanwhile, comes back.
    """
    there, why = described(path, [image_id])
    if why or image_id not in there:
        return why
    names = there[image_id][1]
    code, _, err = ran([path, "rmi", *(names or [image_id])], seconds, login())
    left, why = described(path, [image_id])
    if not left and not why:
        return {}
    if not code and not left.get(image_id, (0, [""]))[1]:  # known by a digest, too
        code, _, err = ran([path, "rmi", image_id], seconds, login())
        if not code:
            return {}
    for name in names:
        ran([path, "tag", image_id, name], PATIENCE, login())
    return {"code": code_of(err) or "cannot-start", "said": reason(err) or silent(code)}


def trouble(code: str, said: str) -> dict[str, Any]:
    """Return an answer that says what is in the way."""
    return {"state": "trouble", "code": code, "said": said}


def code_of(text: str) -> str:
    """Return the code of what is in the way by what a runtime said; "" for words that are not known."""
    return next((code for code, words in _TROUBLE if words.search(text)), "")


def reason(text: str) -> str:
    """Return the line that says what is in the way, where it is known; else the last one."""
    words = dict(_TROUBLE).get(code_of(text))
    lines = [line.strip() for line in text.splitlines() if words and words.search(line)]
    return _plain(lines[0])[:300] if lines else last(text)


def silent(code: int) -> str:
    """Return what to say of a runtime that has failed without a word."""
    if code < 0:
        return "the runtime was killed by signal %d" % -code
    return "the runtime ended with exit code %d" % code


def last(text: str) -> str:
    """Return the last line of what a runtime said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Run 'docker")] or lines
    return _plain(lines[-1])[:300] if lines else ""


def _plain(line: str) -> str:
    """Return the words of a line of podman's log."""
    logged = _LOGGED.match(line)
    return logged.group(1).replace('\\"', '"') if logged else line
