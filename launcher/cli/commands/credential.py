"""``launcher credential``: credentials for object stores by name, on this machine alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace

import click

from ...api import credentials
from ...api.credentials import Credential, Listed
from ...spec.errors import InputError, suggestion
from ...spec.model import Secret
from .. import completion, options
from ..render.tables import age, table

#: Bytes of what may come on stdin.
LONGEST = 1 << 16
_name = click.argument("name", metavar="NAME", shell_complete=completion.credentials)


@click.group("credential")
def command() -> None:
    """Keep credentials for object stores by name, in files that you alone can read.

    A job names them: credential: in data: and outputs:, --output-credential. No host gets them.
    """


@command.command("set", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@_name
@click.option(
    "--from-env", is_flag=True, help="Take the variables of AWS's tools (AWS_*) in this shell."
)
@click.option(
    "--profile", metavar="NAME", help="Refer to this profile in ~/.aws, and look it up when used."
)
@click.option(
    "--stdin",
    is_flag=True,
    help="Read lines such as AWS_ACCESS_KEY_ID=..., as aws configure export-credentials --format env.",
)
@click.option("--endpoint", metavar="URL", help="Where the store is (default: AWS).")
@click.option("--region", metavar="NAME", help="Its region (default: us-east-1).")
@options.as_json
@click.pass_context
def set_command(
    ctx: click.Context,
    name: str,
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
    if profile is not None:
        if not profile:
            raise InputError("--profile: no name", "aws configure list-profiles shows them")
        one = Credential(profile=profile)
    elif from_env:
        one = credentials.from_environment()
    elif stdin:
        if sys.stdin.isatty():
            raise InputError(
                "--stdin at a terminal would show what you type", "leave it out, or use a pipe"
            )
        one = credentials.from_lines(sys.stdin.read(LONGEST))
    else:
        one, endpoint, region = _ask(endpoint, region)
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


def _ask(endpoint: str | None, region: str | None) -> tuple[Credential, str, str]:
    """Ask at the terminal. Raises InputError where there is none."""
    if not sys.stdin.isatty():
        raise InputError(
            "nobody sits at a terminal who could type a credential",
            "--from-env, --profile NAME, or --stdin",
        )
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
    return one.name, holds, one.endpoint or own or "AWS", one.region or own or "us-east-1", when, ""


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
