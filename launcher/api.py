"""What a program calls; the command line starts every run through it.

Not responsible for a screen.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import events as ev
from . import inventory as inventories
from . import job as jobs
from . import planning, runs, spare
from .errors import DocumentError, InputError
from .model import Inventory, Job, Meeting, Plan, Request
from .receipt import Receipt
from .store import RunFolder

if TYPE_CHECKING:
    from .attach import Attached
    from .run import Run

OnEvent = Callable[[ev.Event], None]
OnLog = Callable[[str, str, bytes], None]


#: Bytes of an inventory or a job file at most: nobody writes one of that size.
MOST_BYTES = 4_000_000


def load_inventory(path: str | os.PathLike[str]) -> Inventory:
    """The inventory in a file: ours, or one of the formats of :mod:`launcher.imports`.

    What could not be carried over is in its ``notes``. Raises DocumentError.
    """
    content = read_text(path, "inventory")
    try:
        found = inventories.load(content, str(path))
    except DocumentError as error:
        found = _foreign(content, path, error)
    return _resolved(found, Path(path).parent)


def _foreign(content: str, path: str | os.PathLike[str], error: DocumentError) -> Inventory:
    """Somebody else's inventory. Raises ``error`` when it looks like ours."""
    from . import imports  # most inventories are ours

    form = imports.recognise(imports.Text(content, str(path)))
    if form is None:
        raise error
    found = imports.read(content, str(path), form)[1].inventory()
    if form == "ssh_config":  # ssh's own words hold for the connections, so nothing is lost
        return replace(found, ssh_config=str(Path(path).absolute()), notes=())
    return found


def _resolved(inventory: Inventory, base: Path) -> Inventory:
    """Paths that stand in the file, as paths from anywhere."""
    if inventory.sandbox:
        from . import sandbox

        return replace(inventory, ssh_config=str(sandbox.ssh_config()))
    if inventory.ssh_config is None:
        return inventory
    return replace(inventory, ssh_config=str(base / Path(inventory.ssh_config).expanduser()))


def write_interfaces(path: str | os.PathLike[str], interfaces: dict[str, str]) -> None:
    """Writes ``interface:`` of hosts into an inventory's file; the rest of it stays as it is.

    Raises InputError when that cannot be done safely.
    """
    from .rewrite import with_interface

    old = read_text(path, "inventory")
    new = with_interface(old, str(path), interfaces)
    target = Path(path).resolve()
    scratch = target.with_name(target.name + ".new")
    try:
        scratch.write_text(new, "utf-8")
        scratch.chmod(target.stat().st_mode)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def load_job(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values of a job file, ``workdir`` resolved from the file's folder. Raises DocumentError."""
    values = jobs.load(read_text(path, "job file"), str(path))
    values["workdir"] = str((Path(path).parent / values.get("workdir", ".")).resolve())
    return values


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """The text of a small UTF-8 file. Raises DocumentError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        lost = what == "inventory" and error.errno == errno.ENOENT
        hint = "launcher init writes one; -i names it, and no image" if lost else ""
        raise DocumentError(f"{what} {path}: {error.strerror}", hint, str(path)) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError("not UTF-8 text", "", str(path), line) from None
    if len(data) > MOST_BYTES:
        raise DocumentError(f"{what} {path}: larger than {MOST_BYTES} bytes", source=str(path))
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DocumentError("not a text file: it has a NUL byte", "", str(path), line)
    return text


def make_job(**values: Any) -> Job:
    """A job from values with the names of a job file. Raises InputError."""
    return layered_job({"argument": values})


def layered_job(layers: Mapping[str, Mapping[str, Any]]) -> Job:
    """A job from layers of values in rising order, such as file, environment and flags."""
    job = jobs.make(layers, os.environ)
    job = replace(job, workdir=str(Path(job.workdir).expanduser().resolve()))
    for script in job.scripts:
        if not (Path(job.workdir) / script).exists():
            raise InputError(*_no_script(job.workdir, script))
    return job


def _no_script(workdir: str, script: str) -> tuple[str, str]:
    from .errors import suggestion

    folder = (Path(workdir) / script).parent
    near = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    hint = suggestion(Path(script).name, near) or "paths are relative to the workdir"
    return f"there is no {script} in {workdir}", hint


def dry_run(job: Job, inventory: Inventory) -> Plan:
    """The plan as far as it can be known without touching a host. Raises InputError."""
    hosts = inventories.select(inventory, job.hosts)
    _check_restarts(job, len(hosts))
    layout = planning.layout(job, hosts, {})
    first = layout.nodes[0].host
    address = job.master_addr or first.address or first.name
    low, high = job.master_port
    port = low if low == high else f"{low}-{high}"
    return planning.plan(job, layout, Meeting(address, port), "agent")


def spare_names(job: Job, inventory: Inventory, plan: Plan) -> list[str]:
    """The hosts that could take the place of a lost one, none without restarts."""
    hosts = inventories.select(inventory, job.hosts) if job.max_restarts else ()
    return [host.name for host in spare.spares(hosts, plan.layout, ())]


def run_job(
    job: Job,
    inventory: Inventory,
    *,
    pull_every: float = 30.0,
    lost_after: float = 300.0,
    lease: float | None = None,
    stall_timeout: float | None = None,
    stop_stalled: bool = False,
    on_event: OnEvent = lambda event: None,
    on_log: OnLog = lambda host, name, data: None,
) -> Receipt:
    """Runs a job and returns its receipt, whatever the ending.

    ``on_log(host, name, data)`` gets the new bytes of a log, ``on_event`` every event; the numbers
    are seconds, as :class:`launcher.model.Request` explains them. Raises
    InputError for what can be seen before anything starts, LauncherError when this machine cannot
    hold the run's folder.
    """
    request = make_request(
        job,
        inventory,
        pull_every=pull_every,
        lost_after=lost_after,
        lease=lease,
        stall_timeout=stall_timeout,
        stop_stalled=stop_stalled,
    )
    with hosts_of(request):
        run = new_run(request, new_folder(job), on_event, on_log)
        return asyncio.run(_listening(run))


async def _listening(run: Run) -> Receipt:
    """`launcher pull` asks for outputs by a signal, which ends a process that does not listen."""
    with suppress(RuntimeError, ValueError):  # not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, run.pull_now)
    return await run.execute()


def make_request(job: Job, inventory: Inventory, **options: Any) -> Request:
    """What a run is made of, with the hosts that the job may use. Raises InputError."""
    hosts = inventories.select(inventory, job.hosts)
    _check_restarts(job, len(hosts))
    options = {"max_restarts": job.max_restarts, "min_nodes": job.min_nodes, **options}
    if job.num_nodes and job.num_nodes > len(hosts):
        named = ", ".join(host.name for host in hosts[:8]) + (", ..." if len(hosts) > 8 else "")
        raise InputError(
            f"--nodes {job.num_nodes}: there are {len(hosts)} hosts ({named})",
            "more hosts: -i with another inventory, or another --hosts",
        )
    return Request(job, inventory, hosts, **options)


def _check_restarts(job: Job, hosts: int) -> None:
    if job.elastic is not None:
        span = f"--nodes {job.elastic}:{job.num_nodes}"
        if not job.max_restarts:
            raise InputError(
                f"{span}: torchrun may not form its group anew",
                "--max-restarts 3: so often, after a failure or a host's loss",
            )
        if job.min_nodes is not None:
            raise InputError(
                f"--min-nodes {job.min_nodes}: {span} says already how few hosts will do",
                "leave --min-nodes out, or give --nodes one number",
            )
    if job.min_nodes is None:
        return
    if not job.max_restarts:
        raise InputError(
            f"--min-nodes {job.min_nodes}: a run that is not started again cannot go on with fewer "
            "hosts",
            "--max-restarts 1, or max_restarts: in the job",
        )
    if job.min_nodes > (job.num_nodes or hosts):
        most = f"--nodes {job.num_nodes}" if job.num_nodes else f"the {hosts} hosts there are"
        raise InputError(
            f"--min-nodes {job.min_nodes} is more than {most}", "as many as the run can do with"
        )


def new_folder(job: Job) -> RunFolder:
    """A folder and a name for a run. Raises RecordError."""
    return RunFolder.create(job.name)


def new_run(request: Request, folder: RunFolder, on_event: OnEvent, on_log: OnLog) -> Run:
    """A run in a folder of its own."""
    from .run import Run  # asyncssh takes a third of a second to import: not for a dry run

    return Run(request, folder, on_event, on_log)


def attached(
    word: str,
    on_event: OnEvent = lambda event: None,
    on_log: OnLog = lambda host, name, data: None,
) -> Attached:
    """A run that another process began, by name, beginning of a name, or ``-`` for the latest.

    Raises InputError.
    """
    from .attach import Attached

    return Attached(runs.find(word), on_event, on_log)


def hosts_of(request: Request) -> AbstractContextManager[None]:
    """The embedded hosts, where the inventory wants them and they are not up."""
    return sandbox_of(request.inventory)


def sandbox_of(inventory: Inventory) -> AbstractContextManager[None]:
    """The same for an inventory alone."""
    if not inventory.sandbox:
        return nullcontext()
    from . import sandbox

    numbers = [host.name.removeprefix("local") for host in inventory.hosts]
    return sandbox.for_a_run(max(int(n) if n.isdigit() else 1 for n in numbers))
