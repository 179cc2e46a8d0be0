"""Plan a run: argv and env of every process, once its layout and its meeting point are known."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .. import frameworks
from ..spec import nodeset
from ..spec.addresses import is_global, version
from ..spec.errors import PlanError
from ..spec.model import Facts, Host, Job, Layout, Meeting, Node, NodePlan, Plan, Process
from . import placeholders
from .environments import (
    Around,
    around,
    container_of,
    on_host,
    programs_folder,
    roles_apart,
)
from .interpolation import fill
from .preparation import prepared

LOOPBACK = "lo"
#: A narrow terminal wraps lines; fewer columns than this no bar could use.
LEAST_COLUMNS = 40
LINES = "24"
#: For what runs before the rendezvous.
NOWHERE = Meeting("", 0)


def run_dir(root: str, run_id: str) -> str:
    """Return the folder of a run on a host."""
    return posixpath.join(root, "runs", run_id)


def plan(
    job: Job,
    where: Layout,
    meeting: Meeting,
    agent: str,
    attempt: int = 0,
    columns: int | None = None,
) -> Plan:
    """Return argv and env of every process. ``agent`` is the name of the agent's folder, ``columns`` the
    width of the terminal that shows what they print."""
    framework = frameworks.get(job.framework)
    nodes = []
    for node in where.nodes:
        place = frameworks.Place(
            job=job,
            layout=where,
            node=node,
            meeting=meeting,
            agent=posixpath.join(node.root, "agent", agent, "start.py"),
            env=_environment(job, where, node, meeting, attempt, columns, ""),
        )
        with frameworks.PLUGINS.blaming(framework.name):
            if job.roles:
                known = {
                    its: replace(
                        place,
                        node=replace(node, python=its.python),
                        env=_environment(job, where, node, meeting, attempt, columns, role),
                    )
                    for its, role in roles_apart(job, node).items()
                }
                found = _by_role(framework, place, known)
            else:
                found = framework.processes(place)
            filled = tuple(prepared(fill(process, place), job, node) for process in found)
        nodes.append(NodePlan(node, filled))
    return Plan(where, meeting, job.framework, tuple(nodes))


def _by_role(
    framework: frameworks.Framework,
    place: frameworks.Place,
    places: Mapping[Around, frameworks.Place],
) -> Sequence[Process]:
    """Return the processes of a node, each with the Python and the variables of its role there."""
    known = {its: framework.processes(own) for its, own in places.items()}
    found = list(framework.processes(place))
    for number, process in enumerate(found):
        if process.task:
            found[number] = known[around(place.job, place.node, process.task.role)][number]
    return found


def _environment(
    job: Job,
    where: Layout,
    node: Node,
    meeting: Meeting,
    attempt: int,
    columns: int | None,
    role: str,
) -> dict[str, str]:
    of_node = environment(job, where, node, meeting, attempt, role)
    return {**beside_labels(where, columns), **of_node}


def beside_labels(where: Layout, columns: int | None) -> dict[str, str]:
    """Return the variables by which programs make their lines fit beside labels in a terminal."""
    if columns is None:
        return {}
    room = max(LEAST_COLUMNS, columns - where.label_width - len(" │ "))
    # tqdm has read the first two, both or none, and reads the third since 4.66.
    return {"COLUMNS": str(room), "LINES": LINES, "TQDM_NCOLS": str(room - 1)}


def ports_needed(job: Job, where: Layout) -> dict[str, int]:
    """Return how many ports the processes of each host need for themselves."""
    framework = frameworks.get(job.framework)
    with frameworks.PLUGINS.blaming(framework.name):
        counts = {node.host.name: framework.ports(node) for node in where.nodes}
    if shares_folders(job, where):
        counts[where.nodes[0].host.name] += 1
    return {name: count for name, count in counts.items() if count}


def shares_folders(job: Job, where: Layout) -> bool:
    """Return whether the hosts share folders of the job."""
    return bool(job.share) and where.num_nodes > 1


def with_share_port(job: Job, where: Layout, meeting: Meeting) -> Meeting:
    """Return a meeting with the last port of the first host for shared folders, if there are any."""
    if not shares_folders(job, where):
        return meeting
    first = where.nodes[0].host.name
    *ports, own = meeting.ports[first]
    return replace(meeting, ports={**meeting.ports, first: tuple(ports)}, share_port=int(own))


def environment(
    job: Job, where: Layout, node: Node, meeting: Meeting, attempt: int, role: str = ""
) -> dict[str, str]:
    """Return the variables of a node's processes, or those of a role: the host's, the job's, then
    computed ones."""
    folder = run_dir(node.root, where.run_id)
    interface = node.host.interface or meeting.interfaces.get(node.host.name)
    chosen = {"PYTHONUNBUFFERED": "1"}
    if interface:
        libraries = ("NCCL", "GLOO", "TP")  # TP: TensorPipe, of torch's RPC
        chosen |= {f"{library}_SOCKET_IFNAME": interface for library in libraries}
    if version(meeting.master_addr) == 6:  # an interface may have IPv4 as well, which others lack
        chosen["NCCL_SOCKET_FAMILY"] = "AF_INET6"
    computed = {
        "LAUNCHER_RUN_ID": where.run_id,
        "LAUNCHER_RUN_DIR": folder,
        "LAUNCHER_HOST": node.host.name,
        "LAUNCHER_NODE_RANK": str(node.node_rank),
        "LAUNCHER_ATTEMPT": str(attempt),
        "LAUNCHER_OUTPUT_DIR": posixpath.join(folder, "outputs"),
        **{one.variable: one.path(folder) for one in job.data},
    }
    if node.gpus:
        computed |= node.visible(node.gpus)
    elif node.host.gpus is not None or job.resources.gpus == 0:
        computed |= node.visible(())
    of_host = dict(node.host.env)
    if container_of(job, node, role):
        of_host.pop("PATH", None)  # the image has its own
    return {**chosen, **of_host, **job.envs, **computed}


def early_environment(
    job: Job,
    where: Layout,
    node: Node,
    attempt: int,
    meeting: Meeting = NOWHERE,
    role: str = "",
) -> dict[str, str]:
    """Return the variables of what runs on a node without being one of its processes, such as setup; in
    the environment of a role, if one is named.

    Placeholders have no value there, so variables that hold some are left out.
    """
    env = environment(job, where, node, meeting, attempt, role)
    return {
        name: value
        for name, value in env.items()
        if job.envs.get(name) != value or not placeholders.used([value])
    }


def reader_of_stdin(part: NodePlan) -> int | None:
    """Return which process of the first node reads the user's stdin: that of rank 0, or the only one.
    None where another launcher starts rank 0, through the shim."""
    for number, process in enumerate(part.processes):
        if process.rank == 0:
            return number
    if any(frameworks.starts_ranks(process.argv) for process in part.processes):
        return None
    return 0 if part.processes else None


def search_path(job: Job, node: Node, run_id: str) -> tuple[str, ...]:
    """Return the folders to put before PATH outside of images, so that ``python`` is the host's."""
    own = posixpath.join(run_dir(node.root, run_id), "bin")
    folder = posixpath.dirname(node.python)
    is_outside = job.has_several_environments or not node.containers
    return (own, folder) if folder and is_outside else (own,)


def search_path_inside(job: Job, node: Node, run_id: str, role: str = "") -> tuple[str, ...]:
    """Return the folders to put before the PATH of the image in which a role runs."""
    wanted = on_host(job, node.host, role)
    assert wanted
    own = posixpath.join(run_dir(node.root, run_id), "bin", programs_folder(job, wanted))
    return (own.rstrip("/"),)


# -- the rendezvous


def master_candidates(job: Job, master: Host, facts: Facts, alone: bool) -> tuple[str, ...]:
    """Return addresses at which the others may reach the master, best first.

    An address from the user is the only one. Otherwise: the addresses of the inventory's interface,
    the one this machine connected to, the one in the inventory, and all others, IPv4 before IPv6.
    Loopback stays in: hosts of a sandbox share one machine, and every host tries the address before
    it is used.
    """
    if job.master_addr:
        return (job.master_addr,)
    if alone:
        return ("127.0.0.1",)
    own = [ip for name, ip in facts.addresses if name == master.interface]
    known = [ip for ip in (facts.ssh_address, master.address) if ip and is_global(ip)]
    others = sorted([*known, *(ip for _, ip in facts.addresses)], key=version)
    return tuple(dict.fromkeys([*own, *others]))


def shared_versions(job: Job, facts: Sequence[Facts]) -> frozenset[int]:
    """Return the versions of IP, 4 and 6, by which all these hosts can reach each other.

    Raises PlanError if there is none, or none that the job's framework can use.
    """
    versions = {known.host: ip_versions(known) for known in facts}
    shared = frozenset.intersection(*versions.values())
    framework = frameworks.get(job.framework)
    if usable := shared & framework.ip_versions:
        return usable
    if not shared:
        only = {
            number: nodeset.fold(host for host, has in versions.items() if has == {number})
            for number in (4, 6)
        }
        raise PlanError(
            f"the hosts cannot reach each other: IPv4 alone on {only[4]}, IPv6 alone on {only[6]}",
            "choose hosts of one kind with --hosts, or give them addresses of both",
        )
    lacking = nodeset.fold(
        host for host, has in versions.items() if not has & framework.ip_versions
    )
    raise PlanError(
        f"{framework.name} needs IPv4, which is missing on {lacking}",
        "give the hosts IPv4 addresses, or use a framework that takes IPv6, such as torchrun or "
        "horovod-mpi",
    )


def ip_versions(facts: Facts) -> frozenset[int]:
    """Return the versions of IP that a host has, 4 and 6; with loopback alone it is a sandbox's."""
    found = (version(ip) for _, ip in facts.addresses if not ip.startswith("127."))
    return frozenset(found) or frozenset({4})
