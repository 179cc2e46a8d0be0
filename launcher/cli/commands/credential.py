"""``launcher credential``: credentials for object stores by name, on this machine alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace

import click

from ...api import credentials
from ...api.credentials import Credential, Listed
from ...spec.data import STORES
from ...spec.errors import InputError, suggestion
from ...spec.model import Secret
from .. import completion, options
from ..grouped import CommandGroup
from ..render.tables import age, table

#: Bytes of what may come on stdin.
LONGEST = 1 << 16
_name = click.argument("name", metavar="NAME", shell_complete=completion.credentials)


@click.group("credential", cls=CommandGroup)
def command() -> None:
    """Keep credentials for object stores by name, in files that you alone can read.

    A job names them: credential: in data: and outputs:, --output-credential. No host gets them.
    """


@command.command("set", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@_name
@click.option(
    "--store",
    type=click.Choice(STORES),
    default="s3",
    help="What it is for: s3 (default), gs (Google Cloud Storage) or az (Azure Blob Storage).",
)
@click.option(
    "--from-env",
    is_flag=True,
    help="Take what the store's own tools find in this shell: AWS_*, "
    "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*.",
)
@click.option(
    "--profile", metavar="NAME", help="Refer to this profile in ~/.aws, and look it up when used."
)
@click.option(
    "--stdin",
    is_flag=True,
    help="Read lines such as AWS_ACCESS_KEY_ID=..., as aws configure export-credentials --format env; "
    "with gs, the key file of a service account; with az, a connection string.",
)
@click.option(
    "--endpoint", metavar="URL", help="Where the store is (default: AWS, Google or Azure)."
)
@click.option("--region", metavar="NAME", help="Its region (default: us-east-1).")
@options.as_json
@click.pass_context
def set_command(
    ctx: click.Context,
    name: str,
    store: str,
    from_env: bool,
    profile: str | None,
    stdin: bool,
    endpoint: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Keep a credential under NAME, or replace it. Without options it asks, and does not show what you
    type.

    A credential is complete: variables and profiles of your shell add nothing to it later.
    """
    _refuse_rest(ctx)
    credentials.check_name(name)
    if from_env + stdin + (profile is not None) > 1:
        raise InputError("--from-env, --profile and --stdin are three ways", "choose one of them")
    if store != "s3" and (profile is not None or region):
        raise InputError("--profile and --region are for s3", "leave them out")
    if profile is not None:
        if not profile:
            raise InputError("--profile: no name", "aws configure list-profiles shows them")
        one = Credential(profile=profile)
    elif from_env:
        one = _FROM_ENVIRONMENT[store]()
    elif stdin:
        one = _FROM_TEXT[store](_piped())
    else:
        one, endpoint, region = _ASK[store](endpoint, region)
    endpoint = one.endpoint if endpoint is None else endpoint
    region = one.region if region is None else region
    place = credentials.save(name, replace(one, endpoint=endpoint.rstrip("/"), region=region))
    if as_json:
        click.echo(json.dumps({"name": name, "file": str(place)}, indent=2))
    elif profile:
        click.echo(f"{name} is profile {profile} of AWS's tools; {place} says so", err=True)
    else:
        click.echo(f"{name} is kept in {place}", err=True)


def _refuse_rest(ctx: click.Context) -> None:
    """Raise InputError for words that ``set`` does not take, which may be secrets: none is shown."""
    for word in ctx.args:
        option = word.partition("=")[0]
        known = [name for one in ctx.command.params for name in one.opts if name.startswith("--")]
        if option.startswith("--") and (hint := suggestion(option, known)):
            raise InputError(f"launcher credential set has no option {option}", hint)
    if ctx.args:
        raise InputError(
            "launcher credential set takes no key in the command line, which other users can see",
            "leave out all but NAME, and launcher asks; or --from-env, --profile NAME, --stdin",
        )


def _piped() -> str:
    if sys.stdin.isatty():
        raise InputError(
            "--stdin at a terminal would show what you type", "leave it out, or use a pipe"
        )
    return sys.stdin.read(LONGEST)


_FROM_ENVIRONMENT = {
    "s3": credentials.from_environment,
    "gs": credentials.of_google,
    "az": credentials.of_azure,
}
_FROM_TEXT = {
    "s3": credentials.from_lines,
    "gs": credentials.from_key_file,
    "az": credentials.of_azure_text,
}


def _require_terminal(instead: str) -> None:
    """Raise InputError where there is no terminal."""
    if not sys.stdin.isatty():
        raise InputError("nobody sits at a terminal who could type a credential", instead)


def _ask_google(endpoint: str | None, region: str | None) -> tuple[Credential, str, str]:
    """Ask for an HMAC key. Raises InputError where there is no terminal."""
    _require_terminal("--from-env, or --stdin <key.json")
    one = Credential(_hidden("access key (HMAC)"), _hidden("secret"), store="gs")
    return one, endpoint or "", region or ""


def _ask(endpoint: str | None, region: str | None) -> tuple[Credential, str, str]:
    """Ask at the terminal. Raises InputError where there is none."""
    _require_terminal("--from-env, --profile NAME, or --stdin")
    key = _hidden("access key")
    secret = _hidden("secret")
    token = _hidden("session token (Enter: none)")
    if endpoint is None:
        endpoint = str(
            click.prompt("endpoint (Enter: AWS)", default="", show_default=False, err=True)
        )
    if region is None:
        region = str(
            click.prompt("region (Enter: us-east-1)", default="", show_default=False, err=True)
        )
    return Credential(key, secret, token), endpoint.strip(), region.strip()


def _ask_azure(endpoint: str | None, region: str | None) -> tuple[Credential, str, str]:
    """Ask for the key of an account. Raises InputError where there is no terminal."""
    _require_terminal("--from-env, or --stdin with a connection string")
    account = Secret(str(click.prompt("storage account", err=True)).strip())
    return Credential(account, _hidden("its key"), store="az"), endpoint or "", region or ""


_ASK = {"s3": _ask, "gs": _ask_google, "az": _ask_azure}


def _hidden(what: str) -> Secret:
    typed = click.prompt(what, hide_input=True, err=True, default="", show_default=False)
    return Secret(str(typed).strip())


@command.command("ls")
@options.as_json
def ls_command(as_json: bool) -> None:
    """List the credentials of this machine, never their keys."""
    found = credentials.listed()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    elif not found:
        click.echo("no credentials; launcher credential set NAME adds one")
    else:
        rows = [_row(one) for one in found]
        click.echo(table(("name", "holds", "endpoint", "region", "set", ""), rows))


def _row(one: Listed) -> tuple[str, ...]:
    if one.problem:
        return one.name, "?", "", "", "", one.problem
    holds = "a key for a session" if one.session else "a key"
    if one.profile:
        holds = f"profile {one.profile}"
    own = "its own" if one.profile else ""
    when = f"{age(max(0.0, time.time() - one.made))} ago" if one.made else ""
    where, region = _DEFAULTS[one.store]
    return one.name, holds, one.endpoint or own or where, one.region or own or region, when, ""


#: Where stores are, and in which region, unless a credential says otherwise.
_DEFAULTS = {"s3": ("AWS", "us-east-1"), "gs": ("Google", ""), "az": ("Azure", "")}


@command.command("rm")
@_name
@options.as_json
def rm_command(name: str, as_json: bool) -> None:
    """Delete a credential. Runs and data sets that name it can no longer use their store."""
    used = credentials.users(name)
    credentials.forget(name)
    if as_json:
        click.echo(json.dumps({"name": name, "data": used}, indent=2))
        return
    click.echo(f"{name} is deleted", err=True)
    if used:
        click.echo(f"data sets that name it: {', '.join(used)}", err=True)
