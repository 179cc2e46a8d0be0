"""Find out whether a job could run now, from the surveys of its hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...frameworks import requirements
from ...jobs.layout import make_layout
from ...spec.errors import PlanError
from ...spec.model import Host, Job, Layout
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
        return None, [found("JOB-NO-FIT", names, error.message, error.hint)]
    chosen = [node.host.name for node in layout.nodes]
    gpus = sum(len(node.gpus) for node in layout.nodes)
    fits = f"{layout.world_size} ranks" + (f" on {gpus} GPUs" if gpus else " without GPUs")
    findings = [found("JOB-FITS", chosen, fits)]
    for host in there:
        level = ERROR if host.name in chosen else WARNING
        findings += _of_host(job, surveys[host.name], host, level)
    return layout, findings


def _of_host(job: Job, survey: Survey, host: Host, level: str) -> list[Finding]:
    findings = []
    built = job.environment.uv or job.environment.image if job.environment else ""
    by_setup = WARNING if job.setup or built else level
    brings = "; its setup: may install {}" if job.setup else ""
    brings = f"; the {job.environment} may have {{}}" if built else brings
    missing = list(survey.software.missing)
    probes = {*requirements.modules_of(job.framework), *requirements.needs_of(job.framework)}
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
        findings.append(
            found(
                "JOB-NEEDS",
                host.name,
                f"{path} is missing or unreadable",
                "copy or mount it there, or choose hosts that have it (--hosts)",
                level=level,
            )
        )
    return findings
