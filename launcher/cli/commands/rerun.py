"""``launcher rerun``: run a run again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from .. import options, trust
from ..follow import begin
from ..grouped import GroupedCommand
from ..run_argument import attached, new_client, run_argument

if TYPE_CHECKING:
    from ...api.client import AsyncClient
    from ...api.handles import AsyncRunHandle


EXAMPLES = (
    "launcher rerun exp1                     as it was",
    "launcher rerun exp1 -- --lr 0.2         with other arguments",
    "launcher rerun exp1 --from-checkpoint   continues from its outputs",
    "launcher rerun exp1 --gpus 8 -d         larger, in the background",
)


@click.command("rerun", cls=GroupedCommand, examples=EXAMPLES)
@run_argument
@click.argument("arguments", metavar="[-- NEW ARGUMENTS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--hosts", metavar="NAMES", help="Other hosts of its inventory (default: the same).")
@options.gpus("Another total of GPUs, as 4 or A100:4; launcher chooses the hosts.")
@click.option(
    "--from-checkpoint",
    is_flag=True,
    help="Give it the outputs of the run first, as after a restart: it continues from there.",
)
@options.tags
@options.note
@options.ranks
@options.raw
@options.detach
@trust.option
@options.receipt_as_json
@click.pass_context
def command(
    ctx: click.Context,
    word: str,
    arguments: tuple[str, ...],
    hosts: str | None,
    gpus: int | str | None,
    from_checkpoint: bool,
    tags: tuple[str, ...],
    note: str | None,
    ranks: frozenset[int] | None,
    raw: bool,
    detach: bool,
    trust_record: bool,
    as_json: bool,
) -> None:
    """Run a run again: the same code snapshot, job and hosts.

    New arguments replace those of its script: `launcher rerun RUN -- --lr 0.2`. A host that the run was
    not on gets the code from its folder here, if that has not changed since.

    It has as many ranks as the run had, unless --gpus says otherwise.

    Secrets come from your environment. If another machine started the run and its hosts disagree on it
    or name secrets, you are asked first.
    """
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)

    async def start(client: AsyncClient) -> AsyncRunHandle:
        async with attached(word) as old:
            name = old.name
            if not trust_record and not trust.agreed(old, "running it again"):
                raise click.Abort
        return await client.rerun(
            name,
            arguments=arguments or None,
            hosts=hosts,
            gpus=gpus,
            from_checkpoint=from_checkpoint,
            tags=tags,
            note=note or "",
            detach=detach,
            trust_record=True,
            on_event=screen.on_event,
            on_log=screen.on_log,
        )

    client = new_client()
    ctx.exit(asyncio.run(begin(client, start, screen, detach, as_json)))
