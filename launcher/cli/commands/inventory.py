"""``launcher inventory``: show the hosts; import and export inventories."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ...api import formats
from ...api.hosts import allow, narrowed, programs, settings_of
from ...spec import nodeset
from ...spec.errors import InputError, suggestion
from ...spec.model import Host, Inventory
from .. import completion, options
from ..grouped import CommandGroup
from ..inventory_lookup import loaded, note, show_programs, tell_notes
from ..render.tables import counted, table

_OUT = click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout.")


@click.group("inventory", cls=CommandGroup)
def command() -> None:
    """Show the hosts of an inventory; import and export inventories of other tools."""


@command.command()
@options.inventory
@options.as_json
def ls(inventory: str | None, as_json: bool) -> None:
    """List the hosts; equal ones are folded into a node set."""
    known = loaded(inventory, connects=False)
    if as_json:
        value = {
            "source": known.source,
            "ssh_config": known.ssh_config,
            "hosts": [{**asdict(host), "groups": _groups(known, host)} for host in known.hosts],
            "groups": {name: list(members) for name, members in known.groups.items()},
            "notes": list(known.notes),
        }
        click.echo(json.dumps(value, indent=2))
        return
    click.echo(_table(known))


def _table(inventory: Inventory) -> str:
    rows: dict[tuple[str, ...], list[Host]] = {}
    for host in inventory.hosts:
        words = (
            _shown(host.user),
            _shown(host.port),
            _shown(host.proxy_jump),
            _gpus(host),
            ", ".join(_groups(inventory, host)) or "-",
            ", ".join(f"{_shown(k)}={_shown(v)}" for k, v in host.labels.items()) or "-",
            _shown(host.off),
        )
        rows.setdefault(words, []).append(host)
    head = ("host", "address", "user", "port", "through", "gpus", "groups", "labels", "off")
    cells = [(*_names(hosts), *words) for words, hosts in rows.items()]
    used = [i for i in range(len(head)) if i < 2 or any(row[i] != "-" for row in cells)]
    text = table([head[i] for i in used], [[row[i] for i in used] for row in cells])
    return f"{text}\n{counted(len(inventory.hosts), 'host')} in {inventory.source}"


def _names(hosts: list[Host]) -> tuple[str, str]:
    addresses = [host.address for host in hosts if host.address]
    return nodeset.fold(host.name for host in hosts), nodeset.fold(addresses) if addresses else "-"


def _groups(inventory: Inventory, host: Host) -> list[str]:
    return [name for name, members in inventory.groups.items() if host.name in members]


def _gpus(host: Host) -> str:
    return _shown(f"{host.gpu_model}:{host.gpus}" if host.gpu_model else host.gpus)


def _shown(value: object) -> str:
    """Return a value from a file as text that cannot move the cursor."""
    text = "-" if value is None else str(value)
    return text if text.isprintable() else repr(text)


@command.command()
@click.argument("name", metavar="HOST")
@options.inventory
@options.as_json
def show(name: str, inventory: str | None, as_json: bool) -> None:
    """Show every setting of a host, and where each value comes from."""
    known = loaded(inventory)
    names = [host.name for host in known.hosts]
    if name not in names:
        hint = suggestion(name, names) or f"hosts: {nodeset.fold(names)}"
        raise InputError(f'no host "{name}" in {known.source}', hint)
    host = known.host(name)
    values = settings_of(known, host)
    groups = _groups(known, host)
    if as_json:
        shown = {one.key: {"value": one.value, "origin": one.origin} for one in values}
        click.echo(json.dumps({"host": name, "groups": groups, "values": shown}, indent=2))
        return
    click.echo(name + (f"  in {', '.join(groups)}" if groups else ""))
    rows = [(one.key, _shown(one.value), one.origin) for one in values]
    click.echo(table(("setting", "value", "from"), rows, "  "))


@command.command("import")
@click.argument("file", metavar="FILE")
@click.option("--from", "form", metavar="FORMAT", help="Format of the file (default: guessed).")
@_OUT
@options.force
def import_command(file: str, form: str | None, output: str | None, force: bool) -> None:
    """Convert another tool's list of hosts (FILE, or - for stdin) into an inventory.

    Formats: hostfile (DeepSpeed, MPI, Horovod, plain lists), ansible, ansible-yaml, skypilot,
    dstack, ray, clustershell, ssh_config, mlx. What cannot be converted is listed in comments.
    """
    content, source = formats.read_file(file, "inventory")
    inventory, text = formats.import_inventory(content, source, form)
    tell_notes(inventory, all_of_them=True)
    write_text(text, output, force, counted(len(inventory.hosts), "host"))


@command.command("export")
@click.option(
    "--to",
    "form",
    required=True,
    metavar="FORMAT",
    help="hostfile, ssh_config or ansible.",
    shell_complete=completion.words(*formats.EXPORTS),
)
@options.inventory
@options.hosts
@_OUT
@options.force
def export_command(
    form: str, inventory: str | None, hosts: str | None, output: str | None, force: bool
) -> None:
    """Write the inventory in another tool's format."""
    known = narrowed(loaded(inventory, connects=False), hosts)
    text, notes = formats.export_inventory(known, form)
    for one in notes:
        note(one)
    write_text(text, output, force, counted(len(known.hosts), "host"))


def write_text(text: str, output: str | None, force: bool, what: str) -> None:
    """Write to stdout or to a file, which may exist only with ``force``. Raises InputError."""
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with Path(output).open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{output} exists", "--force overwrites it") from None
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"{what} in {output}", err=True)


@command.command("allow")
@options.inventory
def allow_command(inventory: str | None) -> None:
    """Allow the programs that the inventory's ssh_config runs.

    They are shown first. Until then, commands that go to hosts refuse such an inventory. A line that
    changes has to be allowed again.
    """
    known = loaded(inventory, connects=False)
    lines = programs(known)
    if not lines:
        click.echo(f"{known.source}: its ssh_config runs no programs", err=True)
        return
    show_programs(lines)
    allow(lines)
    click.echo("allowed", err=True)
