"""``launcher tensorboard``: TensorBoard over the outputs of runs."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...api.client import Client, home
from ...spec.errors import InputError
from .. import completion, options
from ..follow import hangups
from ..render.tables import counted

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("tensorboard")
@click.argument("words", metavar="[RUN]...", nargs=-1, shell_complete=completion.runs)
@options.port(6006)
@options.no_browser
def command(words: tuple[str, ...], port: int, no_browser: bool) -> None:
    """Start TensorBoard over the outputs of runs of this machine; by default, of all.

    RUN may be a pattern such as 'sweep-*'. What the scripts of a run write for TensorBoard comes as they
    write it, and is shown. Only you can open the address. Ctrl-C ends it.
    """
    runs = _folders(words)
    try:
        from ...web import tensorboard
    except ModuleNotFoundError as error:
        raise InputError(
            f"launcher tensorboard needs {error.name}", "pip install tensorboard"
        ) from None
    from ...web.browser import has_screen, remove, show

    signals = {signal.SIGINT, *hangups()}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # for the threads, too
    with (
        tempfile.TemporaryDirectory(prefix="tensorboard-", dir=home()) as place,
        tensorboard.Links(runs, Path(place)),
    ):
        address = tensorboard.start(Path(place), port)
        click.echo(address)
        click.echo(f"TensorBoard over {counted(len(runs), 'run')}. Ctrl-C ends it.", err=True)
        page = f"tensorboard-{os.getpid()}.html"
        try:
            if not no_browser and has_screen():
                show(address, page)
            signal.sigwait(signals)
        finally:
            remove(page, address)


def _folders(words: tuple[str, ...]) -> Mapping[str, Path]:
    """Return the folders of runs by name: of those that are named, or that have any output here."""
    client = Client()
    names = [one.run for one in client.select(words)]
    folders = {name: home() / "runs" / name for name in names}
    if not words:
        folders = {name: folder for name, folder in folders.items() if _has_any(folder)}
    if not folders:
        raise InputError(
            "no run of this machine has brought back any output",
            "launcher ls shows them; launcher pull RUN brings what its hosts have",
        )
    return folders


def _has_any(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("outputs", "live"))
