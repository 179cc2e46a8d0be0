"""Find what is wrong with a single host, from its survey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...spec.gpus import fold, vendor_of
from ...spec.model import OWN_HOSTS_WORK, Host
from . import ERROR, WARNING, Finding, found
from .own_hosts import own_hosts

if TYPE_CHECKING:  # a run imports this file, but not the surveys
    from ...spec.model import GpuUser
    from .survey import Survey

#: Free bytes at workdir below which a run fails.
DISK_FULL = 20_000_000
#: Free bytes at workdir below which a user should know.
DISK_LOW = 2_000_000_000
#: Free inodes at workdir below which a run fails.
FILES_LOW = 1000
#: Docker's default for /dev/shm is 64 MiB, and data loaders die there of a bus error.
SHM_LOW = 512 << 20
#: Leftovers in /dev/shm are reported above 1/10 of it.
SHM_LEFT = 10
#: The usual soft limit of open files.
NOFILE_LOW = 1024
#: The least memory that InfiniBand verbs lock.
MEMLOCK_LOW = 64 << 20
#: NVIDIA's oldest Linux driver for each CUDA (CUDA Compatibility, minor version compatibility).
OLDEST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
#: Xid numbers of hardware faults (NVIDIA, XID Errors); most others are a program's own mistake.
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
    """Return everything that is wrong with a single host."""
    return [finding for check in CHECKS for finding in check(survey, host)]


def few_sessions(host: str) -> Finding:
    """Return the finding of a host whose sshd allows no session besides that of the agent."""
    return found(
        "SSH-SESSIONS",
        host,
        "sshd allows one session on a connection: launcher logs in again for each copy and command",
        "set MaxSessions in its sshd_config to 10, OpenSSH's default, and reload sshd",
    )


def _name(survey: Survey, host: Host) -> Iterator[Finding]:
    own = survey.own_addresses
    if host.own_hosts:
        yield from own_hosts(host, survey.own_hosts)
        return  # what the name leads to else is nothing to runs
    advice = "add a line with the host's own name and real address to its /etc/hosts"
    if survey.name_is_slow:
        yield found(
            "NET-NAME-SLOW",
            host.name,
            "the host's own name did not resolve within 2 s: torchrun and gloo wait for it",
            f"{advice}, or name a DNS server that answers in /etc/resolv.conf",
        )
    elif not own:
        yield found(
            "NET-NAME-UNKNOWN",
            host.name,
            "the host cannot resolve its own name: gloo and MPI fail unless given an interface",
            advice,
        )
    elif all(ip.startswith("127.") or ip == "::1" for ip in own):
        works = survey.own_hosts == OWN_HOSTS_WORK
        first = "set own_hosts: true in the inventory, for runs alone; or " if works else ""
        yield found(
            "NET-LOOPBACK-NAME",
            host.name,
            f"the host's own name resolves to {own[0]}. launcher works around it; gloo or MPI "
            "started by hand, and JAX on CPUs, will hang",
            f"{first}in the host's /etc/hosts, replace {own[0]} with its real address "
            "(launcher bootstrap --with own-name does)",
        )
    elif not set(own) & {ip for _, ip in survey.facts.addresses}:
        yield found(
            "NET-NAME-WRONG",
            host.name,
            f"the host's own name resolves to {own[0]}, which is not one of its addresses",
            f"{advice}, or correct DNS",
        )


def interface(host: Host, known: list[str]) -> Iterator[Finding]:
    """Check that the inventory's interface is up; every run does this too.

    NCCL also accepts prefixes and lists of names: lists are not checked.
    """
    wanted = host.interface
    if not wanted or set(wanted) & set("^=,") or any(name.startswith(wanted) for name in known):
        return
    from difflib import get_close_matches

    near = get_close_matches(wanted, known, n=1)
    fix = "bring the interface up"
    if known:
        fix = f"set interface: {(near or known)[0]} in the inventory, or leave it out"
    yield found(
        "NET-INTERFACE-UNKNOWN",
        host.name,
        f"the inventory says interface: {wanted}; the host has {', '.join(known) or 'none'} up",
        fix,
        value=near[0] if near else "",
    )


def _interface(survey: Survey, host: Host) -> Iterator[Finding]:
    yield from interface(host, [name for name, _ in survey.facts.addresses if name != "lo"])


def disk_room(host: str, free: int, workdir: str) -> Iterator[Finding]:
    """Check that there is space for a run; every run does this too."""
    advice = "free some (launcher rm RUN), or set workdir: in the inventory to a disk with space"
    if free < DISK_FULL:
        yield found("DISK-FULL", host, f"{free / 1e6:.0f} MB free at {workdir}", advice)
    elif free < DISK_LOW:
        yield found("DISK-LOW", host, f"{free / 1e6:.0f} MB free at {workdir}", advice)


def _disks(survey: Survey, host: Host) -> Iterator[Finding]:
    workdir = survey.facts.root
    yield from disk_room(host.name, survey.facts.disk_free, workdir)
    if survey.facts.noexec:
        yield found(
            "DISK-NOEXEC",
            host.name,
            f"{workdir} is on a file system that is mounted noexec: programs that come with the code, "
            "such as ./start.sh, fail with 126",
            "set workdir: in the inventory to another disk; or use python train.py, sh start.sh",
        )
    if survey.disk and survey.disk.files_free is not None and survey.disk.files_free < FILES_LOW:
        yield found(
            "DISK-FULL",
            host.name,
            f"only {survey.disk.files_free} more files fit at {workdir} (df -i)",
            "remove small files there, or set workdir: in the inventory to another disk",
        )
    if survey.shm and survey.shm.free < SHM_LOW:
        yield found(
            "DISK-SHM",
            host.name,
            f"{survey.shm.free / 1e6:.0f} MB free in /dev/shm: data loader workers die of SIGBUS",
            "remove files in /dev/shm, or mount -o remount,size=50% /dev/shm "
            "(docker: --shm-size=8g)",
        )


def _limits(survey: Survey, host: Host) -> Iterator[Finding]:
    soft, hard = survey.nofile
    if 0 <= soft < NOFILE_LOW:
        yield found(
            "LIMIT-NOFILE",
            host.name,
            f"only {soft} open files are allowed (ulimit -n; at most {hard})",
            "raise nofile in the host's /etc/security/limits.conf",
        )
    if survey.infiniband and 0 <= survey.memlock < MEMLOCK_LOW:
        yield found(
            "LIMIT-MEMLOCK",
            host.name,
            f"only {survey.memlock >> 10} KiB may be locked (ulimit -l): InfiniBand needs more",
            'add "* - memlock unlimited" to the host\'s /etc/security/limits.conf',
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
            f"run {host.python} -m pip install torch there, or set python: in the inventory to "
            "an interpreter with torch",
        )
    elif survey.facts.gpus and survey.facts.gpus[0].vendor != "intel" and host.gpus != 0:
        is_amd = survey.facts.gpus[0].vendor == "amd"
        wanted, built = (
            ("ROCm", software.hip) if is_amd else ("CUDA", software.cuda or software.hip)
        )
        if not built:
            yield found(
                "TORCH-NO-CUDA",
                host.name,
                f"torch {software.torch} was built without {wanted}, but the host has GPUs",
                f"install a {wanted} build of torch there (see pytorch.org)",
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
            "ask the host's admin for a newer driver, or install a torch for an older CUDA",
        )


def _gpus(survey: Survey, host: Host) -> Iterator[Finding]:
    count, devices = len(survey.facts.gpus), survey.devices
    if devices.failing:
        yield found(
            "GPU-SILENT",
            host.name,
            f"{devices.tool} exists but fails",
            f"see `ssh {host.name} {devices.tool}`; after a driver update, reboot the host",
            level=ERROR if host.gpus else WARNING,
        )
    elif count and host.gpus and host.gpus > count:
        yield found(
            "GPU-COUNT",
            host.name,
            f"the inventory says {host.gpus} GPUs, "
            f"{vendor_of(survey.facts.gpus[0].vendor).tool} finds {count}",
            f"set gpus: {count} in the inventory, or look for the missing one: dmesg | grep Xid",
        )
    for index, errors in sorted((devices.ecc or {}).items()):
        if errors:
            yield found(
                "GPU-ECC",
                host.name,
                f"GPU {index}: {errors} uncorrectable memory errors",
                "see nvidia-smi -q -d ECC,ROW_REMAPPER; ask the admin to reset or replace the GPU",
            )
    for bus, number, text in devices.xid:
        if number in XID_FAULTS:
            yield found(
                "GPU-XID",
                host.name,
                f"Xid {number} at {bus} since boot: {XID_FAULTS[number]} ({text})",
                "see nvidia-smi -q and the kernel log; ask the admin to reset the GPU",
            )


def _login(survey: Survey, host: Host) -> Iterator[Finding]:
    """Check that a run survives the logout: with lingering it moves into the user's services."""
    login = survey.login
    if login is None or not login.kills or (login.lingers and login.bus):
        return
    before = "install the package dbus-user-session, and " if not login.bus else ""
    yield found(
        "LOGOUT-KILLS",
        host.name,
        f"systemd-logind kills the processes of {login.user} at logout (KillUserProcesses=yes): "
        "a run stops with the SSH connection that started it",
        f"{before}run loginctl enable-linger {login.user} there (runs then leave the session), "
        "or set KillUserProcesses=no in /etc/systemd/logind.conf",
    )


def _strangers(survey: Survey, host: Host) -> Iterator[Finding]:
    """Find users of GPUs without a lease.

    A process that cannot be inspected is taken for the lease holder's if its GPU is leased.
    """
    by_user: dict[str, list[GpuUser]] = {}
    for user in survey.devices.users:
        if user.run is None and user.gpu not in survey.facts.leased:
            by_user.setdefault(user.user or "somebody in a container", []).append(user)
    for name, uses in sorted(by_user.items()):
        indices = sorted({use.gpu for use in uses})
        listed = fold(indices)
        gpus = f"GPU {listed} is" if len(indices) == 1 else f"GPUs {listed} are"
        yield found(
            "GPU-FOREIGN",
            host.name,
            f"{gpus} used by {name} outside launcher (pid {uses[0].pid} {uses[0].command})",
            f"leave {host.name} out with --hosts, or ask {uses[0].user or 'the owner'}",
        )


def _leftovers(survey: Survey, host: Host) -> Iterator[Finding]:
    if survey.orphans:
        first = survey.orphans[0]
        more = f" and {len(survey.orphans) - 1} more" if len(survey.orphans) > 1 else ""
        yield found(
            "LEFT-ORPHANS",
            host.name,
            f"left from {first['run']}: pid {first['pid']} {first['command'][:60]}{more}",
            "launcher check --fix kills them; so does the next run there",
        )
    for run in survey.unfinished:
        yield found(
            "LEFT-UNFINISHED",
            host.name,
            f"{run} was abandoned while the host was offline and may still run there",
            "launcher check --fix stops it; so does the next run there",
        )
    if survey.disk and survey.old_bytes > max(survey.disk.free, DISK_LOW // 1000):
        yield found(
            "LEFT-FOLDERS",
            host.name,
            f"{survey.old_folders} folders of earlier runs take {survey.old_bytes / 1e6:.0f} MB, "
            f"more than the {survey.disk.free / 1e6:.0f} MB that are free",
            "launcher rm RUN deletes one, here and on its hosts; launcher ls --all lists them",
        )
    count, size = survey.old_segments
    if survey.shm and size > survey.shm.total / SHM_LEFT:
        yield found(
            "LEFT-SHM",
            host.name,
            f"{count} segments that no process uses take {size / 1e6:.0f} MB in /dev/shm",
            "remove those of your exited programs: ls -l /dev/shm",
        )


#: The checks of a host, in the order of their findings.
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
