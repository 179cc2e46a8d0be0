"""What the screen of a run prints for an event. Pure.

Events that are missing here print nothing, or need the screen's own state: see ``run_view``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import singledispatch

from ...records import events as ev
from ...records import stalls
from ...records.reasons import EndReason, PassedOver, ShareTrouble, StopReason
from ...records.stored import Alone
from ...spec import nodeset
from ...spec.containers import SHORT
from ...spec.frozen import frozen
from ...spec.gpus import fold
from ...spec.sizes import size
from .folding import groups
from .log_lines import harmless
from .preload import why_anew, why_cold, why_not_kept
from .progress import moved
from .tables import age, counted, duration
from .waits import FEW, first_few, left_to, waits_text, who_starts

#: Lines about many hosts, at once.
LINES = 8


@frozen
class Line:
    """A line of launcher's own."""

    text: str
    colour: str | None = None
    dim: bool = False


@singledispatch
def line_of(event: ev.Event) -> Line | None:
    """Return the line for an event; None for an event that prints nothing."""
    return None


@line_of.register
def _host_connected(event: ev.HostConnected) -> Line | None:
    if not event.strays:
        return None
    strays = counted(event.strays, "process")
    return Line(f"{event.host}: cleaned up {strays} left by earlier runs", "yellow")


@line_of.register
def _old_run_ended(event: ev.OldRunEnded) -> Line:
    return Line(f"{event.host}: cleaned up leftovers of {event.run}", "yellow")


@line_of.register
def _hosts_silent(event: ev.HostsSilent) -> Line:
    names, verb = nodeset.fold(event.hosts), "does" if len(event.hosts) == 1 else "do"
    return Line(f"{names} {verb} not answer: continuing without", "yellow")


@line_of.register
def _packages_differed(event: ev.PackagesDiffered) -> Line:
    named = [
        f"{name} "
        + ", ".join(
            f"{version or 'none'} on {nodeset.fold(on)}" for version, on in versions.items()
        )
        for name, versions in event.packages.items()
    ]
    if event.more:
        named.append(f"{counted(event.more, 'more package')} in packages.json")
    return Line(f"hosts differ: {'; '.join(named)}", "yellow")


@line_of.register
def _environment_building(event: ev.EnvironmentBuilding) -> Line:
    said = f": {event.host}: {event.said}" if event.said else ""
    if event.done:
        said += f", {moved(event.done, event.total, event.seconds)}"
    return Line(f"building the environment on {nodeset.fold(event.hosts)}{said}", dim=True)


@line_of.register
def _environment_built(event: ev.EnvironmentBuilt) -> Line:
    on = counted(event.built, "host")
    others = (
        f"; {counted(event.hosts - event.built, 'host')} had it"
        if event.hosts > event.built
        else ""
    )
    return Line(f"built the environment on {on} in {event.seconds:.0f} s{others}", dim=True)


@line_of.register
def _wheels_fetched(event: ev.WheelsFetched) -> Line:
    what = f"{counted(event.wheels, 'wheel')}, {size(event.bytes)}"
    if not event.fetched:
        return Line(f"{what}: this machine had them", dim=True)
    some = f"; {size(event.fetched)} of it" if event.fetched < event.bytes // 2 else ""
    return Line(f"fetched {what}{some} in {event.seconds:.0f} s", dim=True)


@line_of.register
def _wheels_given(event: ev.WheelsGiven) -> Line:
    to = counted(len(event.hosts), "host")
    what = f"{counted(event.wheels, 'wheel')}, {size(event.bytes)}"
    return Line(f"gave {what}, to {to} in {event.seconds:.0f} s", dim=True)


@line_of.register
def _image_bringing(event: ev.ImageBringing) -> Line:
    said = f": {event.host}: {event.said}" if event.said else ""
    if event.done:
        said += f", {moved(event.done, event.total, event.seconds)}"
    return Line(f"preparing the image on {nodeset.fold(event.hosts)}{said}", dim=True)


@line_of.register
def _image_context(event: ev.ImageContext) -> Line:
    what = large_code(event.bytes, event.files, event.largest, "the build context")
    first = event.largest[0][0] if event.largest else "data/"
    to = f", sent to {event.host}" if event.host else ""
    return Line(f"{what}{to}; to leave one out: echo '{first}' >> .dockerignore", "yellow")


@line_of.register
def _secrets_in_image(event: ev.SecretsInImage) -> Line:
    names = first_few(event.paths)
    out = "list what should stay out in .dockerignore"
    return Line(f"COPY may take {names} into the image; {out}", dim=True)


@line_of.register
def _image_building(event: ev.ImageBuilding) -> Line | None:
    return None  # a screen that moves shows it


@line_of.register
def _image_built(event: ev.ImageBuilt) -> Line:
    name = f"{event.image} ({event.id[:SHORT]})"
    return Line(f"built {name} on {event.on} by {event.runtime} in {event.seconds:.0f} s", dim=True)


@line_of.register
def _image_unchanged(event: ev.ImageUnchanged) -> Line:
    name = f"{event.image} ({event.id[:SHORT]})"
    if event.moved:
        what = f"{name} was built on another {first_few(event.moved)} than there is now"
        command = f"launcher image build --pull {shlex.quote(event.image)}"
        return Line(f"{what}; {command} builds it anew", "yellow")
    since = age(max(0.0, event.time - event.built))
    return Line(f"{name} was built {since} ago, and nothing has changed since", dim=True)


@line_of.register
def _image_not_built(event: ev.ImageNotBuilt) -> Line | None:
    if not event.lines:
        return None
    lines = "\n".join(f"  {harmless(one.encode()).decode()}" for one in event.lines)
    return Line(f"the last lines of the build on {event.on}:\n{lines}")


@line_of.register
def _image_given(event: ev.ImageGiven) -> Line:
    by: dict[str, list[str]] = {}
    for host, runtime in event.runtimes.items():
        by.setdefault(runtime, []).append(host)
    runtimes = ", ".join(
        runtime if len(by) == 1 else f"{runtime} on {nodeset.fold(hosts)}"
        for runtime, hosts in by.items()
    )
    ids = ", ".join(f"{its[:SHORT]} for {kind}" for kind, its in event.ids.items())
    name = f"image {event.image}" + (f" ({ids or event.id[:SHORT]})" if event.id else "")
    name += f" of {', '.join(event.roles)}" if event.roles else ""
    brought = f", brought to {counted(len(event.brought), 'host')} in {event.seconds:.0f} s"
    return Line(f"{name} by {runtimes}{brought if event.brought else ''}", dim=True)


@line_of.register
def _gpus_passed_over(event: ev.GpusPassedOver) -> Line:
    verb = "is" if len(event.gpus) == 1 else "are"
    gpus = f"{event.host}: GPU {fold(event.gpus)} {verb}"
    if event.total:  # the size of the run depends on them
        outside = "" if event.reason == PassedOver.HELD else " outside launcher"
        share = f"{event.taken} of {event.total} GPUs on {event.host}"
        used = f"GPU {fold(event.gpus)} {verb} used{outside} by {event.by}"
        return Line(f"{share}: {used}", "yellow")
    if event.reason == PassedOver.ENVIRONMENT:
        return Line(f"{gpus} left out by {event.by}", "yellow")
    taken = "taken all the same" if event.reason == PassedOver.SHARED else "left alone"
    return Line(f"{gpus} used outside launcher by {event.by}: {taken}", "yellow")


@line_of.register
def _run_waits(event: ev.RunWaits) -> Line:
    return Line(f"waiting for GPUs: {waits_text(event)}", "yellow")


@line_of.register
def _taken_back(event: ev.TakenBack) -> Line:
    who = f"{event.user} ({event.run})"
    return Line(f"{event.host}: gives GPUs back to {who}, project {event.project}", "yellow")


@line_of.register
def _waits_on_host(event: ev.WaitsOnHost) -> Line:
    return Line(f"waits on {event.host}, which starts it when its turn has come", "yellow")


@line_of.register
def _waits_on_hosts(event: ev.WaitsOnHosts) -> Line:
    where = left_to(event.hosts, event.wanted, event.most)
    who = who_starts(event.hosts, event.wanted, event.most)
    return Line(f"waits on {where}{who} when its turn has come", "yellow")


@line_of.register
def _begun_there(event: ev.BegunThere) -> Line | None:
    if event.hosts and event.host != event.hosts[0]:
        return None  # the first of them speaks for all
    where = f"{event.host} GPU {fold(event.gpus)}"
    if len(event.hosts) > 1:
        where = nodeset.fold(event.hosts)
    return Line(f"its turn after {duration(event.seconds)}: {where}", "green")


@line_of.register
def _hosts_let_go(event: ev.HostsLetGo) -> Line | None:
    if not event.silent:
        return None
    silent = nodeset.fold(event.silent)
    text = f"began without {silent}, which did not answer: the next contact cleans up there"
    return Line(text, "yellow")


@line_of.register
def _turn_came(event: ev.TurnCame) -> Line:
    return Line(f"its turn after {duration(event.seconds)}", "green")


#: What many hosts may have to tell alike, at about the same time.
_Alike = ev.GpusPassedOver | ev.ImportedAnew | ev.KeptWarm | ev.StartedCold
OfManyHosts = _Alike | ev.StoredAlone


def lines_of_many(events: Sequence[OfManyHosts]) -> list[Line]:
    """Return the lines about events of many hosts; hosts with the same to tell share one."""
    stored = {event.host: event for event in events if isinstance(event, ev.StoredAlone)}
    others = [event for event in events if not isinstance(event, ev.StoredAlone)]
    return stored_alone(stored) + _lines_of_alike(others)


def _lines_of_alike(events: Sequence[_Alike]) -> list[Line]:
    hosts: dict[_Alike, list[str]] = {}
    for event in events:
        hosts.setdefault(replace(event, host="", time=0.0), []).append(event.host)
    alike = [(replace(one, host=nodeset.fold(names)), names) for one, names in hosts.items()]
    lines = [line for event, _ in alike[:LINES] if (line := line_of(event))]
    left = alike[LINES:]
    if rest := [
        name for one, names in left for name in names if isinstance(one, ev.GpusPassedOver)
    ]:
        lines.append(
            Line(f"GPUs of {nodeset.fold(rest)} are used as well: launcher gpus", "yellow")
        )
    if rest := [
        name for one, names in left for name in names if not isinstance(one, ev.GpusPassedOver)
    ]:
        lines.append(Line(f"{nodeset.fold(rest)} import as well: launcher show", "yellow"))
    return lines


@line_of.register
def _hosts_met(event: ev.HostsMet) -> Line:
    return Line(f"master {event.master_addr} port {event.master_port}", dim=True)


@line_of.register
def _port_replaced(event: ev.PortReplaced) -> Line:
    return Line(f"port {event.port} on {event.host} was taken; trying another", dim=True)


@line_of.register
def _script_log_written(event: ev.ScriptLogWritten) -> Line:
    if event.problem:
        return Line(
            f"the script's log could not be written to {event.path}: {event.problem}; "
            "launcher logs shows it",
            "yellow",
        )
    return Line(f"the script's log is in {event.path} as well", dim=True)


@line_of.register
def _outputs_given(event: ev.OutputsGiven) -> Line:
    files, hosts = counted(event.files, "file"), counted(event.hosts, "host")
    if not event.run:
        return Line(
            f"copied {files} of outputs here, which the command names, to {hosts}", dim=True
        )
    return Line(f"continuing from {event.run}: {files} of its outputs are on {hosts}", dim=True)


@line_of.register
def _gpu_taken(event: ev.GpuTaken) -> Line:
    return Line(f"{event.host}: {event.message}: looking for other GPUs", "yellow")


@line_of.register
def _run_restarted(event: ev.RunRestarted) -> Line | None:
    if event.reason == EndReason.GPU_BUSY:
        return None  # it has just been told
    if event.reason == StopReason.PREEMPTED:
        return Line("waits again for GPUs, to continue where it was", "yellow")
    # No "1 of 3": attempts after a taken port do not count as restarts.
    why = "the port was taken" if event.reason == EndReason.PORT_TAKEN else event.reason
    return Line(f"restarting after {why}: attempt {event.attempt}", "yellow")


@line_of.register
def _waits_again(event: ev.WaitsAgain) -> Line | None:
    if event.host != event.hosts[0]:
        return None  # the one that leads speaks for all
    where = nodeset.fold(event.hosts)
    return Line(f"waits again on {where} for GPUs, to continue where it was", "yellow")


@line_of.register
def _process_exited(event: ev.ProcessExited) -> Line | None:
    if not event.tolerated:
        return None
    who = process_name(event)
    return Line(f"{who} {failure_of(event).meaning}; torchrun continues if it can", "yellow")


@line_of.register
def _orphans_found(event: ev.OrphansFound) -> Line:
    orphans = counted(len(event.processes), "process")
    return Line(f"{event.host}: {orphans} outlived the ranks; stopping them")


@line_of.register
def _connection_dropped(event: ev.ConnectionDropped) -> Line:
    return Line(f"{event.host}: {event.message}; the run continues there", "yellow")


@line_of.register
def _connection_resumed(event: ev.ConnectionResumed) -> Line:
    return Line(f"{event.host}: back after {duration(event.seconds)}", "green")


@line_of.register
def _logs_waiting(event: ev.LogsWaiting) -> Line:
    return Line(f"{event.message}: logs wait on {event.host}; the run continues", "yellow")


@line_of.register
def _logs_resumed(event: ev.LogsResumed) -> Line:
    return Line(f"there is room again: logs of {event.host} continue", "green")


@line_of.register
def _node_lost(event: ev.NodeLost) -> Line:
    return Line(f"{event.host}: lost ({event.reason})", "red")


@line_of.register
def _node_replaced(event: ev.NodeReplaced) -> Line:
    return Line(f"{event.by} replaces {event.host} ({event.reason})", "yellow")


@line_of.register
def _nodes_reduced(event: ev.NodesReduced) -> Line:
    left = f"{counted(event.num_nodes, 'host')}, {counted(event.world_size, 'rank')}"
    return Line(f"no spare for {event.host} ({event.reason}): continuing with {left}", "yellow")


@line_of.register
def _orphan_timeout_expired(event: ev.OrphanTimeoutExpired) -> Line:
    silent = duration(event.silent)
    return Line(f"{event.host}: stopped on its own after {silent} without a launcher", "red")


@line_of.register
def _traceback_seen(event: ev.TracebackSeen) -> Line:
    line = harmless(event.line.encode()).decode()
    return Line(
        f"{process_name(event)} has not ended, but its last lines are a traceback: {line}", "yellow"
    )


@line_of.register
def _stacks_taken(event: ev.StacksTaken) -> Line | None:
    if not event.over:
        return None
    (key, code), *more = event.over.items()
    alike = f"; {counted(len(more), 'more process')} there, too" if more else ""
    return Line(stalls.over(event.host, key, code) + alike, "yellow")


@line_of.register
def _stall_ended(event: ev.StallEnded) -> Line:
    return Line(f"{event.host}: progress again after {duration(event.seconds)}", "green")


@line_of.register
def _data_not_passed(event: ev.DataNotPassed) -> Line:
    names, verb = nodeset.fold(event.hosts), "reaches" if len(event.hosts) == 1 else "reach"
    return Line(
        f"{names} {verb} no other host: data set {event.name} comes from its source to each",
        "yellow",
    )


@line_of.register
def _data_taken(event: ev.DataTaken) -> Line:
    if event.why:
        text = (
            f"data set {event.name} comes from its source, and not from {event.user}'s copy there"
        )
        return Line(f"{event.host}: {text}: {event.why}", "yellow")
    text = f"{event.host}: data set {event.name} is copied from {event.user}'s there"
    return Line(f"{text}: {size(event.bytes)}", dim=True)


@line_of.register
def _checkpoint_kept(event: ev.CheckpointKept) -> Line:
    what = f"{counted(event.files, 'file')}, {size(event.bytes)}"
    return Line(f"kept checkpoint {event.number} {event.where}: {what}", dim=True)


@line_of.register
def _checkpoint_missed(event: ev.CheckpointMissed) -> Line:
    return Line(f"no checkpoint was kept: {event.why}", "yellow")


@line_of.register
def _code_unreadable(event: ev.CodeUnreadable) -> Line:
    return Line(f"not copied, because you may not read it: {first_few(event.paths)}", "yellow")


@line_of.register
def _words_not_copied(event: ev.WordsNotCopied) -> Line:
    parts = []
    if event.paths:
        ways = " ".join(f"--include {shlex.quote(path)}" for path in event.paths[:FEW])
        parts.append(
            f"{first_few(event.paths)} {_is(event.paths)} here, but ignored and not copied: {ways}"
        )
    if event.outside:
        where = "outside the workdir and not copied: --data NAME=FOLDER, or launcher push"
        parts.append(f"{first_few(event.outside)} {_is(event.outside)} {where}")
    return Line("; ".join(parts), "yellow")


@line_of.register
def _nobody_met(event: ev.NobodyMet) -> Line:
    return Line(f"{event.host}: no rank was ever connected to another: each worked alone", "yellow")


@line_of.register
def _stored_alone(event: ev.StoredAlone) -> Line:
    return stored_alone({event.host: event})[0]


def stored_alone(told: Mapping[str, Alone | ev.StoredAlone]) -> list[Line]:
    """Return what hosts stored with nobody in touch: one line, and one for each problem."""
    lines = []
    for alike in groups(list(told.items()), [one.problem for one in told.values()]):
        hosts, each = nodeset.fold(host for host, _ in alike), [one for _, one in alike]
        if each[0].problem:
            why = harmless(each[0].problem.encode()).decode()
            lines.append(Line(f"{hosts} could store nothing with nobody in touch: {why}", "yellow"))
            continue
        files, missing = sum(one.files for one in each), sum(one.missing for one in each)
        text = f"{hosts} stored {counted(files, 'file')}, {size(sum(one.bytes for one in each))}"
        more, colour = (f", and {missing} not", "yellow") if missing else ("", None)
        lines.append(Line(f"{text} with nobody in touch{more}", colour))
    return lines


@line_of.register
def _share_troubled(event: ev.ShareTroubled) -> Line:
    path = event.path.removeprefix("code/")
    if event.code is ShareTrouble.CONFLICT:
        text = f"{path}: several hosts wrote it at once; all now have {event.other}'s version"
    elif event.code is ShareTrouble.NO_ROOM:
        text = f"{event.host}: no room for {path} from {event.other}; trying again"
    else:
        text = f"{event.host}: cannot write {path} from {event.other}: {event.detail}"
    return Line(text, "yellow")


@line_of.register
def _preloaded(event: ev.Preloaded) -> Line | None:
    if event.problem is None:
        return None
    why = harmless(why_cold(event.problem, event.detail).encode()).decode()
    return Line(f"{event.host}: not preloaded: {why}", "yellow")


@line_of.register
def _imported_anew(event: ev.ImportedAnew) -> Line:
    why = harmless(why_anew(event.why, event.detail).encode()).decode()
    return Line(f"{event.host}: imports anew: {why}", "yellow")


@line_of.register
def _kept_warm(event: ev.KeptWarm) -> Line | None:
    if event.kept:
        return None  # the receipt says so
    why = harmless(why_not_kept(event.why, event.detail).encode()).decode()
    return Line(f"{event.host}: what was imported does not stay: {why}", "yellow")


@line_of.register
def _started_cold(event: ev.StartedCold) -> Line:
    why = harmless(why_cold(event.why, event.detail).encode()).decode()
    return Line(f"{event.host}: ranks import for themselves: {why}", "yellow")


@line_of.register
def _secrets_copied(event: ev.SecretsCopied) -> Line:
    parts = []
    if event.paths:
        parts.append(f"copied to every host with the code: {first_few(event.paths)}")
    if event.kept:
        parts.append(f"kept in code.diff here: {first_few(event.kept)}")
    out = "; list what should stay here in .launcherignore" if event.paths else ""
    return Line("; ".join(parts) + out, dim=True)


@line_of.register
def _notification_failed(event: ev.NotificationFailed) -> Line:
    return Line(f"could not notify ({event.to}): {event.problem}", "yellow")


@line_of.register
def _code_is_large(event: ev.CodeIsLarge) -> Line:
    what = large_code(event.bytes, event.files, event.largest)
    first = event.largest[0][0] if event.largest else "data/"
    return Line(f"{what}; to leave one out: echo '/{first}' >> .launcherignore", "yellow")


@line_of.register
def _record_passed_over(event: ev.RecordPassedOver) -> Line:
    return Line(
        f"{event.host or 'this machine'}: ignored a damaged record: {event.problem}", "yellow"
    )


# -- parts of lines


def process_name(event: ev.ProcessExited | ev.TracebackSeen) -> str:
    """Return ``gpu1 [3]`` for a rank, and ``gpu1`` for a process that has none."""
    return event.host if event.rank is None else f"{event.host} [{event.rank}]"


def failure_of(event: ev.ProcessExited) -> ev.Failure:
    """Return an exit as a failure, which knows how to describe it."""
    return ev.Failure(
        event.host, event.key, event.rank, event.code, event.oom, event.time, limit=event.limit
    )


def large_code(
    total: int, files: int, largest: Sequence[tuple[str, int]], what: str = "code"
) -> str:
    """Return how large the code is, and what in it."""
    parts = ", ".join(f"{entry} {size(count)}" for entry, count in largest)
    return f"{what} is {size(total)} in {counted(files, 'file')}; largest: {parts}"


def _is(paths: tuple[str, ...]) -> str:
    return "is" if len(paths) == 1 else "are"
