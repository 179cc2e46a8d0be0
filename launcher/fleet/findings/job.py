"""Find out whether a job could run now, from the surveys of its hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...frameworks import requirements
from ...jobs.environments import all_of, unable
from ...jobs.layout import make_layout
from ...spec.environments import Environment
from ...spec.errors import PlanError
from ...spec.model import Facts, Host, Job, Layout
from ...transport.answers.environments import Environment as EnvironmentThere
from .. import builders
from . import ERROR, WARNING, Finding, found
from .survey import Survey


def of_job(
    job: Job, hosts: Sequence[Host], surveys: Mapping[str, Survey]
) -> tuple[Layout | None, list[Finding]]:
    """Return the layout that the job would get now, and what keeps it from running."""
    there = [host for host in hosts if host.name in surveys]
    facts = {host.name: surveys[host.name].facts for host in there}
    try:
        layout = make_layout(job, there, facts)
    except PlanError as error:
        names = [host.name for host in hosts]
        lacking = _environments(job, there, facts, names)
        return None, [*lacking, found("JOB-NO-FIT", names, error.message, error.hint)]
    chosen = [node.host.name for node in layout.nodes]
    gpus = sum(len(node.gpus) for node in layout.nodes)
    fits = f"{layout.world_size} ranks" + (f" on {gpus} GPUs" if gpus else " without GPUs")
    findings = [found("JOB-FITS", chosen, fits)]
    findings += _environments(job, there, facts, chosen)
    for host in there:
        level = ERROR if host.name in chosen else WARNING
        findings += _of_host(job, surveys[host.name], host, level)
    return layout, findings


def _environments(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], chosen: Sequence[str]
) -> list[Finding]:
    """Return the environments of roles that hosts lack: an error where no host of the job has one."""
    findings, lacking = (
        [],
        {host.name: unable(job, host, facts[host.name].pythons) for host in hosts},
    )
    for role in job.roles:
        names = [name for name, roles in lacking.items() if role.name in roles]
        if not names:
            continue
        wanted = role.environment or job.environment
        what = f"role {role.name} cannot run here: the {wanted} is missing"
        if wanted is None:
            what = f"role {role.name} cannot run here: the environment of the inventory is missing"
        level = WARNING if set(chosen) - set(names) else ERROR
        hint = "make it there, or choose hosts that have it: host: of the role, or --hosts"
        findings.append(found("JOB-ENVIRONMENT", names, what, hint, level=level))
    return findings


def of_builders(
    wanted: Environment, there: Mapping[str, EnvironmentThere], chosen: frozenset[str] | None
) -> Iterator[Finding]:
    """Yield what would build an environment on hosts; that nothing would is a warning on hosts that
    the job would not get."""
    kind = wanted.builder
    name, ours = builders.BROUGHT[kind], builders.own(kind)
    for host, answer in there.items():
        if answer.state == "there":
            said = answer.said if answer.tool in answer.said else f"{answer.tool} {answer.said}"
            what = f"{said.strip()} builds the environment of {wanted.recipe}, unless it is there"
            yield found("JOB-BUILDER", host, what)
        elif ours and builders.fits(answer.machine, answer.libc):
            what = f"{name} of this machine would be brought, and build the environment"
            yield found("JOB-BUILDER", host, f"{what} of {wanted.recipe}")
        else:
            level = ERROR if chosen is None or host in chosen else WARNING
            what = f"there is no {builders.NAMES[kind]} to build the environment of {wanted.recipe}"
            hint = f"put {name} into ~/.local/bin of this machine, or there"
            yield found("JOB-BUILDER", host, what, hint, level=level)


def _of_host(job: Job, survey: Survey, host: Host, level: str) -> list[Finding]:
    findings = []
    others = [one for one in all_of(job) if one.is_given or job.has_several_environments]
    by_setup = WARNING if job.setup or others else level
    brings = "; its setup: may install {}" if job.setup else ""
    brings = f"; the {others[0]} may have {{}}" if others else brings
    missing = list(survey.software.missing)
    probes = {*requirements.modules_of(job), *requirements.needs_of(job.framework)}
    if without := [probe for probe in missing if probe in probes]:
        missing = [name for name in missing if name not in probes]
        facts, names = survey.facts, requirements.first_of(job.framework, without)
        what, hint = requirements.describe_missing(
            job.framework, facts.python, facts.python_version, names
        )
        what += brings.format("it" if len(names) == 1 else "them")
        findings.append(found("JOB-FRAMEWORK", host.name, what, hint, level=by_setup))
    if missing:
        findings.append(
            found(
                "JOB-IMPORT",
                host.name,
                f"{host.python} cannot find {', '.join(missing)}, which the job imports"
                + brings.format("it" if len(missing) == 1 else "them"),
                f"run {host.python} -m pip install there (the package's name may differ from "
                "the module's), or install it in setup: of the job file",
                level=by_setup,
            )
        )
    for path in survey.no_paths:
        is_silent = path in survey.silent_paths
        findings.append(
            found(
                "JOB-NEEDS",
                host.name,
                f"{path} does not answer" if is_silent else f"{path} is missing or unreadable",
                "is the server of its file system there? umount -f -l, and mount it again"
                if is_silent
                else "copy or mount it there, or choose hosts that have it (--hosts)",
                level=level,
            )
        )
    return findings
