"""The receipt as a screen: the one thing to read first, then the proof."""

from __future__ import annotations

import os
import time

import click

from ...records.events import signal_name
from ...records.postmortem import LastLine, OtherEnd
from ...records.reasons import SETUP, Reason
from ...records.receipt import HostReceipt, Receipt
from ...spec import nodeset
from ...spec.process_key import ProcessKey, ProcessKind
from .hints import labelled
from .log_lines import harmless
from .reasons import sentence
from .tables import counted, duration, fold_tasks, size, table, wrapped

_COLOUR = {"succeeded": "green", "failed": "red", "stopped": "yellow", "lost": "red"}
#: Hosts that are listed one by one; of more, those with something to tell.
LISTED = 16
#: Lines for the ends of the other processes, and hosts named one by one in them.
ALSO_LINES, ALSO_HOSTS = 3, 3
#: Lines for the last one that a failing process wrote, however long it is.
LAST_LINE = 6
#: Lines for what processes were held to.
LIMIT_LINES = 6


def receipt_text(receipt: Receipt, width: int) -> str:
    """All of it, for a terminal of that width."""
    parts = [_headline(receipt), *_first(receipt, width)]
    if receipt.hosts:
        parts.append(_hosts(receipt))
    return "\n".join([*parts, *_facts(receipt, width)])


def _headline(receipt: Receipt) -> str:
    colour = _COLOUR.get(receipt.status)
    status = click.style(f"{receipt.status} ({receipt.reason})", fg=colour, bold=True)
    return f"\n{status}  {receipt.run}  {duration(receipt.seconds)}"


def _first(receipt: Receipt, width: int) -> list[str]:
    """What to read first: the first failure with its last lines, or our own error with its hint."""
    lines = []
    failure = receipt.failure
    if failure:
        rank = f" rank {failure.rank}" if _is_rank(failure.key) else f" {failure.key}"
        lines.append(f"first failure: {failure.host}{rank} {failure.meaning}")
        said = failure.error.partition("\n")[0].strip()
        told = not said or any(said in line for line in failure.last_lines)
        lines += _quoted([*(() if told else (said,)), *failure.last_lines], width)
        if failure.cause:
            lines += labelled("  likely: ", _harmless(failure.cause), width)
            lines += labelled("  hint: ", _harmless(failure.hint), width)
        lines += _also(receipt.others, width) + _said(receipt.others_said, width)
    if receipt.error and not (failure and Reason.parse(receipt.reason).code in SETUP):
        lines.append(click.style("error: ", fg="red", bold=True) + receipt.error)
        if receipt.hint:
            lines += labelled("  hint: ", receipt.hint, width)
    elif not failure:
        why = sentence(receipt.reason, receipt.reason_host, receipt.reason_detail)
        lines += [_harmless(why)] if why else []
    if receipt.hint and not failure and not receipt.error:
        lines += labelled("hint: ", receipt.hint, width)
    return lines


def _quoted(said: list[str], width: int) -> list[str]:
    """Lines of a log: cut to the width, but for the last one, which says what is wrong."""
    room = max(20, width - 4)
    lines = [_cut(_harmless(line), room) for line in said[:-1]]
    for line in said[-1:]:
        text = _harmless(line)
        lines += [text[start : start + room] for start in range(0, len(text), room)][:LAST_LINE]
    return [click.style("  │ ", fg="red") + line for line in lines]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: max(20, width - 1)]}…"


def _harmless(text: str) -> str:
    return harmless(text.encode()).decode()


def _also(others: tuple[OtherEnd, ...], width: int) -> list[str]:
    """The ends of the other processes, folded by how they ended."""
    ends: dict[str, list[OtherEnd]] = {}
    for other in others:
        ends.setdefault(_ended(other), []).append(other)
    parts = []
    for how, group in ends.items():
        places = [f"{other.host} {_which([other])}" for other in group]
        if len(group) > ALSO_HOSTS:
            places = [f"{nodeset.fold(o.host for o in group)} {_which(group)}"]
        parts.append(f"{', '.join(places)} {how}")
    if not parts:
        return []
    commas = [*(f"{part}," for part in parts[:-1]), parts[-1]]
    lines = [line.replace(",  ", ", ") for line in wrapped("also: ", commas, width)]
    lines = lines if len(lines) <= ALSO_LINES else [*lines[: ALSO_LINES - 1], "      and more"]
    return [_cut(line, width) for line in lines]


def _said(said: tuple[LastLine, ...], width: int) -> list[str]:
    """The last lines of the others, each with who said so."""
    shown = said if len(said) <= ALSO_LINES else said[: ALSO_LINES - 1]
    lines = []
    for one in shown:
        ranks = [f"[{nodeset.fold_ranks(one.ranks)}]"] if one.ranks else []
        who = ", ".join([*ranks, *one.places[:ALSO_HOSTS]])
        who += ", ..." if len(one.places) > ALSO_HOSTS else ""
        line = _cut(f"{who} {_harmless(one.line)}", width - 2)
        lines.append("  " + click.style(line[: len(who)], dim=True) + line[len(who) :])
    return lines if len(said) == len(shown) else [*lines, "  and more"]


def _which(group: list[OtherEnd]) -> str:
    ranks = [rank for other in group for rank in other.ranks]
    keys = [key for other in group for key in other.keys]
    folded = [fold_tasks(keys)] if keys else []
    return " ".join(([f"[{nodeset.fold_ranks(sorted(ranks))}]"] if ranks else []) + folded)


def _ended(other: OtherEnd) -> str:
    if other.code is None:
        return "no end heard of"
    how = signal_name(-other.code) if other.code < 0 else f"exited with {other.code}"
    return f"{how} (stopped by us)" if other.stopped else how


def _hosts(receipt: Receipt) -> str:
    hosts = receipt.hosts
    if len(hosts) > LISTED:
        hosts = tuple(host for host in hosts if _tells(host))[:LISTED]
    rows = [
        (
            host.host,
            fold_tasks(host.tasks) or (nodeset.fold_ranks(host.ranks) if host.ranks else "-"),
            _gpus(host),
            _exits(host),
            _logs(host),
            _left(host),
        )
        for host in hosts
    ]
    text = table(
        (
            "host",
            "roles" if any(host.tasks for host in hosts) else "ranks",
            "gpus",
            "exit",
            "logs",
            "processes left",
        ),
        rows,
        "  ",
    )
    rest = len(receipt.hosts) - len(hosts)
    return text + (f"\n  and {rest} more, each complete and with 0 processes left" if rest else "")


def _is_rank(key: str) -> bool:
    return ProcessKey.kind_of(key) is ProcessKind.RANK


def _tells(host: HostReceipt) -> bool:
    failed = any(code != 0 for code in host.exit_codes.values())
    return bool(host.problem or host.expiry or host.left != 0 or not host.logs_complete or failed)


def _gpus(host: HostReceipt) -> str:
    if not host.gpus:
        return "-"
    allotted = nodeset.fold_ranks(host.gpus)
    if host.gpus_used is None:
        return allotted
    return f"{allotted} (used {nodeset.fold_ranks(host.gpus_used)})"


def _exits(host: HostReceipt) -> str:
    if host.problem:
        return host.problem
    codes = {key: code for key, code in host.exit_codes.items() if _is_rank(key)}
    told = set((codes or host.exit_codes).values())
    if not told:
        return "not started"
    return ", ".join(sorted(_exit(code) for code in told))


def _exit(code: int | None) -> str:
    if code is None:
        return "?"
    return str(code) if code >= 0 else signal_name(-code)


def _logs(host: HostReceipt) -> str:
    if host.logs_there is None:
        return "-" if host.logs_complete else f"{size(host.logs_here)}, rest unknown"
    if host.logs_complete:
        return f"{size(host.logs_here)} complete"
    return f"{host.logs_here} of {host.logs_there} bytes"


def _left(host: HostReceipt) -> str:
    if host.left is None:
        return "unknown"
    return str(host.left) + (f" ({host.orphans} ended)" if host.orphans else "")


def _checked(receipt: Receipt) -> list[str]:
    """How it is known that nothing is left."""
    looked = [host for host in receipt.hosts if host.scanned]
    lines = []
    if looked:
        seen = sum(host.scanned for host in looked)
        where = counted(len(looked), "host")
        lines.append(f"checked  all {counted(seen, 'process')} of {where} after the end, in /proc")
    for host in receipt.hosts:
        if host.left is None:
            lines.append(click.style(f"checked  {host.host}: {host.verified}", fg="yellow"))
    return lines


def _limits(receipt: Receipt, width: int) -> list[str]:
    """What processes of roles were held to, and how."""
    held: dict[str, list[str]] = {}
    for host in receipt.hosts:
        for key, how in host.limits.items():
            held.setdefault(f"{how} on {host.host}", []).append(key)
    told = [f"{fold_tasks(keys)}: {how}" for how, keys in held.items()]
    if len(told) > LIMIT_LINES:
        told = [
            *told[: LIMIT_LINES - 1],
            f"and {len(told) - LIMIT_LINES + 1} more (launcher show --json)",
        ]
    return [
        f"{'limits' if not n else '':8} {line}"[: max(20, width)] for n, line in enumerate(told)
    ]


def _facts(receipt: Receipt, width: int) -> list[str]:
    total = sum(int(output["size"]) for output in receipt.outputs)
    stages = [f"{stage} {duration(took)}" for stage, took in receipt.stages.items()]
    lines = wrapped("time     ", stages, width)
    if receipt.hosts:
        lines += [*_limits(receipt, width), *_checked(receipt)]
    if receipt.outputs:
        where = os.path.join(receipt.folder, "outputs")
        count = counted(len(receipt.outputs), "file")
        lines.append(f"outputs  {count}, {size(total)} in {where}")
        clashes = [
            o["path"] for o in receipt.outputs if any(f"@{h}" in o["path"] for h in o["hosts"])
        ]
        if clashes:
            lines.append(f"         same path, different content: {', '.join(clashes[:6])}")
    for part in receipt.hosts:
        if part.expiry:
            when = time.strftime("%d %b %H:%M:%S", time.localtime(part.expiry.time))
            silent = duration(part.expiry.silent)
            text = (
                f"orphaned {part.host} stopped by itself on {when}: nobody reached it for {silent}"
            )
            lines.append(click.style(text, fg="yellow"))
        if part.departed is not None:
            by = (
                f"{part.departed} took its place" if part.departed else "the run went on without it"
            )
            text = f"lost     {part.host} ({part.problem}): {by}"
            lines.append(click.style(text, fg="yellow"))
        if part.unsaved:
            text = f"logs     of {part.host} are not complete here, but there: {part.unsaved}"
            lines.append(click.style(text, fg="yellow"))
    for host, why in receipt.outputs_failed.items():
        lines.append(click.style(f"outputs  of {host} are not complete: {why}", fg="yellow"))
    lines.append(f"record   {receipt.folder}")
    return lines
