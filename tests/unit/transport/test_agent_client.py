"""What a host sends: taken with bounds, or an error of that host at once."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.base import protocol
from launcher.records import events as ev
from launcher.spec import errors
from launcher.spec.model import Host
from launcher.transport import agent_client
from launcher.transport.agent_client import Agent
from support import fuzz


class FakeProcess:
    """A relay that answers each request with the bytes that a test gives it."""

    def __init__(self, answers: list[bytes], again: float = 0.0) -> None:
        self.stdin = self.stdout = self.stderr = self
        self.exit_status = None
        self._answers, self._again = answers, again
        self._asked = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._asked.set()

    async def read(self, size: int) -> bytes:
        await self._asked.wait()
        if self._answers:
            return self._answers.pop(0)
        await asyncio.sleep(self._again or 3600)
        return b'{"working": 1}\n'

    def close(self) -> None:
        """Nothing to hang up."""


async def _asked(answers: list[bytes], op: str, again: float = 0.0) -> tuple[Any, list[Any]]:
    """Return what asking an agent raises or returns, and the faults that were reported."""
    faults: list[Any] = []
    agent = Agent(Host("far"), FakeProcess(answers, again))  # type: ignore[arg-type]
    agent.on_fault = faults.append
    agent._reader = asyncio.ensure_future(agent._read())
    try:
        async with asyncio.timeout(60):
            if op == "probe":
                return await agent.probe(), faults
            if op == "outputs":
                return await agent.outputs("calm-hare", ["."]), faults
            return await agent.ask(op), faults
    except errors.HostError as error:
        return error, faults
    finally:
        await agent.close()


class Flood:
    """A host that prints without end as soon as it is to take the agent."""

    def __init__(self) -> None:
        self.stdin = self.stdout = self.stderr = self
        self.exit_status = None
        self.printed = 0
        self.closed = False

    async def execute(self, command: str) -> Flood:
        return self

    def write(self, data: bytes) -> None:
        """Take nothing."""

    def write_eof(self) -> None:
        """Take nothing."""

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        if self.printed == 0:
            self.printed += 1
            return b"launcher-no-agent 0\n"
        self.printed += size
        return b"x" * size if self.printed < 1 << 30 else b""

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        """It is over."""


def test_a_host_that_prints_without_end_is_given_up_while_it_takes_the_agent() -> None:
    flood = Flood()

    async def install() -> None:
        await Agent.open(Host("far"), flood)  # type: ignore[arg-type]

    with pytest.raises(errors.BadAnswer, match="prints without end"):
        asyncio.run(install())
    assert flood.printed < 4 << 20
    assert flood.closed


MALFORMED = [
    b"[" * 200_000,
    b'{"id": [1]}',
    b'{"id": "1"}',
    b'{"log": 1}',
    b'{"journal": 5}',
    b'{"idle": 5}',
    b"5",
    b"9" * 5000,
    b"\xff\xfe",
    b'{"log": "attempt-0/rank-0.out", "offset": 0, "size": 1000000000000}',
    b'{"id": 1, "ok": {"time": 1e999}}',
    b'{"id": 1, "ok": ' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"id": 1, "ok": null}',
    b'{"id": 1, "part": {"outputs": [], "code": []}}',
    b'{"id": 1, "ok": {}}',
    b'{"id": 1, "ok": {"time": "now"}}',
    b'{"id": 1, "error": {}}',
    b'{"id": 1, "error": {"code": "x", "message": "' + b"x" * 100_000 + b'"}}',
    b'{"id": 1, "error": {"code": 1, "message": "x"}}',
    b'{"id": 1, "error": {"code": "gpu-busy", "message": "x", "holder": {"since": 1e300}}}',
    b'{"x": [' + b"0," * (5 << 20) + b"0]}",
]


@pytest.mark.parametrize("line", MALFORMED, ids=lambda line: line[:40].decode("ascii", "replace"))
def test_a_message_that_no_agent_sends_is_told_at_once(line: bytes) -> None:
    error, _ = asyncio.run(_asked([line + b"\n"], "probe"))
    assert isinstance(error, errors.BadAnswer), error
    assert (error.host, error.code) == ("far", "bad-answer")
    assert len(error.message) <= 400


def test_a_fault_is_reported_once_and_nothing_is_believed_afterwards() -> None:
    good = b'{"id": 1, "ok": {"good": 1}}\n'
    error, faults = asyncio.run(_asked([b'{"journal": 5}\n' + good, good], "runs"))
    assert isinstance(error, errors.BadAnswer)
    assert faults == [error]


def test_a_host_that_is_always_working_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could hold a run for ever otherwise."""
    monkeypatch.setattr(agent_client, "LATE", 0.2)
    monkeypatch.setitem(agent_client.PATIENCE, "probe", 0.2)
    error, _ = asyncio.run(_asked([], "probe", again=0.02))
    assert isinstance(error, errors.Silent)


# -- whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([word for word in fuzz.WORDS if isinstance(word, str)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = sorted({name for message in fuzz.CORPUS for name in message})
MESSAGES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5)


@pytest.mark.thorough
@settings(max_examples=300)
@given(st.lists(MESSAGES, min_size=1, max_size=3), st.binary(max_size=40))
def test_any_messages_are_taken_or_refused(messages: list[dict[str, Any]], rest: bytes) -> None:
    fuzz.attack(b"".join(json.dumps(one).encode() + b"\n" for one in messages) + rest)


@pytest.mark.thorough
@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
def test_broken_messages_are_taken_or_refused(seed: int) -> None:
    fuzz.attack(fuzz.mutated(random.Random(seed)))


@pytest.mark.thorough
@settings(max_examples=300)
@given(
    st.sampled_from(sorted(ev.KINDS)),
    st.dictionaries(st.sampled_from(["attempt", "key", "rank", "time", "why", "ranks"]), JSON),
)
def test_a_journal_brings_only_what_a_supervisor_writes(kind: str, fields: dict[str, Any]) -> None:
    event = ev.from_journal("a", {"time": 1.0, **fields, "event": kind, "seq": 1}, 0.0)
    assert event is None or isinstance(event, (*ev.JOURNALED, ev.RecordPassedOver))
    assert getattr(event, "host", "a") == "a"


def _part(names: str, **more: object) -> bytes:
    files = {"outputs": [[name, 1, 2] for name in names], "code": [[f"c-{names}", 1, 2]]}
    return json.dumps(
        {"id": 1, **({"ok": {**files, **more}} if more else {"part": files})}
    ).encode()


def test_outputs_in_parts_are_one_list() -> None:
    answers = [_part("ab"), _part("c"), _part("d", folder="/x", logs={}, unlisted=3)]
    (found, files), faults = asyncio.run(_asked([b"\n".join(answers) + b"\n"], "outputs"))
    assert list(files.outputs.paths) == ["a", "b", "c", "d"]
    assert list(files.code.paths) == ["c-ab", "c-c", "c-d"]
    assert (found.folder, found.unlisted, faults) == ("/x", 3, [])


@pytest.mark.parametrize("bound", ["MOST_FILES", "MOST_CHARACTERS"])
def test_parts_without_end_are_a_fault_of_the_host(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, bound, 20)
    found, faults = asyncio.run(_asked([_part("abc") + b"\n"] * 30, "outputs"))
    assert isinstance(found, errors.BadAnswer)
    assert "more files than a host lists" in str(faults)


@pytest.mark.parametrize(
    "part", [5, [], {"outputs": 5, "code": []}, {"outputs": [["../x", 1, 1]], "code": []}]
)
def test_a_part_of_nonsense_is_a_fault_of_the_host(part: object) -> None:
    sent = json.dumps({"id": 1, "part": part}).encode() + b"\n"
    found, faults = asyncio.run(_asked([sent], "outputs"))
    assert isinstance(found, errors.BadAnswer)
    assert faults == [found]


def test_a_host_tells_how_far_it_is() -> None:
    """While it is at a request, in bytes; what is no number is its fault."""

    async def told(*said: bytes) -> tuple[Any, list[int]]:
        found: list[int] = []
        agent = Agent(Host("far"), FakeProcess([*said, b'{"id": 1, "ok": {}}\n']))  # type: ignore[arg-type]
        agent.on_working = found.append
        agent._reader = asyncio.ensure_future(agent._read())
        try:
            return await agent.ask("data", do="put"), found
        except errors.HostError as error:
            return error, found
        finally:
            await agent.close()

    said = b'{"working": 1, "done": 7}\n', b'{"working": 1}\n', b'{"working": 1, "done": 9}\n'
    assert asyncio.run(told(*said)) == ({}, [7, 9])
    error, _ = asyncio.run(told(b'{"working": 1, "done": "x"}\n'))
    assert isinstance(error, errors.BadAnswer)
