"""What can be wrong with a host by itself. Pure: a survey in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...spec.model import Host
from . import ERROR, WARNING, Finding, found

if TYPE_CHECKING:  # a run imports this file, and not the surveys
    from .survey import GpuUser, Survey

#: Bytes free at workdir below which a run cannot work, and below which a person should know.
DISK_FULL, DISK_LOW = 20_000_000, 2_000_000_000
#: Files that may still be made there.
FILES_LOW = 1000
#: Docker's own default for /dev/shm is 64 MiB: data loaders die there of a bus error.
SHM_LOW = 512 << 20
#: Of this many parts of it more than one, left behind, is told.
SHM_LEFT = 10
#: The usual soft limit of open files, and what InfiniBand verbs want to lock at least.
NOFILE_LOW, MEMLOCK_LOW = 1024, 64 << 20
#: NVIDIA's oldest Linux driver for each CUDA (CUDA Compatibility, minor version compatibility).
OLDEST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
#: Xid numbers that speak of the hardware (NVIDIA, XID Errors); a program cannot cause them by
#: itself. The others mostly tell of a program's own mistake.
XID_FAULTS = {
    48: "uncorrectable memory error",
    62: "internal micro-controller halt",
    63: "memory row remapped",
    64: "memory row could not be remapped",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor does not answer",
    120: "the GPU's system processor failed",
}


def of_host(survey: Survey, host: Host) -> list[Finding]:
    """Everything that is wrong with a host by itself."""
    return [finding for check in CHECKS for finding in check(survey, host)]


def _name(survey: Survey, host: Host) -> Iterator[Finding]:
    own = survey.own_addresses
    advice = "a line with its own name and its real address in /etc/hosts there"
    if survey.name_is_slow:
        yield found(
            "NET-NAME-SLOW",
            host.name,
            "its own name did not resolve within 2 s: torchrun and gloo ask for it, and wait",
            f"{advice}, or a DNS server that answers in /etc/resolv.conf",
        )
    elif not own:
        yield found(
            "NET-NAME-UNKNOWN",
            host.name,
            "it cannot resolve its own name: gloo and MPI stop when no interface is named",
            advice,
        )
    elif all(ip.startswith("127.") for ip in own):
        yield found(
            "NET-LOOPBACK-NAME",
            host.name,
            f"its own name leads to {own[0]}, and what gloo or MPI tell the others when they are "
            "started without launcher is just that",
            f"{advice}, in place of the one with {own[0]}",
        )
    elif not set(own) & {ip for _, ip in survey.facts.addresses}:
        yield found(
            "NET-NAME-WRONG",
            host.name,
            f"its own name leads to {own[0]}, which is none of its addresses",
            f"{advice}, or correct DNS",
        )


def interface(host: Host, known: list[str]) -> Iterator[Finding]:
    """Whether the inventory's interface is there; a run asks this by itself. NCCL also takes the
    beginnings and lists of names: those are not looked at."""
    wanted = host.interface
    if not wanted or set(wanted) & set("^=,") or any(name.startswith(wanted) for name in known):
        return
    from difflib import get_close_matches

    near = get_close_matches(wanted, known, n=1)
    yield found(
        "NET-INTERFACE-UNKNOWN",
        host.name,
        f"the inventory says interface: {wanted}; up there: {', '.join(known) or 'none'}",
        f"interface: {near[0] if near else known[0]} in the inventory, or leave it out"
        if known
        else "bring the interface up",
        value=near[0] if near else "",
    )


def _interface(survey: Survey, host: Host) -> Iterator[Finding]:
    yield from interface(host, [name for name, _ in survey.facts.addresses if name != "lo"])


def disk_room(host: str, free: int, workdir: str) -> Iterator[Finding]:
    """Whether there is room for a run; a run asks this by itself."""
    advice = "free some (launcher rm RUN), or set workdir: in the inventory to a disk with room"
    if free < DISK_FULL:
        yield found("DISK-FULL", host, f"{free / 1e6:.0f} MB free at {workdir}", advice)
    elif free < DISK_LOW:
        yield found("DISK-LOW", host, f"{free / 1e6:.0f} MB free at {workdir}", advice)


def _disks(survey: Survey, host: Host) -> Iterator[Finding]:
    workdir = survey.facts.root
    yield from disk_room(host.name, survey.facts.disk_free, workdir)
    if survey.disk and survey.disk.files_free is not None and survey.disk.files_free < FILES_LOW:
        yield found(
            "DISK-FULL",
            host.name,
            f"{survey.disk.files_free} more files can be made at {workdir} (df -i)",
            "remove small files there, or set workdir: in the inventory to another disk",
        )
    if survey.shm and survey.shm.free < SHM_LOW:
        yield found(
            "DISK-SHM",
            host.name,
            f"{survey.shm.free / 1e6:.0f} MB free in /dev/shm: data loader workers die of SIGBUS",
            "rm what lies in /dev/shm, or mount -o remount,size=50% /dev/shm "
            "(docker: --shm-size=8g)",
        )


def _limits(survey: Survey, host: Host) -> Iterator[Finding]:
    soft, hard = survey.nofile
    if 0 <= soft < NOFILE_LOW:
        yield found(
            "LIMIT-NOFILE",
            host.name,
            f"{soft} open files are allowed (ulimit -n; at most {hard})",
            "raise nofile in /etc/security/limits.conf there",
        )
    if survey.infiniband and 0 <= survey.memlock < MEMLOCK_LOW:
        yield found(
            "LIMIT-MEMLOCK",
            host.name,
            f"{survey.memlock >> 10} KiB may be locked (ulimit -l): InfiniBand needs more",
            '"* - memlock unlimited" in /etc/security/limits.conf there',
        )


def _software(survey: Survey, host: Host) -> Iterator[Finding]:
    software = survey.software
    if software.error:
        yield found(
            "PYTHON-SILENT",
            host.name,
            software.error,
            f"try `ssh {host.name} {host.python} -c 'import site'`",
            level=WARNING if software.late else ERROR,
        )
    elif software.torch is None:
        yield found(
            "TORCH-MISSING",
            host.name,
            f"{host.python} (Python {survey.facts.python_version}) has no torch",
            f"{host.python} -m pip install torch there, or python: in the inventory to one that has",
        )
    elif survey.facts.gpus and not software.cuda and not software.hip:
        yield found(
            "TORCH-NO-CUDA",
            host.name,
            f"torch {software.torch} was built without CUDA, and there are GPUs",
            "install the CUDA build of torch there (pytorch.org says from where)",
        )
    yield from _driver(survey, host)


def _driver(survey: Survey, host: Host) -> Iterator[Finding]:
    driver, cuda = survey.devices.driver, survey.software.cuda
    if not driver or not cuda:
        return
    major = cuda.partition(".")[0]
    oldest = OLDEST_DRIVER.get(int(major)) if major.isdigit() else None
    parts = tuple(int(part) for part in driver.split(".")[:2] if part.isdigit())
    if oldest and parts and parts < oldest:
        yield found(
            "DRIVER-OLD",
            host.name,
            f"driver {driver}; torch {survey.software.torch} with CUDA {cuda} needs "
            f"{oldest[0]}.{oldest[1]} or newer",
            "its admin installs a newer driver, or you a torch for an older CUDA",
        )


def _gpus(survey: Survey, host: Host) -> Iterator[Finding]:
    count, devices = len(survey.facts.gpus), survey.devices
    if devices.failing:
        yield found(
            "GPU-SILENT",
            host.name,
            "nvidia-smi is there and fails",
            f"`ssh {host.name} nvidia-smi` says why; after a driver update a reboot helps",
            level=ERROR if host.gpus else WARNING,
        )
    elif count and host.gpus and host.gpus > count:
        yield found(
            "GPU-COUNT",
            host.name,
            f"the inventory says {host.gpus} GPUs, nvidia-smi finds {count}",
            f"gpus: {count} in the inventory, or look for the lost one: dmesg | grep Xid",
        )
    for index, errors in sorted((devices.ecc or {}).items()):
        if errors:
            yield found(
                "GPU-ECC",
                host.name,
                f"GPU {index}: {errors} uncorrectable memory errors",
                "nvidia-smi -q -d ECC,ROW_REMAPPER; its admin resets or replaces the GPU",
            )
    for bus, number, text in devices.xid:
        if number in XID_FAULTS:
            yield found(
                "GPU-XID",
                host.name,
                f"Xid {number} at {bus} since boot: {XID_FAULTS[number]} ({text})",
                "its admin looks at nvidia-smi -q and the kernel's log, and resets the GPU",
            )


def _login(survey: Survey, host: Host) -> Iterator[Finding]:
    """With lingering, a run moves out of the session into the user's own services."""
    login = survey.login
    if login is None or not login.kills or (login.lingers and login.bus):
        return
    before = "dbus-user-session (its package), and " if not login.bus else ""
    yield found(
        "LOGOUT-KILLS",
        host.name,
        f"systemd-logind kills what {login.user} leaves behind at a logout (KillUserProcesses=yes): "
        "a run ends with the SSH connection that started it",
        f"{before}loginctl enable-linger {login.user} there (runs then stand outside of the "
        "session), or KillUserProcesses=no in /etc/systemd/logind.conf",
    )


def _strangers(survey: Survey, host: Host) -> Iterator[Finding]:
    """Users of GPUs that no lease knows of. Who cannot be looked at and is on a leased GPU is taken
    for the holder."""
    by_user: dict[str, list[GpuUser]] = {}
    for user in survey.devices.users:
        if user.run is None and user.gpu not in survey.facts.leased:
            by_user.setdefault(user.user or "somebody in a container", []).append(user)
    for name, uses in sorted(by_user.items()):
        indices = ",".join(str(i) for i in sorted({use.gpu for use in uses}))
        yield found(
            "GPU-FOREIGN",
            host.name,
            f"{name} uses GPU {indices} without launcher: pid {uses[0].pid} {uses[0].command}",
            f"ask {name}; runs of launcher do not know of it: leave the host out, or say gpus:",
        )


def _leftovers(survey: Survey, host: Host) -> Iterator[Finding]:
    if survey.orphans:
        first = survey.orphans[0]
        more = f" and {len(survey.orphans) - 1} more" if len(survey.orphans) > 1 else ""
        yield found(
            "LEFT-ORPHANS",
            host.name,
            f"of {first['run']}: pid {first['pid']} {first['command'][:60]}{more}",
            "launcher check --fix ends them; so does the next run there",
        )
    for run in survey.unfinished:
        yield found(
            "LEFT-UNFINISHED",
            host.name,
            f"{run} was given up while the host was away, and may go on there",
            "launcher check --fix ends it; so does the next run there",
        )
    if survey.disk and survey.old_bytes > max(survey.disk.free, DISK_LOW // 1000):
        yield found(
            "LEFT-FOLDERS",
            host.name,
            f"{survey.old_folders} folders of ended runs hold {survey.old_bytes / 1e6:.0f} MB, "
            f"more than the {survey.disk.free / 1e6:.0f} MB that are free",
            "launcher rm RUN forgets one, here and there; launcher ls --all lists them",
        )
    count, size = survey.old_segments
    if survey.shm and size > survey.shm.total / SHM_LEFT:
        yield found(
            "LEFT-SHM",
            host.name,
            f"{count} segments that no process uses hold {size / 1e6:.0f} MB in /dev/shm",
            "rm those of your ended programs there: ls -l /dev/shm",
        )


#: What is looked at, in this order.
CHECKS: tuple[Callable[[Survey, Host], Iterator[Finding]], ...] = (
    _disks,
    _limits,
    _software,
    _gpus,
    _login,
    _strangers,
    _name,
    _interface,
    _leftovers,
)
