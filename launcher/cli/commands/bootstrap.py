"""``launcher bootstrap``: ask the user, prepare hosts, and show the result of each."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...api import jobs
from ...api.bootstrap import (
    STEPS,
    VENV,
    bootstrap_hosts,
    chosen_steps,
    plain,
    requirement_lines,
)
from ...api.hosts import select_hosts
from ...spec import nodeset
from ...spec.errors import DocumentError, InputError
from ...spec.model import Secret
from .. import completion, options
from ..inventory_lookup import loaded, need_inventory
from ..render.hints import below_error
from ..render.tables import counted
from ..run_argument import passphrases

if TYPE_CHECKING:
    from ...api.bootstrap import HostOutcome

_STEPS = ", ".join(s.name for s in STEPS if not s.optional)
_MORE = ", ".join(s.name for s in STEPS if s.optional)
_A_STEP = completion.words(*(s.name for s in STEPS if not s.optional))
_ONE_MORE = completion.words(*(s.name for s in STEPS if s.optional))
#: Public keys when neither a flag nor ssh_config names one, in this order.
_USUAL_KEYS = ("~/.ssh/id_ed25519.pub", "~/.ssh/id_ecdsa.pub", "~/.ssh/id_rsa.pub")


@click.command("bootstrap")
@options.inventory
@options.hosts
@click.option("--dry-run", is_flag=True, help="Print what would change; change nothing.")
@click.option(
    "--skip", multiple=True, metavar="STEP", help=f"Skip a step: {_STEPS}.", shell_complete=_A_STEP
)
@click.option(
    "--only", multiple=True, metavar="STEP", help="Do only this step.", shell_complete=_A_STEP
)
@click.option(
    "--with",
    "more",
    multiple=True,
    metavar="STEP",
    help=f"Add a step: {_MORE}.",
    shell_complete=_ONE_MORE,
)
@click.option("--key", metavar="FILE", help="Your public key (default: the key you log in with).")
@click.option("--login-key", multiple=True, metavar="FILE", help="Private key for this login.")
@click.option("--accept-new", is_flag=True, help="Trust unknown host keys, and print them.")
@click.option("--requirements", metavar="FILE", help="Packages for the environment on the hosts.")
@click.option("--job", metavar="FILE", help="Use requirements.txt of this job's workdir.")
@click.option("--venv", metavar="DIR", help=f"Folder of the environment (default: {VENV}).")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    inventory: str | None,
    hosts: str | None,
    dry_run: bool,
    skip: tuple[str, ...],
    only: tuple[str, ...],
    more: tuple[str, ...],
    key: str | None,
    login_key: tuple[str, ...],
    accept_new: bool,
    requirements: str | None,
    job: str | None,
    venv: str | None,
    as_json: bool,
) -> None:
    """Prepare bare hosts for `launcher run`: your public key, rsync, Python, an environment.

    A host needs a login, and sudo if packages are missing. Passwords are asked for once and never
    stored. What is already there is left alone, so you can run it again at any time. It never
    touches drivers. The exit code is 1 if a host is not ready.
    """
    steps = chosen_steps(skip, only, more)
    place = need_inventory(inventory)
    known = loaded(place)
    if known.sandbox:
        raise InputError("the embedded hosts need no bootstrap", "-i names another inventory")
    wanted = select_hosts(known, hosts)
    text = _requirements(requirements, job)
    given = _public_key(Path(key).expanduser(), must=True) if key else None
    person = _Person(accept_new)
    outcomes = bootstrap_hosts(
        person,
        person.tell,
        inventory=known,
        inventory_file=place,
        hosts=wanted,
        steps=steps,
        keys=lambda files: given or _own_key(files),
        force_key=key is not None,
        login_keys=tuple(str(Path(file).expanduser()) for file in login_key),
        requirements=text,
        venv=venv,
        dry_run=dry_run,
        ask_passphrase=passphrases(),
    )
    if as_json:
        click.echo(json.dumps([_described(outcome, dry_run) for outcome in outcomes], indent=2))
    else:
        for line in _shown(outcomes, dry_run):
            click.echo(line)
    ctx.exit(0 if all(outcome.ok for outcome in outcomes) else 1)


def _requirements(file: str | None, job: str | None) -> str | None:
    if file is None and job is None:
        return None
    path = Path(file) if file else Path(jobs.load_job(str(job))["workdir"]) / "requirements.txt"
    try:
        return requirement_lines(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        hint = "" if file else "--requirements FILE names the job's requirements"
        raise DocumentError(f"{path}: {reason}", hint, str(path)) from None


def _own_key(login_keys: Sequence[str]) -> str | None:
    """Return the public key of a host's key in ssh_config, or else the usual one."""
    files = [f"{file}.pub" for file in login_keys] or _USUAL_KEYS
    found = (_public_key(Path(file).expanduser(), must=False) for file in files)
    return next((key for key in found if key), None)


def _public_key(file: Path, must: bool) -> str | None:
    """Return a public key as a line of authorized_keys, also for its private key's name.

    Raises InputError.
    """
    if file.suffix != ".pub" and Path(f"{file}.pub").exists():
        file = Path(f"{file}.pub")
    try:
        line = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if must:
            raise InputError(f"--key {file}: {getattr(error, 'strerror', 'no text')}") from None
        return None
    words = line.split()
    if len(words) < 2 or "\n" in line or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        if must:
            raise InputError(
                f"--key {file}: not a public key", "it is one line: ssh-ed25519 AAAA... you"
            )
        return None
    return line


class _Person:
    """Asks the user at the terminal. Without a terminal every answer is no."""

    def __init__(self, accept_new: bool) -> None:
        self._accept_new = accept_new
        self._there = sys.stdin.isatty()
        self._lock = threading.Lock()

    def tell(self, host: str, message: str) -> None:
        with self._lock:
            click.echo(f"{host}  {plain(message)}", err=True)

    def trust(self, subject: str, where: str, kind: str, fingerprint: str) -> bool:
        if self._accept_new:
            return True
        if not self._there:
            return False
        click.echo(
            f"{subject} ({where}) is not in known_hosts. Its host key is\n"
            f"  {kind}  {fingerprint}\n"
            "Ask the admin for the fingerprint and compare.",
            err=True,
        )
        return click.confirm("Trust it?", default=False, err=True)

    def password(self, user: str, hosts: Sequence[str], what: str, again: bool) -> Secret | None:
        if not self._there:
            return None
        names = nodeset.fold(hosts)
        if again:
            click.echo(f"{names}: wrong {what} password for {user}", err=True)
        prompt = f"{'sudo password' if what == 'sudo' else 'password'} of {user} on {names}"
        typed = click.prompt(prompt, hide_input=True, err=True, default="", show_default=False)
        return Secret(typed) if typed else None


def _status(outcome: HostOutcome, dry_run: bool) -> str:
    if not outcome.ok:
        return "failed"
    if not outcome.changes:
        return "ready"
    return "would-change" if dry_run else "changed"


def _described(outcome: HostOutcome, dry_run: bool) -> dict[str, Any]:
    error = outcome.error
    return {
        "host": outcome.host,
        "status": _status(outcome, dry_run),
        "changes": [{"step": change.step, "what": change.what} for change in outcome.changes],
        "problems": [vars(problem) for problem in outcome.problems],
        "notes": list(outcome.notes),
        "error": error and {"code": error.code, "message": error.message, "hint": error.hint},
    }


def _shown(outcomes: Sequence[HostOutcome], dry_run: bool) -> Iterator[str]:
    """Yield a block per result; hosts with the same result share one."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for outcome in outcomes:
        alike.setdefault(tuple(_lines(outcome, dry_run)), []).append(outcome.host)
    for lines, names in alike.items():
        head, *rest = lines
        yield f"{click.style(nodeset.fold(names), bold=True)}  {head}"
        yield from (f"  {line}" for line in rest)


def _lines(outcome: HostOutcome, dry_run: bool) -> Iterator[str]:
    count = len(outcome.changes)
    made = f"{counted(count, 'change')} {'to make' if dry_run else 'made'}"
    if not outcome.ok:
        yield click.style("not ready", fg="red") + (f", {made}" if count else "")
    elif count:
        yield made if dry_run else f"{click.style('ready', fg='green')}, {made}"
    else:
        yield f"{click.style('ready', fg='green')}, nothing to do"
    for change in outcome.changes:
        yield f"{change.step}: {plain(change.what)}"
    for problem in outcome.problems:
        yield click.style(f"{problem.step}: {plain(problem.message)}", fg="red")
        if problem.hint:
            yield from below_error(problem.hint, indent=2).split("\n")
    if outcome.error:
        yield click.style(plain(outcome.error.message), fg="red")
        if outcome.error.hint:
            yield from below_error(outcome.error.hint, indent=2).split("\n")
    for note in outcome.notes:
        yield click.style(f"note: {plain(note)}", dim=True)
