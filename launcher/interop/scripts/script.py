"""Export a plan as shell: a script for each host, and one that starts them all over ssh.

The address and port at which the hosts meet are not tested.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ... import frameworks
from ...jobs import environments, planner
from ...jobs.layout import make_layout
from ...jobs.preparation import for_setup
from ...spec.environments import conda_name
from ...spec.errors import InputError
from ...spec.inventory_writer import comment
from ...spec.model import Host, Inventory, Job, Meeting, NodePlan, Plan, Process
from ...spec.ssh_config import ssh_config
from . import shell
from .script_parts import DRIVER, HOST, INTERFACE

#: torch's default, as nothing searches for a free port.
_PORT = 29500
_AGENT = "launcher-agent"


def scripts(
    job: Job, inventory: Inventory, hosts: Sequence[Host]
) -> tuple[dict[str, str], list[str]]:
    """Return the files by name, and notes on what they do not do. Raises InputError, PlanError."""
    name = job.name or "job"
    plan = _planned(job, hosts, name)
    folders = {host.name: posixpath.join(host.workdir, "exported", host.name) for host in hosts}
    files = {"run.sh": _driver(job, plan, name, folders)}
    used = [entry.node.host for entry in plan.nodes]
    notes = shell.left_out(job)
    for entry in plan.nodes:
        text = _host(job, plan, entry, folders[entry.node.host.name])
        files[f"{entry.node.host.name}.sh"] = text
    files["ssh_config"] = _ssh_config(inventory, used)
    if len(used) > 1 and not job.master_addr:
        notes.append(
            f"the other hosts reach the first one at {plan.meeting.master_addr}, which is untested: "
            "--master-addr sets another address"
        )
    return files, notes


def _planned(job: Job, hosts: Sequence[Host], name: str) -> Plan:
    """Return the plan, with a hole for the folder on each host. Raises InputError, PlanError."""
    framework = frameworks.get(job.framework)
    if framework.joins_hosts:
        raise InputError(
            f"{job.framework} starts its ranks through launcher's own ssh, which a script cannot do",
            "torchrun, torch and env can be exported",
        )
    if job.elastic is not None:
        raise InputError("an elastic job cannot be exported", "--nodes with one number")
    if built := [one for one in environments.all_of(job) if one.recipe]:
        raise InputError(
            f"{built[0].builder}: {built[0].recipe}: an exported script builds no environment",
            "build it first, and name its folder: --venv DIR",
        )
    if in_images := environments.images_of(job):
        raise InputError(
            f"an exported script starts no containers, and the job runs in {in_images[0]}",
            "launcher run starts it; or export it without image:",
        )
    for host in hosts:
        named = [one.conda for one in environments.needed_on(job, host) if one.is_named]
        if name_there := conda_name(host.python) or "".join(named[:1]):
            raise InputError(
                f"an exported script cannot look for the conda environment {name_there}",
                "name its folder: conda: /path/to/env",
            )
    rooted = [replace(host, workdir=shell.hole("ROOT")) for host in hosts]
    layout = make_layout(job, rooted, {}, name)
    low, high = job.master_port
    port = _PORT if low <= _PORT <= high else low
    needed = planner.ports_needed(job, layout)
    first = layout.nodes[0].host
    alone = "127.0.0.1" if layout.num_nodes == 1 else None
    address = job.master_addr or alone or first.address or first.name
    ports: Mapping[str, tuple[int | str, ...]] = {
        host: tuple(range(port + 1, port + 1 + count)) for host, count in needed.items()
    }
    addresses = {node.host.name: node.host.address or node.host.name for node in layout.nodes}
    meeting = Meeting(address, port, addresses={**addresses, first.name: address}, ports=ports)
    plan = planner.plan(job, layout, meeting, _AGENT)
    return replace(plan, nodes=tuple(_bare_node(job, entry) for entry in plan.nodes))


def _bare_node(job: Job, entry: NodePlan) -> NodePlan:
    """Return a node without the shim that gives ranks their logs. Raises InputError."""
    return replace(entry, processes=tuple(_without_shim(job, p, entry) for p in entry.processes))


def _without_shim(job: Job, process: Process, entry: NodePlan) -> Process:
    agent = posixpath.join(entry.node.root, "agent", _AGENT, "start.py")
    argv = process.argv
    if agent in argv:
        at = argv.index(agent)
        if argv[at + 1 : at + 3] == ("rank", "--tokens"):
            raise InputError(
                "{{rank}} is filled in by launcher for ranks that another program starts",
                "framework: torch, or $RANK in the script",
            )
        if argv[at + 1 : at + 3] == ("rank", "--"):
            argv = (*argv[: at - 3], *argv[at + 3 :])
    if any(agent in word for word in argv):
        raise InputError(
            f"{job.framework} needs launcher's agent on the hosts, which a script cannot do without",
            "torchrun, torch and env can be exported",
        )
    return replace(process, argv=argv)


def _host(job: Job, plan: Plan, entry: NodePlan, folder: str) -> str:
    node, processes = entry.node, entry.processes
    primaries = [p for p in processes if p.task and job.role(p.task.role).primary]
    on_others = [
        p
        for n in plan.nodes
        if n is not entry
        for p in n.processes
        if p.task and job.role(p.task.role).primary
    ]
    if on_others and primaries and len(primaries) < len(processes):
        raise InputError(
            "primary processes run on several hosts, next to processes that must outlive them",
            "a script cannot tell when to stop those: use one primary process, or hosts of their own",
        )
    lines = [
        "#!/bin/sh",
        comment(f"{node.host.name}: node {node.node_rank} of {plan.layout.num_nodes}."),
        comment("Written by: launcher export script. run.sh starts it; or by hand: sh FILE"),
        *(comment(f"Needs in its environment: {name}") for name in job.secrets),
        f"ROOT={shell.quote(folder)}",
        f"RUN={shell.quote(planner.run_dir(node.root, plan.layout.run_id))}",
        f"NODE={node.node_rank}",
        f"GRACE={max(1, round(job.grace))}",
        f"PRIMARIES={len(primaries)}",
        *HOST.begin.split("\n"),
        *shell.require_secrets(job),
    ]
    if python := posixpath.dirname(node.python):
        lines.append(f'PATH={shell.quote(python)}:"$PATH"')
    everyone = [process.env for process in processes]
    if plan.layout.num_nodes > 1 and not any("NCCL_SOCKET_IFNAME" in env for env in everyone):
        lines += [f"MASTER={shell.quote(plan.meeting.master_addr)}", *INTERFACE.split("\n")]
    lines += _setups(job, plan, entry)
    for number, process in enumerate(processes):
        program, *words = process.argv
        lines += [f"process_{number}() {{", *shell.exports(process.env, "  ")]
        lines += [f"  exec {shell.quote(program)}{' ' if words else ''}{shell.join(words)}", "}"]
    lines.append(HOST.middle)
    for number, process in enumerate(processes):
        kind = "primary" if process in primaries else "other"
        lines.append(f"begin {shell.quote(process.key)} process_{number} {kind}")
    lines += [f"LEFT={len(processes)}", HOST.end]
    return "\n".join(lines)


def _setups(job: Job, plan: Plan, entry: NodePlan) -> list[str]:
    """Return the job's setup, then those of the node's roles, each with the node's variables and in its
    environment."""
    there = {task.role for task in entry.node.tasks}
    found = {"": job.setup, **{one.name: one.setup for one in job.roles if one.name in there}}
    env = planner.early_environment(job, plan.layout, entry.node, 0, plan.meeting)
    lines = []
    for role, script in found.items():
        if script:
            words = [*for_setup(job, entry.node, role), "bash", "-ec", script]
            started = f"  exec {' '.join(map(shell.plain, words))} </dev/null"
            lines += ["(", *shell.exports(env, "  "), started, ") || exit"]
    return lines


def _driver(job: Job, plan: Plan, name: str, folders: Mapping[str, str]) -> str:
    primaries = 0
    calls = []
    for entry in plan.nodes:
        host = entry.node.host.name
        primary = any(p.task and job.role(p.task.role).primary for p in entry.processes)
        primaries += primary
        kind = "primary" if primary else "other"
        folder = folders[host]
        # The remote shell splits its words once more.
        words = [posixpath.join(folder, "runs", name), kind]
        calls.append(f"begin {shell.plain(host)} {shell.plain(shell.quote(words[0]))} {words[1]}")
    lines = [
        "#!/bin/sh",
        comment(f"Runs {name} on {len(plan.nodes)} hosts over ssh, all at once, and stops all"),
        comment("when one fails. Written by: launcher export script."),
        comment("SSH='ssh -v' calls ssh differently; COPY=no keeps the code that is on the hosts."),
        f"WORKDIR=${{WORKDIR:-{shell.plain(job.workdir)}}}",
        f"PRIMARIES={primaries}",
        *shell.require_secrets(job),
        *DRIVER.begin.split("\n"),
        "secrets() {",
        *(f'  printf "export {secret}="; quoted "${{{secret}}}"' for secret in job.secrets),
        "  echo '#go'",
        "}",
        DRIVER.middle,
        *calls,
        f"LEFT={len(calls)}",
        DRIVER.end,
    ]
    return "\n".join(lines)


def _ssh_config(inventory: Inventory, hosts: Sequence[Host]) -> str:
    entries = [ssh_config(host) for host in hosts]
    jumps = {host.proxy_jump for host in hosts}
    entries += [ssh_config(host) for host in inventory.hosts if host.name in jumps - {None}]
    config = (inventory.ssh_config or "~/.ssh/config").replace('"', "")
    return "".join(one for one in dict.fromkeys(entries) if one) + f'Host *\n  Include "{config}"\n'
