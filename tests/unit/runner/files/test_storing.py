"""Storing outputs: what they are called, what is written again, and what is never left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.records.stored import Stored
from launcher.records.stored_files import StoredFiles
from launcher.runner.files import stored_again, storing, storing_target, to_store
from launcher.runner.files.outputs import Listed
from launcher.runner.files.store_progress import part_of
from launcher.runner.files.stored_again import Notes, Restored, restore
from launcher.runner.files.storing import Storing
from launcher.spec.errors import HostError, RecordError, StoreError
from launcher.spec.model import Job
from launcher.spec.packed import PackedFiles
from launcher.spec.typed_json import to_json
from launcher.transport import aws_store
from launcher.transport.answers.data import DataPut, DataSum
from launcher.transport.object_store import Bucket, Object

SUM = "0" * 64
JOB = Job(("x",), output_to="s3://lab/runs")


class Objects:
    """What a bucket would do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, str] = {}
        self.parts: dict[int, tuple[str, int]] | None = {}
        self.ended: list[str] = []
        self.began = 0
        monkeypatch.setattr(
            aws_store, "find_bucket", lambda name, **_: Bucket(name, "http://s", "r")
        )
        monkeypatch.setattr(Bucket, "in_step", lambda bucket, *_, **__: bucket)
        monkeypatch.setattr(
            Bucket, "put", lambda bucket, key, data: self.objects.__setitem__(key, data)
        )
        monkeypatch.setattr(Bucket, "get", lambda bucket, key: self.objects[key])
        monkeypatch.setattr(Bucket, "begin_upload", lambda bucket, key: self._begin(key))
        monkeypatch.setattr(
            Bucket, "end_upload", lambda bucket, key, upload, tags: self._end(upload, tags)
        )
        monkeypatch.setattr(Bucket, "parts", lambda bucket, key, upload: self._parts())
        monkeypatch.setattr(Bucket, "abort_upload", lambda bucket, key, upload: self._abort(upload))
        monkeypatch.setattr(
            Bucket, "uploads", lambda bucket, prefix: [(k, u) for u, k in self.uploads.items()]
        )
        monkeypatch.setattr(Bucket, "objects", lambda bucket, prefix: self._list(prefix))
        monkeypatch.setattr(Bucket, "delete", lambda bucket, key: self.objects.pop(key))
        self.is_away = False

    def _list(self, prefix: str) -> list[Object]:
        return [
            Object(key, len(its), "") for key, its in self.objects.items() if key.startswith(prefix)
        ]

    def _abort(self, upload: str) -> None:
        if self.is_away:
            raise StoreError("http://s does not answer")
        self.uploads.pop(upload)

    def _end(self, upload: str, tags: list[str]) -> None:
        self.uploads.pop(upload)
        self.ended = tags

    def _parts(self) -> dict[int, tuple[str, int]]:
        if self.parts is None:
            raise StoreError("these credentials may not list parts")
        return self.parts

    def _begin(self, key: str) -> str:
        self.began += 1
        upload = f"upload-{self.began}"
        self.uploads[upload] = key
        return upload

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.objects["runs/calm-owl/.launcher.json"])
        return found


class Agent:
    """A host that writes what it is asked to, but for ``bad`` paths."""

    on_working: Callable[[int], None] = staticmethod(lambda done: None)

    def __init__(self, bad: str = "") -> None:
        self.bad = bad
        self.written: list[str] = []
        self.attended = 0

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        assert op == "attended"
        self.attended += 1
        return {"ended": True}

    async def answer(self, kind: type, op: str, **request: Any) -> Any:
        if request["do"] == "sum":
            return DataSum(SUM)
        pieces = request["pieces"]
        self.written += [one["path"] for one in pieces]
        if any(one["path"] == "gone" for one in pieces):
            raise HostError("h", "it is gone")
        results = [
            ("", "", "refused", "the store answers 500")
            if one["path"] == self.bad
            else ("tag", SUM, "", "")
            for one in pieces
        ]
        return DataPut(tuple(results))


def listed(files: Mapping[str, int]) -> Listed:
    return Listed(PackedFiles((path, size, 1) for path, size in files.items()), PackedFiles(), "/x")


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Objects:
    """A store without a network."""
    return Objects(monkeypatch)


def store(folder: Path, *hosts: tuple[str, Agent, Mapping[str, int]]) -> Stored:
    """Store the outputs of hosts, as at the end of a run."""

    async def all_of_it() -> Stored:
        there = Storing(Notes(folder), JOB, folder / "calm-owl")
        all_hosts = [(host, agent, listed(files)) for host, agent, files in hosts]
        await there.store_all(all_hosts)  # type: ignore[arg-type]
        await there.conclude({"status": "failed"})
        return there.stored

    return asyncio.run(all_of_it())


def test_a_path_of_several_hosts(tmp_path: Path, objects: Objects) -> None:
    """Each file has a name of its own, which stays when more come."""
    found = store(
        tmp_path,
        ("gpu1", Agent(), {"a/log.txt": 1, "one": 1}),
        ("gpu2", Agent(), {"a/log.txt": 2, ".launcher.json": 3}),
    )
    assert found.whole
    names = {(one.host, one.path): one.name for one in found.files}
    assert names == {
        ("gpu1", "a/log.txt"): "a/log.txt",
        ("gpu1", "one"): "one",
        ("gpu2", "a/log.txt"): "a/log@gpu2.txt",
        ("gpu2", ".launcher.json"): ".launcher@gpu2.json",
    }
    again = store(tmp_path, ("gpu2", Agent(), {"a/log.txt": 2}))
    assert {(one.host, one.path): one.name for one in again.files} == names


def test_only_what_is_missing_is_written_again(tmp_path: Path, objects: Objects) -> None:
    first = Agent(bad="b")
    found = store(tmp_path, ("gpu1", first, {"a": 1, "b": 1}))
    assert not found.whole
    assert found.missing == {"gpu1": "b cannot be written to the store: the store answers 500"}
    assert objects.manifest()["whole"] is False
    assert objects.manifest()["missing"] == dict(found.missing)
    second = Agent()
    assert store(tmp_path, ("gpu1", second, {"a": 1, "b": 1})).whole
    assert second.written == ["b"]
    assert [one["path"] for one in objects.manifest()["files"]] == ["a", "b"]


def test_records_of_older_versions_are_read(tmp_path: Path, objects: Objects) -> None:
    """They have the files in `stored.json`: these are not written again."""
    first = store(tmp_path, ("gpu1", Agent(), {"a": 1, "b": 1}))
    (tmp_path / "stored-files.jsonl").unlink()
    Notes(tmp_path).write("stored.json", to_json(first))
    for more in ("c", "d"):
        agent = Agent()
        assert store(tmp_path, ("gpu1", agent, {"a": 1, "b": 1, more: 1})).whole
        assert agent.written == [more]
    assert json.loads((tmp_path / "stored.json").read_text())["files"] == []


@pytest.mark.parametrize("name", ["large", "gone"])
def test_no_upload_is_left(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A file in parts that fails is deleted in the store, also one that a killed launcher began."""
    monkeypatch.setattr(storing, "PART", 10)
    found = store(tmp_path, ("gpu1", Agent(bad="large"), {name: 25}))
    assert found.missing
    assert objects.uploads == {}
    objects.uploads["of a launcher that was killed"] = f"runs/calm-owl/{name}"
    begun = {f"runs/calm-owl/{name}": "of a launcher that was killed"}
    Notes(tmp_path).write("stored.json", {"to": "s3://lab/runs/calm-owl", "begun": begun})
    agent = Agent()
    found = store(tmp_path, ("gpu1", agent, {"large": 25, name: 25}))
    assert objects.uploads == {}
    assert found.begun == {}
    assert found.whole is (name == "large")
    assert agent.written[:3] == [name] * 3 if name == "large" else True


@pytest.mark.parametrize(
    ("parts", "time", "ended"),
    [
        ({1: ("t1", 10), 2: ("t2", 10)}, 1, ["t1", "t2", "tag"]),
        ({2: ("t2", 10), 3: ("t3", 5), 4: ("t4", 10)}, 1, ["tag", "t2", "t3"]),
        ({1: ("t1", 10), 2: ("t2", 9)}, 1, ["t1", "tag", "tag"]),
        ({1: ("t1", 10), 2: ("t2", 10), 3: ("t3", 5)}, 1, ["t1", "t2", "t3"]),
        ({1: ("t1", 10)}, 2, ["tag"] * 3),
        ({}, 1, ["tag"] * 3),
        (None, 1, ["tag"] * 3),
    ],
)
def test_parts_that_are_there_are_not_written_again(
    tmp_path: Path,
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
    parts: dict[int, tuple[str, int]] | None,
    time: int,
    ended: list[str],
) -> None:
    """If they are of the very same file, and whole."""
    monkeypatch.setattr(storing, "PART", 10)
    key, upload = "runs/calm-owl/large", "of a launcher that was killed"
    objects.uploads[upload], objects.parts = key, parts
    source = {"host": "gpu1", "path": "large", "size": 25, "time": time, "length": 10}
    noted = {"to": "s3://lab/runs/calm-owl", "begun": {key: upload}, "begun_from": {key: source}}
    Notes(tmp_path).write("stored.json", noted)
    agent = Agent()
    found = store(tmp_path, ("gpu1", agent, {"large": 25}))
    assert found.whole
    assert objects.ended == ended
    assert agent.written == ["large"] * ended.count("tag")
    assert (objects.uploads, found.begun, found.begun_from) == ({}, {}, {})
    assert objects.began == (1 if ended == ["tag"] * 3 else 0)


@pytest.mark.parametrize("later", [{"large": 25}, {}])
def test_no_upload_is_left_by_a_store_that_went_away(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch, later: dict[str, int]
) -> None:
    """What could not be deleted then is deleted when the store is back, whatever became of the file."""
    monkeypatch.setattr(storing, "PART", 10)
    objects.is_away = True
    store(tmp_path, ("gpu1", Agent(bad="large"), {"large": 25}))
    assert len(objects.uploads) == 1
    objects.is_away = False
    found = store(tmp_path, ("gpu1", Agent(), later))
    assert (found.whole, found.begun) == (True, {})
    assert objects.uploads == {}


def test_a_cancelled_upload_is_not_left(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops twice while the store still thinks about its name leaves nothing there."""
    monkeypatch.setattr(storing, "PART", 10)
    asked, answer = threading.Event(), threading.Event()

    def begin(bucket: Bucket, key: str) -> str:
        asked.set()
        answer.wait(60)
        return objects._begin(key)

    monkeypatch.setattr(Bucket, "begin_upload", begin)

    async def cancelled() -> None:
        there = Storing(Notes(tmp_path), JOB, tmp_path / "calm-owl")
        hosts = [("gpu1", Agent(), listed({"large": 25}))]
        writing = asyncio.create_task(there.store_all(hosts))  # type: ignore[arg-type]
        await asyncio.to_thread(asked.wait, 60)
        writing.cancel()
        answer.set()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(cancelled())
    assert objects.began == 1
    assert objects.uploads == {}


def test_a_credential_that_was_replaced_serves_a_long_run(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold a session, which a run outlasts."""
    asked: list[str] = []

    def find(kind: str, name: str, credential: str) -> Bucket:
        asked.append(credential)
        return Bucket(name, "http://s", "r")

    monkeypatch.setattr(storing_target, "find_bucket", find)
    job = replace(JOB, output_credential="lab-s3")
    for every, looked_up_again in ((300.0, False), (-1.0, True)):
        monkeypatch.setattr(storing, "LOOKED_UP_EVERY", every)
        asked.clear()

        async def begun_and_ended() -> None:
            there = Storing(Notes(tmp_path), job, tmp_path / "calm-owl")
            await there.begin()
            await there.conclude({})

        asyncio.run(begun_and_ended())
        assert set(asked) == {"lab-s3"}
        assert (len(asked) > 1) is looked_up_again


def names_of_any_length() -> list[str]:
    return [
        *(f"a/{'x' * 254}{end}" for end in "12"),
        "\N{LATIN SMALL LETTER E WITH ACUTE}" * 127,
        "b",
    ]


def test_files_come_back_several_at_once(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names may be as long as a file system takes, and begin alike. What is here, or partly here, is not
    counted as coming."""
    began = threading.Barrier(2)

    def read(bucket: Bucket, key: str, path: Path, size: int, came: Callable[[int], None]) -> None:
        data = objects.objects[key]
        with path.open("ab") as file:
            left = data[file.tell() :]
            began.wait(60)
            file.write(left)
        came(len(left))

    monkeypatch.setattr(Bucket, "read_into", read)
    monkeypatch.setattr(stored_again, "EVERY", 0.0)
    names = names_of_any_length()
    bodies = {name: f"{number}" * 10 for number, name in enumerate(names)}
    objects.objects |= {f"runs/calm-owl/{name}": its.encode() for name, its in bodies.items()}
    files = [
        {"path": name, "size": 10, "sha256": sum_of(its.encode())} for name, its in bodies.items()
    ]
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps(
        {"whole": True, "files": files}
    ).encode()
    told: list[Any] = []

    async def brought() -> Any:
        return await restore(JOB, tmp_path / "calm-owl", tmp_path / "to", told.append)

    assert asyncio.run(brought()) == Restored(4, 40, True)
    assert {name: (tmp_path / "to" / name).read_text() for name in names} == bodies
    assert (told[-1].host, told[-1].done, told[-1].bytes) == ("store", 40, 40)
    assert len([*(tmp_path / "to").rglob("*")]) == 5

    told.clear()
    (tmp_path / "to" / names[0]).rename(part_of(tmp_path / "to" / names[0]))
    part_of(tmp_path / "to" / names[0]).write_text("000000")
    (tmp_path / "to/b").unlink()
    assert asyncio.run(brought()) == Restored(4, 40, True)
    assert (told[-1].done, told[-1].bytes) == (14, 14)


def test_who_does_not_wait_ends_what_comes_back(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a large file is not read, nor any other one."""
    asked, over = threading.Event(), threading.Event()

    def read(bucket: Bucket, key: str, path: Path, size: int, came: Callable[[int], None]) -> None:
        asked.set()
        try:
            while True:
                came(1)
        finally:
            over.set()

    monkeypatch.setattr(Bucket, "read_into", read)
    files = [{"path": "large", "size": 1 << 60, "sha256": SUM}]
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps({"files": files}).encode()

    async def cancelled() -> None:
        coming = asyncio.create_task(restore(JOB, tmp_path / "calm-owl", tmp_path / "to"))
        await asyncio.to_thread(asked.wait, 60)
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming

    asyncio.run(cancelled())
    assert over.wait(60)


def test_a_manifest_cannot_lead_elsewhere(tmp_path: Path, objects: Objects) -> None:
    """It may be anybody's who can write to the bucket."""
    for bad in (
        b"no json",
        b"[]",
        b'{"files": [{"path": "../x", "size": 1, "sha256": ""}]}',
        b'{"files": [{"path": "/x", "size": 1, "sha256": ""}]}',
        b'{"files": [{"path": "x", "size": "1", "sha256": ""}]}',
        b'{"files": [1]}',
    ):
        objects.objects["runs/calm-owl/.launcher.json"] = bad
        with pytest.raises(StoreError):
            asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "dest"))
    assert not (tmp_path / "x").exists()


def test_a_file_that_came_whole_is_not_brought_again(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody ended it while its sum was computed."""
    into(objects, monkeypatch)
    monkeypatch.setattr(stored_again, "EVERY", 0.0)
    objects.objects |= {"runs/calm-owl/one": b"good", "runs/calm-owl/two": b"good"}
    files = [{"path": name, "size": 4, "sha256": sum_of(b"good")} for name in ("one", "two")]
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps(
        {"whole": True, "files": files}
    ).encode()
    to = tmp_path / "to"
    to.mkdir()
    part_of(to / "one").write_bytes(b"good")
    part_of(to / "two").write_bytes(b"evil")
    asked: list[Any] = []
    usual = Bucket.read_into
    monkeypatch.setattr(Bucket, "read_into", lambda *words: asked.append(words[1]) or usual(*words))
    told: list[Any] = []

    async def brought() -> Restored:
        return await restore(JOB, tmp_path / "calm-owl", to, told.append)

    assert asyncio.run(brought()) == Restored(2, 8, True)
    assert asked == ["runs/calm-owl/two"]
    assert (told[-1].done, told[-1].bytes) == (4, 4)
    assert {path.name for path in to.iterdir()} == {"one", "two"}


def test_what_cannot_be_written_here_is_named(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    into(objects, monkeypatch)
    objects.objects |= {"runs/calm-owl/a/one": b"x", "runs/calm-owl/two": b"x"}
    files = [{"path": name, "size": 1, "sha256": sum_of(b"x")} for name in ("two", "a/one")]
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps({"files": files}).encode()
    (tmp_path / "to/a/one").mkdir(parents=True)
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "to/a/one"))):
        asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "to"))


# -- what hosts have stored by themselves


LARGE = bytes(range(256)) * (1 << 15)  # 8 MiB: a store copies it
HERE = ".unattended/gpu1/0a"


def stored_alone(objects: Objects, here: str = HERE, **changes: Any) -> dict[str, Any]:
    """Put what a host has stored by itself into the store: a large file in two parts, and small ones."""
    archive = b"head" + LARGE + b"one" + b"tail"
    cut = 7 << 20
    for number, data in enumerate((archive[:cut], archive[cut:]), 1):
        objects.objects[f"runs/calm-owl/{here}/part-000{number}"] = data
    about = {
        "launcher": 1, "run": "calm-owl", "host": "gpu1", "hosts": ["gpu1", "gpu2"], "time": 5.0,
        "whole": True, "missing": [], "missing_files": 0, "ending": {},
        "parts": [
            {"name": "part-0001", "size": cut},
            {"name": "part-0002", "size": len(archive) - cut},
        ],
        "files": [
            {"path": "a/large", "size": len(LARGE), "time": 1, "sha256": sum_of(LARGE), "at": 4},
            {"path": "one", "size": 3, "time": 1, "sha256": sum_of(b"one"), "at": 4 + len(LARGE)},
            {"path": "none", "size": 0, "time": 1, "sha256": sum_of(b""), "at": 0},
        ],
        **changes,
    }  # fmt: skip
    objects.objects[f"runs/calm-owl/{here}/manifest.json"] = json.dumps(about).encode()
    return about


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def into(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(bucket: Bucket, key: str, path: Path, size: int, came: Callable[[int], None]) -> None:
        path.write_bytes(objects.objects[key])
        came(len(objects.objects[key]))

    monkeypatch.setattr(Bucket, "read_into", read)


def test_the_store_copies_large_files(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that the host still has as they are; it writes the others, and is told that this is done.
    Nothing else is left."""
    stored_alone(objects)
    asked = []
    monkeypatch.setattr(
        Bucket, "copy_part", lambda bucket, *words: asked.append(words) or f"tag-{len(asked)}"
    )
    agent = Agent()
    monkeypatch.setattr(agent, "answer", answering(agent, sum_of(LARGE)))
    found = store(tmp_path, ("gpu1", agent, {"a/large": len(LARGE), "one": 3}))
    place = f"runs/calm-owl/{HERE}"
    assert asked == [
        ("runs/calm-owl/a/large", "upload-1", 1, f"{place}/part-0001", 4, (7 << 20) - 1),
        ("runs/calm-owl/a/large", "upload-1", 2, f"{place}/part-0002", 0, (1 << 20) + 3),
    ]
    assert (agent.written, agent.attended) == (["one"], 1)
    assert found.whole and found.alone["gpu1"].files == 3
    assert not objects.uploads
    assert list(objects.objects) == ["runs/calm-owl/.launcher.json"]


def answering(agent: Agent, its: str) -> Any:
    """Return what answers as a host does that has a file with such a sum."""
    usual = agent.answer

    async def answer(kind: type, op: str, **request: Any) -> Any:
        return DataSum(its) if request["do"] == "sum" else await usual(kind, op, **request)

    return answer


def test_what_has_changed_is_written_again(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its sum, and where the store refuses to copy."""
    stored_alone(objects)

    def refuse(*_: Any) -> None:
        raise StoreError("no")

    monkeypatch.setattr(Bucket, "copy_part", refuse)
    for name, its in (("one", SUM), ("other", sum_of(LARGE))):
        folder = tmp_path / name
        folder.mkdir()
        agent = Agent()
        monkeypatch.setattr(agent, "answer", answering(agent, its))
        assert store(folder, ("gpu1", agent, {"a/large": len(LARGE)})).whole
        assert agent.written == ["a/large"]
        assert not objects.uploads
        stored_alone(objects)


def test_copied_parts_are_not_taken_for_written_ones(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive is cut in other places: what was copied of it, and could not be deleted, is no part of the
    file that was begun before."""
    stored_alone(objects)
    monkeypatch.setattr(storing, "PART", 4 << 20)
    key = "runs/calm-owl/a/large"
    source = {"host": "gpu1", "path": "a/large", "size": len(LARGE), "time": 1, "length": 4 << 20}
    noted = {"to": "s3://lab/runs/calm-owl", "begun": {key: "u"}, "begun_from": {key: source}}
    Notes(tmp_path).write("stored.json", noted)
    objects.uploads["u"], objects.is_away = key, True

    def refuse(*_: Any) -> None:
        objects.parts = {1: ("copied", 4 << 20)}
        raise StoreError("no")

    monkeypatch.setattr(Bucket, "copy_part", refuse)
    agent = Agent()
    monkeypatch.setattr(agent, "answer", answering(agent, sum_of(LARGE)))
    store(tmp_path, ("gpu1", agent, {"a/large": len(LARGE)}))
    assert objects.ended == ["tag", "tag"]


def test_archives_are_brought(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hosts whose files are not in their place; what is missing is named."""
    into(objects, monkeypatch)
    about = stored_alone(objects)
    objects.objects["runs/calm-owl/.launcher.json"] = b'{"whole": false}'
    got = asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "to"))
    assert (got.files, got.whole, got.failed) == (3, False, ("gpu2: it has stored nothing",))
    assert (tmp_path / "to/a/large").read_bytes() == LARGE
    assert [path.name for path in sorted((tmp_path / "to").iterdir())] == ["a", "none", "one"]

    stored_alone(objects, hosts=["gpu1"])
    got = asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "to"))
    assert (got.files, got.whole, got.failed) == (3, True, ())

    (tmp_path / "to/one").write_bytes(b"two")
    objects.objects[f"runs/calm-owl/{HERE}/part-0002"] = bytes((1 << 20) + 11)
    got = asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "new"))
    bad = "the store has other bytes than were written"
    assert (got.files, got.failed) == (1, (f"a/large: {bad}", f"one: {bad}"))
    assert [path.name for path in (tmp_path / "new").rglob("*") if path.is_file()] == ["none"]

    older = {"path": "one", "size": 3, "sha256": sum_of(b"old"), "host": "gpu1"}
    part = {"whole": False, "hosts": ["gpu1"], "missing": {"gpu1": "gone"}, "files": [older]}
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps(part).encode()
    objects.objects["runs/calm-owl/one"] = b"old"
    stored_alone(objects, hosts=["gpu1"])
    asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "both"))
    both = [(tmp_path / "both" / name).read_bytes() for name in ("one", "one@gpu1")]
    assert both == [b"old", b"one"], "nobody says which is newer"

    done = {"whole": False, "hosts": ["gpu1"], "missing": {}, "files": []}
    objects.objects["runs/calm-owl/.launcher.json"] = json.dumps(done).encode()
    assert asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "no")).files == 0
    stored_alone(objects, hosts=["gpu1"], parts=[], files=about["files"][2:], whole=False)
    objects.objects["runs/calm-owl/.launcher.json"] = b'{"whole": false}'
    got = asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "no"))
    assert got.failed == ("gpu1: it began to store its outputs, and did not finish",)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [{"path": "../x", "size": 1, "time": 1, "sha256": "", "at": 0}]},
        {"files": [{"path": "/x", "size": 1, "time": 1, "sha256": "", "at": 0}]},
        {"files": [{"path": "x", "size": 1 << 40, "time": 1, "sha256": "", "at": 0}]},
        {"files": [{"path": "x", "size": 1, "time": 1, "sha256": "", "at": -1}]},
        {"parts": [{"name": "../part-0001", "size": 1}]},
        {"parts": [{"name": "part-0001", "size": -1}]},
        {"parts": 5},
        {"hosts": "gpu1"},
        {"hosts": ["\x1b[2J"]},
        {"host": "../../gpu1"},
    ],
)
def test_no_manifest_of_a_host_is_trusted(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Whoever may write to the bucket may have written it. It keeps no file of another host here."""
    into(objects, monkeypatch)
    stored_alone(objects, **changes)
    stored_alone(objects, ".unattended/gpu2/0b", host="gpu2", hosts=["gpu1", "gpu2"])
    objects.objects["runs/calm-owl/.unattended/manifest.json"] = b"of nobody"
    objects.objects["runs/calm-owl/.launcher.json"] = b'{"whole": false}'
    got = asyncio.run(restore(JOB, tmp_path / "calm-owl", tmp_path / "to"))
    assert (got.files, got.whole) == (3, False)
    (why,) = got.failed
    assert why.startswith(f"gpu1: {HERE}/manifest.json ")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["large", "none", "one"]


def test_each_store_asks_what_hosts_have_stored_alone(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that made room stores its outputs in between: nobody may be in touch after that."""
    monkeypatch.setattr(Bucket, "copy_part", lambda *words: "tag")
    agent = Agent()
    monkeypatch.setattr(agent, "answer", answering(agent, sum_of(LARGE)))

    async def twice() -> Stored:
        there = Storing(Notes(tmp_path), JOB, tmp_path / "calm-owl")
        await there.store_all([("gpu1", agent, listed({"one": 3}))])  # type: ignore[list-item]
        stored_alone(objects)
        files = {"a/large": len(LARGE), "one": 3}
        await there.store_all([("gpu1", agent, listed(files))])  # type: ignore[list-item]
        return there.stored

    found = asyncio.run(twice())
    assert agent.written == ["one"]
    assert found.alone["gpu1"].files == 3


# -- several hosts


def test_it_is_told_how_far_hosts_are(tmp_path: Path, objects: Objects) -> None:
    """Of all hosts from the beginning, also while a host writes, and of what is not there yet alone."""
    store(tmp_path, ("gpu1", Agent(), {"there": 100}))
    told: list[tuple[str, int, int]] = []

    class Telling(Agent):
        on_working: Callable[[int], None]

        async def answer(self, kind: type, op: str, **request: Any) -> Any:
            self.on_working(1)
            return await super().answer(kind, op, **request)

    async def store_all() -> None:
        there = Storing(Notes(tmp_path), JOB, tmp_path / "calm-owl")
        there.on_stored = lambda *so_far: told.append(so_far)
        first = ("gpu1", Telling(), listed({"there": 100, "log": 5}))
        await there.store_all([first, ("gpu2", Telling(), listed({"log": 7}))])  # type: ignore[list-item]

    asyncio.run(store_all())
    assert told[:2] == [("gpu1", 0, 5), ("gpu2", 0, 7)]
    for host, size in (("gpu1", 5), ("gpu2", 7)):
        assert [done for its, done, _ in told if its == host] == [0, 1, size]


def test_many_files_hold_up_no_other_host(
    tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of them is there already is found out beside the event loop."""
    threads: set[int] = set()
    usual = StoredFiles.get
    monkeypatch.setattr(
        StoredFiles, "get", lambda *words: threads.add(threading.get_ident()) or usual(*words)
    )
    store(tmp_path, ("gpu1", Agent(), {"log": 5}))
    assert threads
    assert threading.get_ident() not in threads


def test_nothing_is_told_of_a_host_that_is_done(tmp_path: Path, objects: Objects) -> None:
    """What it says later is of other requests."""
    told: list[tuple[str, int, int]] = []
    agent = Agent()

    async def all_of_it() -> None:
        there = Storing(Notes(tmp_path), JOB, tmp_path / "calm-owl")
        there.on_stored = lambda *so_far: told.append(so_far)
        await there.store_all([("gpu1", agent, listed({"log": 5}))])  # type: ignore[list-item]
        agent.on_working(3)

    asyncio.run(all_of_it())
    assert told == [("gpu1", 0, 5), ("gpu1", 5, 5)]


def test_hosts_store_at_once_under_names_in_their_order(tmp_path: Path, objects: Objects) -> None:
    """The second one is first to write, and the first one still has the plain name."""
    second_has_written = asyncio.Event()

    class Slow(Agent):
        async def answer(self, kind: type, op: str, **request: Any) -> Any:
            await second_has_written.wait()
            return await super().answer(kind, op, **request)

    class Fast(Agent):
        async def answer(self, kind: type, op: str, **request: Any) -> Any:
            second_has_written.set()
            return await super().answer(kind, op, **request)

    found = store(tmp_path, ("gpu1", Slow(), {"log": 1}), ("gpu2", Fast(), {"log": 2}))
    assert {one.host: one.name for one in found.files} == {"gpu1": "log", "gpu2": "log@gpu2"}


def test_each_file_is_stored_by_the_host_that_wrote_it(tmp_path: Path) -> None:
    """What hosts were given is not; of a former host, nothing that another has written again."""
    note(tmp_path, {"gpu2": {"ckpt": (1, 1), "kept": (1, 1)}, "gpu3": {"ckpt": (1, 1)}})
    found = {
        "gpu2": listed({"ckpt": 2, "kept": 1, "new": 1}),
        "gpu3": listed({"ckpt": 1}),
        "gpu1": listed({"ckpt": 1, "kept": 1, "mine": 1}),
    }
    mine = to_store.own(tmp_path, found, ["gpu1"])
    assert {host: list(what.outputs.paths) for host, what in mine.items()} == {
        "gpu2": ["ckpt", "new"],
        "gpu3": [],
        "gpu1": ["kept", "mine"],
    }
    assert to_store.own(tmp_path / "none", found, ["gpu1"]) == found


def test_a_host_stores_what_it_got_from_one_that_is_gone(tmp_path: Path) -> None:
    """Once, and nothing of a host that has stored everything itself."""
    for host, name in (("gpu1", "of-gone"), ("gpu4", "of-done")):
        place = tmp_path / f".hosts/{host}/outputs" / name
        place.parent.mkdir(parents=True)
        place.write_text("x")
        os.utime(place, ns=(1, 1))
    given = {"of-gone": (1, 1), "of-done": (1, 1), "earlier": (1, 1)}
    note(tmp_path, {"gpu2": given, "gpu3": given})
    found = {host: listed(dict.fromkeys(given, 1)) for host in ("gpu2", "gpu3")}
    mine = to_store.own(tmp_path, found, [], ["gpu4"])
    paths = {host: list(what.outputs.paths) for host, what in mine.items()}
    assert paths == {"gpu2": ["of-gone"], "gpu3": []}


def test_who_went_on_with_a_file_gets_its_name_in_the_store(
    tmp_path: Path, objects: Objects
) -> None:
    """What a host stored that was lost later is not taken for the newest of it; nor is what others have
    left alone written twice. Files that it alone had stay."""
    at_first = {"ckpt": 1, "kept": 1, "late": 1, "log": 1, "own": 1}
    other = {"log": 2, "own": 2}
    store(tmp_path, ("gpu1", Agent(), at_first), ("gpu2", Agent(), other))
    given = dict.fromkeys(("ckpt", "kept", "late", "log"), (1, 1))
    note(tmp_path, {"gpu3": given, "gpu4": given})
    for path in ("kept", "late"):
        mirror = tmp_path / ".hosts/gpu1/outputs" / path
        mirror.parent.mkdir(parents=True, exist_ok=True)
        mirror.write_text("x")
        os.utime(mirror, ns=(1, 1))
    third, fourth = Agent(), Agent()
    found = store_as_run(
        tmp_path,
        ("gpu3", third, {"ckpt": 3, "kept": 1, "late": 1, "log": 3}),
        ("gpu4", fourth, {"ckpt": 1, "kept": 1, "late": 4, "log": 4}),
    )
    assert (found.whole, third.written, fourth.written) == (True, ["ckpt", "log"], ["late", "log"])
    assert {one.name: (one.host, one.size) for one in found.files} == {
        "ckpt": ("gpu3", 3),
        "kept": ("gpu1", 1),
        "late": ("gpu4", 4),
        "log": ("gpu3", 3),
        "log@gpu2": ("gpu4", 4),
        "own": ("gpu1", 1),
        "own@gpu2": ("gpu2", 2),
    }
    later = store_as_run(tmp_path, ("gpu4", Agent(), {"log": 5})).files
    assert {one.name: one.size for one in later if one.path == "log"} == {
        "log": 3,
        "log@gpu2": 5,
    }, "the fourth was never given what the third wrote"


def test_of_several_names_of_a_file_the_plain_one_is_handed_over(
    tmp_path: Path, objects: Objects
) -> None:
    """Whichever was stored first; the others stay."""
    store(tmp_path, ("gpu1", Agent(), {"log": 1}), ("gpu2", Agent(), {"log": 2}))
    lines = (tmp_path / "stored-files.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "stored-files.jsonl").write_text("".join(reversed(lines)))
    note(tmp_path, {"gpu3": {"log": (2, 1)}})
    found = store_as_run(tmp_path, ("gpu3", Agent(), {"log": 3}))
    assert {one.name: (one.host, one.size) for one in found.files} == {
        "log": ("gpu3", 3),
        "log@gpu2": ("gpu2", 2),
    }


def test_a_name_goes_over_once_the_file_is_written(tmp_path: Path, objects: Objects) -> None:
    """From a host that is gone, or from one that stored the file as it was given to it."""
    store(tmp_path, ("gpu1", Agent(), {"ckpt": 1}))
    note(tmp_path, {"gpu3": {"ckpt": (1, 1)}, "gpu4": {"ckpt": (1, 1)}})
    mirror = tmp_path / ".hosts/gpu1/outputs/ckpt"
    mirror.parent.mkdir(parents=True)
    mirror.write_text("x")
    os.utime(mirror, ns=(1, 1))
    both, gone_on = ["gpu3", "gpu4"], {"ckpt": 3}
    kept = store_as_run(tmp_path, ("gpu4", Agent(), {"ckpt": 1}), current=both)
    bad = store_as_run(tmp_path, ("gpu3", Agent(bad="ckpt"), gone_on), current=both, done=["gpu4"])
    for found in (kept, bad):
        assert [(one.name, one.host, one.size) for one in found.files] == [("ckpt", "gpu1", 1)]
    found = store_as_run(tmp_path, ("gpu3", Agent(), gone_on), current=both, done=["gpu4"])
    assert [(one.name, one.host, one.size) for one in found.files] == [("ckpt", "gpu3", 3)]
    old = store_as_run(tmp_path, ("gpu4", Agent(), {"ckpt": 1}), current=both, done=["gpu3"])
    assert old.files == found.files, "what the other has left alone is not newer"


def test_what_a_host_wrote_beside_a_lost_one_has_its_own_name(
    tmp_path: Path, objects: Objects
) -> None:
    """Both were given the file of an earlier run: neither has what the other wrote."""
    note(tmp_path, {"gpu1": {"log": (1, 1)}, "gpu2": {"log": (1, 1)}})
    store_as_run(tmp_path, ("gpu1", Agent(), {"log": 2}), current=["gpu1", "gpu2"])
    found = store_as_run(tmp_path, ("gpu2", Agent(), {"log": 3}))
    assert {one.name: (one.host, one.size) for one in found.files} == {
        "log": ("gpu1", 2),
        "log@gpu2": ("gpu2", 3),
    }


def store_as_run(
    folder: Path,
    *hosts: tuple[str, Agent, Mapping[str, int]],
    current: Sequence[str] = (),
    done: Sequence[str] = (),
) -> Stored:
    """Store the outputs of hosts that take part in a run, which has lost all but those and the
    ``current`` ones; ``done`` have stored what they have."""
    agents = {host: agent for host, agent, _ in hosts}
    found = {host: listed(files) for host, _, files in hosts}

    async def all_of_it() -> Stored:
        there = Storing(Notes(folder), JOB, folder / "calm-owl")
        own = to_store.own(folder, found, [], done, there.files)
        over = to_store.handed_over(folder, own, current or list(agents), there.files)
        await there.store_all([(host, agents[host], its) for host, its in own.items()], over)  # type: ignore[misc]
        await there.conclude({})
        return there.stored

    return asyncio.run(all_of_it())


def note(folder: Path, given: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
    """Note what hosts were given."""
    (folder / "given.json").write_text(json.dumps(given))
