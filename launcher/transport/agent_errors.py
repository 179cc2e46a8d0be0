"""What went wrong with an agent that refuses a request, or does not start; and what to do about it."""

from __future__ import annotations

import time

from ..agent.base import protocol
from ..spec import errors
from ..spec.gpus import name_of
from ..spec.model import Host, holder_text
from .answers.runs import Problem

#: What to do when launcher and agent speak different versions of the protocol.
UPGRADE = "use the version of launcher that started the run, or the newer of the two"


def taken_over(host: Host, did: str, data: bytes) -> errors.AgentError:
    """Return the error for a login shell that never got as far as our command."""
    printed = data.decode("utf-8", "replace").strip().splitlines()
    last = f"; it printed: {printed[-1][:200]}" if printed else ""
    return errors.AgentError(
        host.name,
        f"the login shell {did} before it ran launcher's command: does a startup file (~/.bashrc, "
        f"~/.zshenv, ~/.cshrc, config.fish) exec, exit or read?{last}",
        "let it leave where there is no terminal; first line of ~/.bashrc: [[ $- == *i* ]] || return",
    )


def no_agent(host: Host, word: str) -> errors.HostError:
    """Return the error for what our script has printed in place of the agent's first line."""
    if word.startswith("launcher-old-python"):
        return errors.PythonTooOld(
            host.name,
            f"{host.python} is Python {word.split()[-1]}",
            "launcher needs 3.8 or newer on hosts: set python: in the inventory",
        )
    if word.startswith("launcher-no-conda-python "):
        place = word.partition(" ")[2]
        return errors.NoPython(
            host.name,
            f"the conda environment {place} has no Python",
            f"conda install -p {place} python there adds one",
        )
    if word.startswith("launcher-no-conda "):
        name, *known = word.split()[1:] or ("",)
        has = f"it has {', '.join(known)}" if known else "conda env list there shows them"
        return errors.NoPython(
            host.name,
            f"there is no conda environment {name}",
            f"{has}; or name it by its folder: conda:/path/to/env",
        )
    if word == "launcher-no-python":
        return errors.NoPython(
            host.name,
            f"there is no {host.python}",
            "apt install python3 there, or set python: in the inventory to a full path",
        )
    if word.startswith(("launcher-no-variable ", "launcher-no-user ")):
        kind, _, name = word.partition(" ")
        missing = f"${name} is not set" if "variable" in kind else f"there is no user for {name}"
        return errors.AgentError(
            host.name,
            f"{missing} in a shell without a terminal there; workdir: or python: names it",
            "write the whole path in the inventory, or set it where such a shell reads it: for bash "
            "at the top of ~/.bashrc",
        )
    if word.startswith("launcher-unsafe-folder "):
        return errors.UnsafeFolder(
            host.name,
            f"launcher's folder there could be changed by other users: {word.partition(' ')[2]}",
            "chmod go-w that folder, or set workdir: in the inventory to a folder of your own",
        )
    return errors.AgentError(host.name, f"the agent did not start: {word}")


def trouble(host: Host, complaint: str) -> errors.HostError:
    """Return the error for a complaint of a shell or an interpreter."""
    last = complaint.splitlines()[-1] if complaint else "no output"
    known = os_error(host.name, complaint)
    return known or errors.AgentError(
        host.name, f"the agent did not start: {last}", f"try `ssh {host.name} {host.python} -V`"
    )


def os_error(host: str, complaint: str) -> errors.HostError | None:
    """Return the error for a well-known message of the operating system, or None."""
    full = ("No space left", "Disk quota exceeded")
    closed = ("Read-only file system", "Permission denied")
    if any(words in complaint for words in full):
        return errors.DiskFull(
            host,
            f"no space left for launcher's files: {_last_with(complaint, full)}",
            "free some, or set workdir: in the inventory to a disk with space (df -h, df -i)",
        )
    if any(words in complaint for words in closed):
        return errors.ReadOnly(
            host,
            f"launcher's folder is not writable: {_last_with(complaint, closed)}",
            "set workdir: in the inventory to a folder that you may write to",
        )
    return None


def _last_with(complaint: str, words: tuple[str, ...]) -> str:
    """Return the last line with one of these messages; later lines are its consequences."""
    lines = [line for line in complaint.splitlines() if any(word in line for word in words)]
    return lines[-1].strip().removeprefix("cause: ")  # as uv has it


def _gpu_name(gpu: int | str | None) -> str:
    return name_of(gpu) if isinstance(gpu, int) else str(gpu)


_ELSEWHERE = (
    "give the data set another to:, such as data/NAME; LAUNCHER_DATA_NAME always holds its path"
)


#: What to do about refusals, by their codes.
_NO_ENVIRONMENT = {
    "no-environment": "what git ignores is not copied: --include PATH, or !PATH in .launcherignore",
    "outside-workdir": "move it in there: the workdir is what hosts get",
    "no-wheels-there": "a whole path is that of each host: put the wheels there, or name a folder in "
    "the workdir; --wheels fetch brings them",
    "local-path": "leave the line out, and set PYTHONPATH to the folder: -e PYTHONPATH=lib",
}


_NO_DATA = {
    "in-the-way": _ELSEWHERE,
    "no-path": _ELSEWHERE,
    "no-data-folder": "root makes data_folder: of the inventory, mkdir -m 1777; or leave it out",
    "silent": "is the server of its file system there? umount -f -l, and mount it again",
    "not-shared": "file:///path is a folder that all hosts have: mount it there",
}


def refusal(host: str, refused: Problem) -> errors.HostError:
    """Return the error for a request that the agent refuses."""
    code, message = refused.code, refused.message
    if code == "port-taken" and refused.port is not None:
        return errors.PortTaken(host, message, port=refused.port)
    if code in (protocol.UNKNOWN_REQUEST, protocol.OTHER_VERSION):
        return errors.AgentError(host, message, UPGRADE)
    if code == protocol.BAD_REQUEST:
        return errors.AgentError(host, f"it refused a request: {message}", UPGRADE)
    if code == "gpu-busy":
        at = refused.holder.since
        known = {name: one for name, one in vars(refused.holder).items() if one is not None}
        since = time.strftime(", since %d %b %H:%M", time.localtime(at)) if at else ""
        return errors.GpuBusy(
            host,
            f"GPU {_gpu_name(refused.gpu)} is in use by {holder_text(known)}{since}",
            "wait for that run, or choose other hosts with --hosts",
        )
    if code == "no-room":
        return errors.DiskFull(
            host, f"no room for the data set: {message}", f"launcher data prune --hosts {host}"
        )
    if code in _NO_ENVIRONMENT:
        return errors.NoEnvironment(host, message, _NO_ENVIRONMENT[code])
    if code in _NO_DATA:
        return errors.SyncError(host, message, _NO_DATA[code])
    if code == "os":
        return os_error(host, message) or errors.HostError(host, message)
    return errors.StartError(host, message)
