"""Format a receipt: first what to read first, then the proof."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import click

from ...records.events import signal_name
from ...records.postmortem import LastLine, OtherEnd
from ...records.reasons import SETUP, EndReason, Reason
from ...records.receipt import FirstFailure, HostReceipt, Receipt, StoredOutputs
from ...spec import nodeset
from ...spec.gpus import fold
from ...spec.process_key import ProcessKey, ProcessKind
from ...spec.sizes import size
from .event_lines import stored_alone
from .folding import FEW, groups
from .hints import labelled
from .log_lines import harmless
from .metrics import gpu_lines
from .not_brought import not_brought_lines
from .reasons import sentence
from .tables import counted, cut, due, duration, fold_tasks, table, wrapped

_COLOUR = {"succeeded": "green", "failed": "red", "stopped": "yellow", "lost": "red"}
#: At most this many rows of hosts.
LISTED = 16
#: Characters of a set of hosts, and of one of ranks, however narrow the terminal is.
CELL = 12
#: Lines about how other processes ended, and hosts named one by one in them.
ALSO_LINES, ALSO_HOSTS = 3, 3
#: Lines for the last line of a failing process, however long it is.
LAST_LINE = 6
#: Lines about limits of processes.
LIMIT_LINES = 6


def receipt_text(receipt: Receipt, width: int) -> str:
    """Return the receipt as text for a terminal of this width."""
    parts = [_headline(receipt), *_first(receipt, width)]
    if any(map(_was_used, receipt.hosts)):
        parts.append(_hosts(receipt, width))
    return "\n".join([*parts, *_facts(receipt, width)])


def _was_used(host: HostReceipt) -> bool:
    """Return whether there is anything to tell about a host: a run that did not fit used none."""
    return bool(host.ranks or host.tasks or host.exit_codes or host.problem or host.left != 0)


def _headline(receipt: Receipt) -> str:
    colour = _COLOUR.get(receipt.status)
    reason = "" if receipt.reason == EndReason.ALL_EXITED_0 else f" ({receipt.reason})"
    status = click.style(f"{receipt.status}{reason}", fg=colour, bold=True)
    return f"\n{status}  {receipt.run}  {duration(receipt.seconds)}"


def _first(receipt: Receipt, width: int) -> list[str]:
    """Return what to read first: the first failure and its last lines, or our own error."""
    lines = []
    failure = receipt.failure
    if failure:
        rank = f" rank {failure.rank}" if _is_rank(failure.key) else f" {failure.key}"
        lines.append(f"first failure: {failure.host}{rank} {failure.meaning}")
        lines += _quoted(_last_lines(failure), width)
        if failure.cause:
            lines += labelled("  likely: ", _harmless(failure.cause), width)
            lines += labelled("  hint: ", _harmless(failure.hint), width)
        lines += _also(receipt.others, width) + _last_words(receipt.others_said, width)
    if receipt.error and not (failure and Reason.parse(receipt.reason).code in SETUP):
        lines.append(click.style("error: ", fg="red", bold=True) + receipt.error)
        if receipt.hint:
            lines += labelled("  hint: ", receipt.hint, width)
    elif not failure:
        why = sentence(receipt.reason, receipt.reason_host, receipt.reason_detail)
        lines += [_harmless(why)] if why else []
    if receipt.tracebacks and not failure:
        lines.append("exited with 0, but the last lines are a traceback:")
        lines += _last_words(receipt.tracebacks, width)
    if receipt.tasks_failed and not failure:
        tasks = "; ".join(map(_harmless, receipt.tasks_failed))
        lines += labelled("the script exited with 0, but srun said: ", tasks, width)
    if receipt.hint and not failure and not receipt.error:
        lines += labelled("hint: ", receipt.hint, width)
    return lines


def _last_lines(failure: FirstFailure) -> list[str]:
    """Return the last lines of a failed process, after its error message if they lack it."""
    message = failure.error.partition("\n")[0].strip()
    if not message or any(message in line for line in failure.last_lines):
        return list(failure.last_lines)
    return [message, *failure.last_lines]


def _quoted(log: list[str], width: int) -> list[str]:
    """Quote lines of a log, cut to the width; the last one, which names the error, is wrapped."""
    room = max(20, width - 4)
    lines = [cut(_harmless(line), room) for line in log[:-1]]
    for line in log[-1:]:
        text = _harmless(line)
        lines += [text[start : start + room] for start in range(0, len(text), room)][:LAST_LINE]
    return [click.style("  │ ", fg="red") + line for line in lines]


def _harmless(text: str) -> str:
    return harmless(text.encode()).decode()


def _also(others: tuple[OtherEnd, ...], width: int) -> list[str]:
    """Return how the other processes ended, folded."""
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
    return [cut(line, width) for line in lines]


def _last_words(said: tuple[LastLine, ...], width: int) -> list[str]:
    """Return the last lines of other processes, each after the names of those that wrote it."""
    shown = said if len(said) <= ALSO_LINES else said[: ALSO_LINES - 1]
    lines = []
    for one in shown:
        ranks = [f"[{nodeset.fold_ranks(one.ranks)}]"] if one.ranks else []
        who = ", ".join([*ranks, *one.places[:ALSO_HOSTS]])
        who += ", ..." if len(one.places) > ALSO_HOSTS else ""
        line = cut(f"{who} {_harmless(one.line)}", max(20, width - 2))
        lines.append("  " + click.style(line[: len(who)], dim=True) + line[len(who) :])
    return lines if len(said) == len(shown) else [*lines, "  and more"]


def _which(group: list[OtherEnd]) -> str:
    ranks = [rank for other in group for rank in other.ranks]
    keys = [key for other in group for key in other.keys]
    folded = [fold_tasks(keys)] if keys else []
    return " ".join(([f"[{nodeset.fold_ranks(sorted(ranks))}]"] if ranks else []) + folded)


def _ended(other: OtherEnd) -> str:
    if other.code is None:
        return "end unknown"
    how = signal_name(-other.code) if other.code < 0 else f"exited with {other.code}"
    return f"{how} (stopped by us)" if other.stopped else how


def _hosts(receipt: Receipt, width: int) -> str:
    """Return a table of hosts. Of many, those with equal rows are one, and the odd ones come first."""
    hosts = receipt.hosts
    folded = [[host] for host in hosts]
    if len(hosts) > FEW:
        failed = receipt.failure.host if receipt.failure else ""
        folded = groups(hosts, [_alike(host) for host in hosts])
        folded.sort(key=lambda group: failed not in [host.host for host in group])
    has_roles = any(host.tasks for host in hosts)
    head = ("host", "roles" if has_roles else "ranks", "gpus", "exit", "logs", "processes left")
    rows = [_row(group) for group in folded[:LISTED]]
    text = table(head, _fitted(head, rows, width - 2), "  ")
    rest = [host for group in folded[LISTED:] for host in group]
    if not rest:
        return text
    fine = not any(_has_problem(host) for host in rest)
    state = (
        ", each complete and with 0 processes left" if fine else ": launcher show --json has all"
    )
    return text + f"\n  and {len(rest)} more{state}"


def _fitted(
    head: tuple[str, ...], rows: list[tuple[str, ...]], width: int
) -> list[tuple[str, ...]]:
    """Return rows in which the sets of hosts and of ranks are cut as far as the width demands."""
    hosts, ranks, *others = (max(map(len, column)) for column in zip(head, *rows, strict=True))
    room = width - sum(others) - 2 * (len(head) - 1)
    if hosts + ranks > room:
        half = max(CELL, room // 2)
        hosts, ranks = max(half, room - ranks), max(half, room - hosts)
    return [(cut(row[0], hosts), cut(row[1], ranks), *row[2:]) for row in rows]


def _alike(host: HostReceipt) -> tuple[str, ...]:
    """Return what hosts have to have in common to share a row."""
    logs = "complete" if host.logs_complete and host.logs_there is not None else _logs(host)
    return (_gpus(host), _exits(host), logs, _left(host))


def _row(group: list[HostReceipt]) -> tuple[str, ...]:
    tasks = fold_tasks(key for host in group for key in host.tasks)
    ranks = sorted(rank for host in group for rank in host.ranks)
    first = group[0]
    size_of_all = size(sum(host.logs_here for host in group))
    return (
        nodeset.fold(host.host for host in group),
        tasks or (nodeset.fold_ranks(ranks) if ranks else "-"),
        _gpus(first),
        _exits(first),
        f"{size_of_all} complete" if _alike(first)[2] == "complete" else _logs(first),
        _left(first),
    )


def _is_rank(key: str) -> bool:
    return ProcessKey.kind_of(key) is ProcessKind.RANK


def _has_problem(host: HostReceipt) -> bool:
    failed = any(code != 0 for code in host.exit_codes.values())
    return bool(host.problem or host.expiry or host.left != 0 or not host.logs_complete or failed)


def _gpus(host: HostReceipt) -> str:
    if not host.gpus:
        return "-"
    allotted = fold(host.gpus)
    if host.gpus_used is None:
        return allotted
    return f"{allotted} (used {fold(host.gpus_used)})"


def _exits(host: HostReceipt) -> str:
    if host.problem:
        return host.problem
    codes = {key: code for key, code in host.exit_codes.items() if _is_rank(key)}
    different = set((codes or host.exit_codes).values())
    if not different:
        return "not started"
    return ", ".join(sorted(_exit(code) for code in different))


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
    return str(host.left) + (f" ({host.orphans} stopped)" if host.orphans else "")


def _checked(receipt: Receipt) -> list[str]:
    """Return what was found left running, and on which hosts that is unknown."""
    looked = [host for host in receipt.hosts if host.scanned]
    lines = []
    if looked:
        left = sum(host.left or 0 for host in looked)
        found = f"{counted(left, 'process')} left running" if left else "nothing left running"
        seen = counted(sum(host.scanned for host in looked), "process")
        lines.append(f"checked  {found} ({seen} checked on {counted(len(looked), 'host')})")
    unknown = [host for host in receipt.hosts if host.left is None]
    for group in groups(unknown, [host.problem == EndReason.SUPERVISOR_SILENT for host in unknown]):
        silent = group[0].problem == EndReason.SUPERVISOR_SILENT
        text = (
            f"checked  {nodeset.fold(host.host for host in group)} "
            f"{'does not answer' if silent else 'unreachable'}: "
            "processes may still run there; the next contact cleans up"
        )
        lines.append(click.style(text, fg="yellow"))
    return lines


def _limits(receipt: Receipt, width: int) -> list[str]:
    """Return the limits of processes of roles, and how they are enforced."""
    by_limit: dict[str, list[str]] = {}
    for host in receipt.hosts:
        for key, how in host.limits.items():
            by_limit.setdefault(f"{how} on {host.host}", []).append(key)
    lines = [f"{fold_tasks(keys)}: {how}" for how, keys in by_limit.items()]
    if len(lines) > LIMIT_LINES:
        more = len(lines) - LIMIT_LINES + 1
        lines[LIMIT_LINES - 1 :] = [f"and {more} more (launcher show --json)"]
    labels = ["limits", *[""] * len(lines)]
    return [
        f"{label:8} {line}"[: max(20, width)] for label, line in zip(labels, lines, strict=False)
    ]


def _facts(receipt: Receipt, width: int) -> list[str]:
    stages = [f"{stage} {duration(took)}" for stage, took in receipt.stages.items()]
    lines = wrapped("time     ", stages, width)
    if receipt.hosts:
        lines += [*_limits(receipt, width), *_checked(receipt)]
    lines += gpu_lines(receipt.use, width)
    if receipt.alone and receipt.status == "succeeded":
        lines.append(click.style(_alone(receipt), fg="yellow"))
    if receipt.outputs:
        lines += _outputs(receipt)
    for host in receipt.hosts:
        lines += [click.style(text, fg="yellow") for text in _incidents(host)]
    failed = list(receipt.outputs_failed.items())
    for alike in groups(failed, [why for _, why in failed]):
        names = nodeset.fold(name for name, _ in alike)
        text = f"outputs  of {names} are not complete: {alike[0][1]}"
        lines.append(click.style(text, fg="yellow"))
    if receipt.unmatched and receipt.status == "succeeded":
        lines += [click.style(text, fg="yellow") for text in _unmatched(receipt, width)]
    lines += stored_lines(receipt.run, receipt.stored)
    lines += _warm(receipt, width)
    left = not_brought_lines(receipt.run, receipt.not_brought, width)
    lines += [click.style(text, fg="yellow") for text in left]
    return [*lines, f"record   {receipt.folder}"]


def _warm(receipt: Receipt, width: int) -> list[str]:
    """Return what stays on hosts for the next run, until when, and how to end it."""
    if (warm := receipt.warm) is None:
        return []
    import textwrap  # few runs leave anything

    modules = _harmless(", ".join(warm.modules))
    until = due(warm.until, receipt.started + receipt.seconds)
    where = f"on {nodeset.fold(warm.hosts)} until {until}"
    text = f"{modules} stays {where}, for the next run; launcher warm --end ends it"
    lines = textwrap.wrap(text, max(20, width - 9), break_on_hyphens=False)
    return [
        f"{label:8} {line}"
        for label, line in zip(["warm", *[""] * len(lines)], lines, strict=False)
    ]


#: By framework: what makes its ranks meet.
_MEETING = {
    "lightning": "Trainer(num_nodes=...) has to be that of the run: '{{num_nodes}}'",
    "accelerate": "Accelerator() in the script makes them meet",
    "deepspeed": "deepspeed.init_distributed() in the script makes them meet",
    "jax": "jax.distributed.initialize() in the script makes them meet",
    "tensorflow": "MultiWorkerMirroredStrategy() in the script makes them meet",
}


def _alone(receipt: Receipt) -> str:
    usual = "torch.distributed.init_process_group() makes them meet"
    step = _MEETING.get(receipt.framework, usual)
    return f"ranks    each of {receipt.world_size} worked alone, none met another: {step}"


def _unmatched(receipt: Receipt, width: int) -> list[str]:
    names = [
        *(f"{_harmless(path)}," for path in receipt.unmatched[:-1]),
        _harmless(receipt.unmatched[-1]),
    ]
    return wrapped("outputs  nothing was written that matches ", names, width)


def stored_lines(run: str, stored: StoredOutputs | None, step: str = "pull") -> list[str]:
    """Return how far outputs have come to their store; ``step`` is the command that does the rest."""
    if stored is None:
        return []
    files = f"{counted(stored.files, 'file')}, {size(stored.bytes)} in {stored.to}"
    alone = [
        click.style(f"         {one.text}", fg=one.colour) for one in stored_alone(stored.alone)
    ]
    if stored.whole:
        return [f"stored   {files}", *alone]
    lines = [f"stored   NOT all: {files}; launcher {step} {run} stores the rest"]
    by_reason: dict[str, list[str]] = {}
    for host, why in stored.missing.items():
        by_reason.setdefault(why, []).append(host)
    lines += [f"         {nodeset.fold(hosts)}: {why}" for why, hosts in by_reason.items()]
    return [*(click.style(line, fg="yellow") for line in lines), *alone]


def _outputs(receipt: Receipt) -> list[str]:
    count = counted(len(receipt.outputs), "file")
    total = size(sum(int(output["size"]) for output in receipt.outputs))
    lines = [f"outputs  {count}, {total} in {os.path.join(receipt.folder, 'outputs')}"]
    clashes = [
        output["path"]
        for output in receipt.outputs
        if any(f"@{host}" in output["path"] for host in output.get("hosts", ()))
    ]
    if clashes:
        lines.append(f"         same path, different content: {', '.join(clashes[:6])}")
    return lines


def _incidents(host: HostReceipt) -> Iterator[str]:
    """Yield what happened to a host during the run."""
    if host.expiry:
        when = time.strftime("%d %b %H:%M:%S", time.localtime(host.expiry.time))
        silent = duration(host.expiry.silent)
        yield f"orphaned {host.host} stopped on its own on {when}, after {silent} without a launcher"
    if host.departed is not None:
        then = f"{host.departed} replaced it" if host.departed else "the run continued without it"
        yield f"lost     {host.host} ({host.problem}): {then}"
    if host.unsaved:
        yield f"logs     of {host.host} are complete only there, not here: {host.unsaved}"
