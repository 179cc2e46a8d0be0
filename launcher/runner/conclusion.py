"""Decides how a run ended, and writes its receipt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..fleet import cleanup
from ..jobs.environments import on_host
from ..records import events as ev
from ..records import missing_files, postmortem, receipt
from ..records.metrics import HostUse
from ..records.receipt import Receipt
from ..records.run_folder import USE
from ..spec import errors
from ..spec.environments import Environment
from ..spec.process_key import ProcessKey
from ..spec.typed_json import to_json
from .context import RunContext
from .files import local_paths
from .files.collector import Collector
from .host_session import HostSession
from .host_set import HostSet
from .policy import outcome
from .replacement import Replacement


class Conclusion:
    """What is left to say once everything has stopped and the outputs are here."""

    def __init__(
        self, context: RunContext, hosts: HostSet, collector: Collector, replacement: Replacement
    ) -> None:
        self._context, self._hosts = context, hosts
        self._collector, self._replacement = collector, replacement

    def write(self, error: Exception | None, use: Mapping[str, HostUse]) -> Receipt:
        """Write the receipt and return it."""
        context, event_log = self._context, self._context.event_log
        last_words = event_log.last_words()
        ended = outcome.decide(
            context.state,
            self._hosts.layout,
            elastic_from=context.job.elastic,
            asked=context.switch.reason,
            error=error,
            last_words=last_words,
            mending=self._replacement.is_mending,
        )
        ended = outcome.with_outputs(ended, context.state, self._collector.incomplete)
        reason = str(ended.reason)
        context.add(ev.RunEnded(time.time(), ended.status, reason, ended.host))
        final = Receipt(
            run=context.name,
            status=ended.status,
            reason=reason,
            reason_host=ended.host,
            reason_detail="" if ended.reason.detail in reason else ended.reason.detail,
            exit_code=ended.exit_code,
            started=context.started,
            seconds=round(receipt.ended_at(context.events, time.time()) - context.started, 3),
            stages=receipt.stage_seconds(context.events),
            world_size=self._hosts.layout.world_size,
            framework=context.job.framework,
            hosts=tuple(self._host_receipt(session) for session in self._hosts.touched),
            failure=self._failure(last_words),
            others=postmortem.other_ends(context.state),
            others_said=postmortem.last_lines(event_log.last_words_of_others()),
            tracebacks=postmortem.tracebacks(event_log.last_words_of_all()),
            tasks_failed=postmortem.tasks_failed(event_log.both_ends()),
            error=errors.in_words(error),
            hint=getattr(error, "hint", "") or receipt.HINTS.get(reason, ""),
            outputs=self._collector.outputs.rows,
            outputs_failed=self._collector.failed,
            outputs_complete=not self._collector.incomplete,
            not_brought=self._collector.not_brought,
            unmatched=self._collector.unmatched,
            alone=receipt.worked_alone(context.events, context.state.attempt),
            use=use,
            warm=receipt.stays_warm(context.events, context.job.preload),
            folder=str(context.folder.path),
        )
        if use:
            event_log.note(USE, to_json(use))
        event_log.note("receipt.json", final.to_record())
        unsure = [host.host for host in final.hosts if host.left is None]
        for event in context.events:
            unsure += event.silent if isinstance(event, ev.HostsLetGo) else ()
        with suppress(OSError):  # a full disk
            cleanup.remember(context.name, unsure)
        incomplete = event_log.record_error
        if incomplete and not error:
            return replace(final, error=str(incomplete), hint=incomplete.hint)
        return final

    def _failure(self, last_words: bytes) -> receipt.FirstFailure | None:
        """Return the first failure, which may be a file that other hosts or the workdir have."""
        context = self._context
        about = (context.state, last_words, context.job.framework)
        failure = receipt.first_failure(*about, self._environment())
        if failure is None:
            return None
        folder_of = partial(local_paths.folder_of_module, context.job.workdir)
        failure = missing_files.with_own_module(failure, context.name, folder_of)
        return missing_files.with_holders(failure, context.name, self._collector.holders)

    def _environment(self) -> Environment | None:
        """Return the environment of the process that failed first, if it has one."""
        failed, job = self._context.state.failure, self._context.job
        if failed is None:
            return None
        group = ProcessKey.group_of(failed.key)
        role = group if any(one.name == group for one in job.roles) else ""
        hosts = (node.host for node in self._hosts.layout.nodes)
        return next((on_host(job, one, role) for one in hosts if one.name == failed.host), None)

    def _host_receipt(self, session: HostSession) -> receipt.HostReceipt:
        return receipt.host_receipt(
            session.name,
            self._hosts.layout,
            self._context.state,
            self._context.events,
            session.log_bytes if session.is_supervised else None,
            problem=session.lost or self._replacement.problem(session),
            unsaved=session.unsaved,
        )
