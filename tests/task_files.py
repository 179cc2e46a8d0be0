"""What the tests of task files of other systems share: the job that one becomes, and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.interop import tasks
from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.model import Facts, Host, Job, Meeting, Plan

TASKS = Path(__file__).parent / "cases" / "tasks"
MIB = 1 << 20


def made(name: str, form: str) -> tuple[Job, str]:
    """The job that a file becomes, and all notes."""
    return job_of((TASKS / f"{name}.yaml").read_text(), form)


def loaded(text: str, form: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What our job file holds that a text becomes, and the notes, which all stand in it."""
    ours, notes = tasks.read(text, "theirs", form)
    assert all(f"#   {note}\n" in ours for note in notes)
    return jobs.load(ours, "ours"), notes


def job_of(text: str, form: str) -> tuple[Job, str]:
    """The job itself, and all notes as a text."""
    values, notes = loaded(text, form)
    return jobs.make(
        {"file": values}, {"HF_TOKEN": "1", "TOKEN": "2", "WANDB_API_KEY": "3"}
    ), "\n".join(notes)


def planned(job: Job, gpus: int) -> Plan:
    hosts = tuple(Host(f"gpu{n}", gpus=gpus, address=f"10.0.0.{n}") for n in (1, 2, 3))
    known = {h.name: Facts(h.name, h.name, "/r", "python3", "3.11", 64) for h in hosts}
    return planner.plan(job, make_layout(job, hosts, known, "r"), Meeting("10.0.0.1", 29500), "a")


def shares(job: Job, role: str) -> list[tuple[int, Any, Any]]:
    found = job.role(role)
    every = [found.at(index).resources for index in range(found.replicas)]
    return [(s.gpus, s.cpus, s.memory and s.memory // MIB) for s in every]
