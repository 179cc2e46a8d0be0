"""The console answers its owner, about runs, with what nobody else may read or a browser may run."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.routing import Route
from starlette.testclient import TestClient

from launcher.api import settings
from launcher.api.client import AsyncClient
from launcher.cli.commands.ls import command as ls
from launcher.records import catalog, codec
from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request, Secret
from launcher.web import answers, app, curves, logs, stream
from launcher.web.answers import Runs
from launcher.web.guard import Session
from support import console_runs

PORT = 8770
ORIGIN = f"http://127.0.0.1:{PORT}"
VALUE = "hunter2-the-value-of-a-secret"
JSON = {"content-type": "application/json"}
LOG = "attempt-0/rank-0.out"
PRINTED = b"step 1\n\x1b[31mred\x1b[0m <script>alert(1)</script>\n\xff\xfe"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    host = Host(name="gpu1", address="10.0.0.1")
    job = Job(run=("train.py",), secrets={"KEY": Secret(VALUE)}, envs={"WANDB_API_KEY": VALUE})
    request = Request(job=job, inventory=Inventory(hosts=(host,)), hosts=(host,))
    folder = RunFolder.create()
    layout = Layout(folder.name, (Node(host, 0, 1, 0, gpus=(0,)),))

    folder.write("run.json", codec.describe_run(request, layout, 1000.0))
    folder.record(ev.StageStarted(1000.0, "run"))
    folder.record(ev.ProcessStarted(1001.0, "gpu1", 0, "rank-0", 0, 42))
    folder.record(ev.RunEnded(1002.0, "failed", "exit", None))
    log = folder.path / "logs" / LOG
    log.parent.mkdir(parents=True)
    log.write_bytes(PRINTED)
    (folder.outputs / "deep").mkdir(parents=True)
    (folder.outputs / "deep" / "page.html").write_text("<script>alert(1)</script>")
    os.symlink("/etc/passwd", folder.outputs / "link")
    os.symlink("/etc", folder.outputs / "folder")
    os.mkfifo(folder.outputs / "fifo")
    folder.close()
    return folder


@pytest.fixture
def session() -> Session:
    return Session(PORT)


@pytest.fixture
def stranger(session: Session) -> TestClient:
    return TestClient(app.Console(session).app(), base_url=ORIGIN)


@pytest.fixture
def owner(stranger: TestClient, session: Session) -> TestClient:
    assert stranger.post("/session", json={"code": session.code}).status_code == 204
    return stranger


def test_the_code_opens_the_console_once(stranger: TestClient, session: Session) -> None:
    code = session.code
    assert stranger.get("/api/runs").status_code == 401
    assert stranger.post("/session", json={"code": "x" * 43}).status_code == 401
    answer = stranger.post("/session", json={"code": code})
    cookie = answer.headers["set-cookie"].lower()
    assert f"launcher-console-{PORT}=" in cookie
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert code not in answer.headers["set-cookie"]
    assert stranger.get("/api/runs").status_code == 200
    stranger.cookies.clear()
    assert stranger.post("/session", json={"code": code}).status_code == 401


def test_programs_ask_with_the_token(
    run: RunFolder, stranger: TestClient, session: Session
) -> None:
    name, _, right = session.header.partition(": ")
    for wrong in (right[:-1], right.upper(), right.replace("Bearer", "Basic"), "", "é"):
        answer = stranger.get("/api/runs", headers={name: wrong.encode()})
        assert answer.status_code == 401, wrong
        assert "read ~/.launcher/console-8770.header again" in answer.json()["error"]
    answer = stranger.get("/api/runs", headers={name: right})
    assert [one["run"] for one in answer.json()["runs"]] == [run.name]
    at, own = f"/api/runs/{run.name}/delete", {name: right}
    for others in ({"origin": "http://127.0.0.1:1"}, {"host": "evil.example"}):
        assert stranger.post(at, json={}, headers={**own, **others}).status_code in (403, 421)
    answer = stranger.post(at, json={"force": True}, headers=own)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"", b"[", b"[1]", b'{"code": 7}', b"[" * 1000, '"é"'.encode()])
def test_an_odd_body_opens_nothing(stranger: TestClient, body: bytes) -> None:
    assert stranger.post("/session", content=body, headers=JSON).status_code in (400, 401)
    assert stranger.get("/api/runs").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:1"}, 421),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ORIGIN}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_other_pages_and_names_are_refused(
    run: RunFolder, owner: TestClient, session: Session, headers: dict[str, str], status: int
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in owner.cookies.items())
    assert owner.get("/api/runs", headers={"cookie": cookie, **headers}).status_code == status


def test_what_writes_is_asked_for_by_this_page_alone(run: RunFolder, owner: TestClient) -> None:
    at = f"/api/runs/{run.name}/stop"
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert owner.request(method, at).status_code == 405
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert owner.post(at, content=b"{}", headers={"content-type": kind}).status_code == 415
    for headers in ({"origin": "http://127.0.0.1:1"}, {"sec-fetch-site": "same-site"}):
        assert owner.post(at, json={}, headers=headers).status_code == 403
    assert owner.get(at).status_code == 405
    assert owner.post("/session", json={"code": "x" * 5000}).status_code == 413
    assert owner.post(at, content=b"x" * 70_000, headers=JSON).status_code == 413
    for body in (b"[", b"[]", b'{"grace": true}', b'{"grace": -1}', b'{"grace": "x"}'):
        assert owner.post(at, content=body, headers=JSON).status_code == 400, body
    owner.cookies.clear()
    assert owner.post(at, json={}).status_code == 401
    assert not (run.path / "stop.json").exists()


def _writes(run: str) -> list[str]:
    """Return an address of each route that changes something."""
    routes = app.Console(Session(PORT)).routes()
    paths = [one.path for one in routes if "POST" in (one.methods or ()) and one.path != "/session"]
    return [path.replace("{run}", run).replace("{", "").replace("}", "") for path in paths]


def test_every_address_that_writes_refuses_other_pages_and_strangers(
    run: RunFolder, owner: TestClient
) -> None:
    addresses = _writes(run.name)
    assert len(addresses) >= 7
    for at in addresses:
        for headers in (
            {"origin": "http://127.0.0.1:1"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"host": "evil.example"},
        ):
            assert owner.post(at, json={}, headers=headers).status_code in (403, 421), at
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert owner.post(at, content=b"a=b", headers=form).status_code == 415, at
        assert owner.get(at).status_code in (404, 405), at
        assert owner.post(at, content=b"x" * 70_000, headers=JSON).status_code == 413, at
    owner.cookies.clear()
    for at in addresses:
        assert owner.post(at, json={}).status_code == 401, at
    assert run.path.exists()


def test_a_request_says_once_where_it_is_from_and_little(owner: TestClient) -> None:
    twice = [("origin", ORIGIN), ("origin", "http://evil.example")]
    assert owner.get("/api/runs", headers=twice).status_code == 403
    assert owner.get("/api/runs", headers={"x-much": "a" * 20_000}).status_code == 431
    assert owner.get("/api/runs?text=" + "a" * 20_000).status_code == 431
    assert owner.get("/api/runs?text=" + "a" * 2_000).status_code == 200


def test_reservations_are_those_of_the_command(
    run: RunFolder, owner: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def reserve(self: object, *words: Any, **options: Any) -> Any:
        asked.append((words, options))
        return SimpleNamespace(name="reserved-1")

    monkeypatch.setattr(AsyncClient, "reserve", reserve)
    monkeypatch.setenv("XDG_CONFIG_HOME", os.environ["LAUNCHER_HOME"])
    settings.set_user_value("project", "vision")
    given = {"gpus": "A100:4", "for": "90m", "hosts": "", "at": "", "note": "a demo"}
    answer = owner.post("/api/reservations", json=given)
    assert (answer.status_code, answer.json()) == (201, {"run": "reserved-1"})
    (words, options), *_ = asked
    assert words == ("A100:4", 5400.0, None)
    assert options == {"at": None, "wait": None, "note": "a demo", "project": "vision"}
    for name, text, told in (
        ("for", "soon", "for: "),
        ("for", "", "for: "),
        ("at", "26:00", "at: "),
    ):
        answer = owner.post("/api/reservations", json={**given, name: text})
        assert answer.status_code == 400 and answer.json()["error"].startswith(told)
    assert owner.post("/api/reservations", json={**given, "gpus": 4}).status_code == 400
    assert len(asked) == 1


def test_read_only(run: RunFolder) -> None:
    session = Session(PORT, read_only=True)
    reader = TestClient(app.Console(session).app(), base_url=ORIGIN)
    assert reader.post("/session", json={"code": session.code}).status_code == 204
    assert reader.get("/api/console").json()["read_only"] is True
    for at in _writes(run.name):
        answer = reader.post(at, json={})
        assert answer.status_code == 403 and "--read-only" in answer.json()["error"], at
    assert run.path.exists()


def test_stopping_asks_the_follower_and_says_what_cannot_be_stopped(
    run: RunFolder, owner: TestClient
) -> None:
    running = console_runs.begin("long")
    with owner:  # the same loop for both requests
        for asked in (1, 2):
            answer = owner.post(f"/api/runs/{running.name}/stop", json={"grace": 3})
            assert answer.status_code == 202, answer.text
            wish = json.loads((running.path / "stop.json").read_text())
            assert (wish["asked"], wish["grace"]) == (asked, 3.0)
        console_runs.succeed(running)
        answer = owner.post(f"/api/runs/{running.name}/stop", json={})
    assert answer.status_code == 400 and answer.json()["hint"] == "there is nothing to stop"
    assert owner.post("/api/runs/lon/stop", json={}).status_code == 404  # no beginnings of names


def test_a_run_that_is_followed_or_damaged(run: RunFolder, owner: TestClient) -> None:
    running = console_runs.begin("long")
    answer = owner.post(f"/api/runs/{running.name}/delete", json={})
    assert answer.status_code == 400 and "launcher stop" in answer.json()["hint"]
    running.close()
    (running.path / "run.json").write_text("[")
    answer = owner.post(f"/api/runs/{running.name}/delete", json={})
    assert answer.json() == {"deleted": True, "not_brought": []}
    assert not running.path.exists()


def test_running_again_needs_the_secrets(run: RunFolder, owner: TestClient) -> None:
    answer = owner.post(f"/api/runs/{run.name}/rerun", json={"arguments": ["--lr", "1"]})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "secret KEY is not set in your environment",
        "hint": "export KEY=... first",
    }
    for body in ({"arguments": "x"}, {"arguments": [1]}, {"hosts": 1}, {"from_checkpoint": 1}):
        assert owner.post(f"/api/runs/{run.name}/rerun", json=body).status_code == 400


def test_answers_bind_the_browser(run: RunFolder, owner: TestClient) -> None:
    for path in ("/", "/static/console.js", "/api/runs", "/api/nothing", "/session"):
        headers = owner.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    page = owner.get("/").text
    assert "<script>" not in page and "style=" not in page and "http" not in page


def _pattern(path: str) -> str:
    path = re.sub("(?<=/api/sweeps/).+", "{sweep}", path)
    return path.replace(LOG, "{log:path}").replace("deep/page.html", "{path:path}")


def test_no_answer_has_the_value_of_a_secret(run: RunFolder, owner: TestClient) -> None:
    other = console_runs.begin("other")
    other.close()
    at = f"/api/runs/{run.name}"
    every = [
        "/api/runs",
        at,
        f"{at}/outputs",
        f"{at}/logs/{LOG}",
        f"{at}/scalars?tag=loss",
        f"{at}/metrics",
        "/",
    ]
    every.append(f"/api/sparks?run={run.name}")
    every += [f"{at}/source", f"{at}/logs?log={LOG}", f"{at}/search?log={LOG}&text=a"]
    every += ["/api/fields", "/api/scripts", "/api/sweeps"]
    sweep = console_runs.sweep((run.name, other.name, run.name)).name
    every.append(f"/api/sweeps/{sweep}")
    every += [f"{at}/moment?log={LOG}&time=1", f"{at}/outputs.tar", "/api/console"]
    every.append(f"{at}/outputs/deep/page.html")
    every.append(f"/api/compare?run={run.name}&run={other.name}")
    tested = {re.sub(r"\?.*", "", path).replace(run.name, "{run}") for path in every}
    assert {_pattern(path) for path in tested} >= {
        route.path
        for route in app.Console(Session(PORT)).routes()
        if isinstance(route, Route) and "GET" in (route.methods or ()) and "/api/" in route.path
    } - {
        "/api/check",
        "/api/events",
        "/api/cluster",
        "/api/projects",
    }  # one never ends, the others are of hosts
    for path in every:
        answer = owner.get(path)
        assert answer.status_code == 200, path
        assert VALUE not in answer.text, path
    job = owner.get(at).json()["job"]
    assert job["secrets"] == ["KEY"] and job["env"] == ["WANDB_API_KEY"]


@pytest.mark.anyio
async def test_no_event_and_no_refusal_has_the_value_of_a_secret(
    run: RunFolder, owner: TestClient
) -> None:
    news = stream.events(Runs(), run.name, [LOG], [0])
    told = b""
    async for event in news:
        told += event
        if b"event: runs" in event:
            break
    await news.aclose()
    assert run.name.encode() in told and VALUE.encode() not in told
    for path in _writes(run.name):
        assert VALUE not in owner.post(path, json={}).text, path


def test_the_list_is_narrowed(run: RunFolder, owner: TestClient) -> None:
    other = console_runs.begin("other", project="vision", user="bob")
    for asked, names in {
        "": [run.name, other.name],
        "user=bob": [other.name],
        "user=bo": [],
        "project=vision": [other.name],
        "project=": [run.name],
        "status=failed": [run.name],
        "status=failed&project=vision": [],
        "text=TRAIN+other": [other.name],
    }.items():
        found = owner.get(f"/api/runs?{asked}").json()["runs"]
        assert sorted(one["run"] for one in found) == sorted(names), asked
    (told,) = owner.get("/api/runs?user=bob").json()["runs"]
    assert told["users"] == ["bob"]
    listed = CliRunner().invoke(ls, ["--json", "--no-refresh", "--user", "bob"])
    assert [(one["run"], one["users"]) for one in json.loads(listed.stdout)] == [
        (other.name, ["bob"])
    ]
    other.close()


def test_a_run_and_its_log(run: RunFolder, owner: TestClient) -> None:
    assert [one["run"] for one in owner.get("/api/runs").json()["runs"]] == [run.name]
    value = owner.get(f"/api/runs/{run.name}").json()
    assert (value["status"], value["ended"], value["hosts"]) == ("failed", True, ["gpu1"])
    assert value["logs"] == [{"name": LOG, "size": len(PRINTED)}]
    assert value["processes"][0]["key"] == "rank-0"
    assert value["stages"] == [["run", 1000.0, 1002.0]]
    assert (value["lost"], value["silent"], value["attempt"]) == ([], [], 0)
    for offset, start in ((0, 0), (5, 5), (-3, len(PRINTED) - 3), (-999, 0), (999, len(PRINTED))):
        answer = owner.get(f"/api/runs/{run.name}/logs/{LOG}", params={"offset": offset})
        assert answer.content == PRINTED[start:]
        assert answer.headers["launcher-offset"] == str(start)
        assert answer.headers["launcher-size"] == str(len(PRINTED))
    bad = owner.get(f"/api/runs/{run.name}/logs/{LOG}", params={"offset": "x"})
    assert bad.status_code == 400 and "offset" in bad.json()["error"]


def test_what_hosts_wrote_is_saved_and_never_shown(run: RunFolder, owner: TestClient) -> None:
    answer = owner.get(f"/api/runs/{run.name}/outputs/deep/page.html")
    assert answer.text == "<script>alert(1)</script>"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    kinds = owner.get(f"/api/runs/{run.name}/outputs").json()["entries"]
    assert {one["name"]: one["kind"] for one in kinds} == {
        "deep": "folder", "fifo": "other", "folder": "link", "link": "link",
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "{run}/outputs/link", "{run}/outputs/folder/passwd", "{run}/outputs/fifo",
        "{run}/outputs/..%2frun.json", "{run}/outputs/%2e%2e/run.json", "{run}/outputs//etc/passwd",
        "{run}/outputs/deep", "{run}/outputs/a%00b", "{run}/outputs?path=folder",
        "{run}/outputs?path=..", "{run}/logs/..%2f..%2frun.json", "%2e%2e", "..%2f..", "nothing",
        "nothing/outputs", "{run}/logs/attempt-0", "{run}/logs/attempt-0/link.out",
        "{run}/logs/linked/passwd", "{run}/outputs.tar?path=folder", "{run}/outputs.tar?path=..",
        "{run}/search?text=root&log=attempt-0/link.out", "{run}/logs?log=linked/passwd",
    ],
)  # fmt: skip
def test_no_path_leaves_the_run(run: RunFolder, owner: TestClient, path: str) -> None:
    (run.path / "logs" / "attempt-0" / "link.out").symlink_to("/etc/passwd")
    (run.path / "logs" / "linked").symlink_to("/etc")
    answer = owner.get("/api/runs/" + path.format(run=run.name))
    assert answer.status_code == 404, answer.text
    assert "root:" not in answer.text


def test_a_folder_of_a_run_that_is_a_link_is_not_followed(
    run: RunFolder, owner: TestClient, tmp_path: Path
) -> None:
    (run.path.parent / "linked").symlink_to(run.path)
    assert owner.get("/api/runs/linked").status_code == 404
    assert len(owner.get("/api/runs").json()["runs"]) == 1


def test_a_damaged_run_stands_in_the_list(run: RunFolder, owner: TestClient) -> None:
    (run.path / "run.json").write_text('{"version": 1, "nodes": 7}')
    assert owner.get("/api/runs").json()["runs"][0]["status"] == "unreadable"
    (run.path / "receipt.json").write_text("[")
    answer = owner.get(f"/api/runs/{run.name}")
    assert answer.status_code == 409 and "receipt.json" in answer.json()["error"]


def test_scalars_come_with_the_points_of_those_asked_for(
    run: RunFolder, owner: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"/api/runs/{run.name}/scalars"
    assert owner.get(at).json() == {"whole": True, "scalars": []}
    console_runs.printed(run, 0, console_runs.steps(0, 50))
    (named,) = owner.get(at).json()["scalars"]
    assert (named["tag"], named["source"], named["count"]) == ("loss", "rank 0", 50)
    assert "values" not in named
    (curve,) = owner.get(at, params={"tag": "loss", "points": 10}).json()["scalars"]
    assert curve["steps"][0] == 0 and curve["steps"][-1] == 49 and len(curve["steps"]) <= 11
    assert len(curve["values"]) == len(curve["times"]) == len(curve["steps"])
    assert owner.get("/api/runs/nothing/scalars").status_code == 404
    monkeypatch.setattr(curves, "KEPT", 0)
    assert len(owner.get(at).json()["scalars"]) == 1


def test_the_list_gets_losses_in_little(
    run: RunFolder, owner: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded part of each, and of runs that have ended only once."""
    goes_on = console_runs.begin("other")
    console_runs.printed(run, 0, console_runs.steps(0, 500))
    console_runs.printed(goes_on, 0, b"lr=1 step 1\n")

    def asked(*names: str) -> dict[str, Any]:
        answer: dict[str, Any] = owner.get("/api/sparks", params={"run": names}).json()["sparks"]
        return answer

    monkeypatch.setattr("launcher.web.answers.FRESH", -1.0)
    monkeypatch.setattr("launcher.web.sparks.PATIENCE", 600.0)
    found = asked(run.name, goes_on.name, "nothing", "..")
    assert found.keys() == {run.name, goes_on.name}
    assert found[goes_on.name] == {
        "tag": "",
        "values": [],
        "whole": True,
        "line": "lr=1 step 1",
        "progress": None,
    }
    assert (found[run.name]["tag"], found[run.name]["whole"]) == ("loss", True)
    assert 16 < len(found[run.name]["values"]) <= 33
    assert found[run.name]["values"][-1] < found[run.name]["values"][0]
    console_runs.printed(goes_on, 0, b"\x1b]0;title\x07loss=3 step 2/8\n")
    console_runs.printed(run, 0, b"loss=999 step 501\n")
    again = asked(run.name, goes_on.name)
    assert again[goes_on.name]["values"] == [3.0]
    assert again[goes_on.name]["line"] == "loss=3 step 2/8"
    assert again[goes_on.name]["progress"] == 0.25
    assert again[run.name] == found[run.name], "it has ended"
    goes_on.close()
    monkeypatch.setattr("launcher.web.sparks.PATIENCE", -1.0)
    assert asked(run.name, goes_on.name) == {run.name: found[run.name]}, (
        "there was no time for more"
    )


def test_metrics_come_by_host_and_gpu(run: RunFolder, owner: TestClient) -> None:
    at = f"/api/runs/{run.name}/metrics"
    assert owner.get(at).json() == {"whole": True, "scalars": []}
    console_runs.measured(run, 100)
    found = owner.get(at, params={"tag": "GPU use, %"}).json()["scalars"]
    assert [one["source"] for one in found[:2]] == ["gpu1 GPU 0", "gpu1 GPU 1"]
    assert len(found[0]["values"]) == 20
    assert "values" not in found[-1]
    assert owner.get("/api/runs/nothing/metrics").status_code == 404


def test_what_differs_between_runs(run: RunFolder, owner: TestClient) -> None:
    names = []
    for rate in ("0.1", "0.2"):
        folder = console_runs.begin("lr", 1000.0, "--lr", rate)
        folder.close()
        names.append(folder.name)
    value = owner.get("/api/compare", params={"run": names}).json()
    assert [one["arguments"] for one in value["runs"]] == [["--lr", "0.1"], ["--lr", "0.2"]]
    (against,) = value["differences"]
    assert against["run"] == names[1]
    assert {"what": "arguments", "before": "--lr 0.1", "after": "--lr 0.2"} in against[
        "differences"
    ]
    for names, status in (([], 400), (["a"] * 13, 404), ([f"{n}" for n in range(13)], 400)):
        assert owner.get("/api/compare", params={"run": names}).status_code == status
    assert owner.get("/api/compare", params={"run": "../runs"}).status_code == 404


def test_what_others_wrote_is_as_they_published_it() -> None:
    folder = Path(app.__file__).parent / "static" / "vendor"
    packages = tomllib.loads((folder / "vendor.toml").read_text())
    known = {name: value for one in packages.values() for name, value in one["sha256"].items()}
    for path in folder.iterdir():
        if path.name != "vendor.toml":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == known.pop(path.name)
    assert not known


def test_the_ends_of_logs_in_the_order_in_which_they_came(
    run: RunFolder, owner: TestClient
) -> None:
    at, names = f"/api/runs/{run.name}", ["attempt-0/rank-1.out", "attempt-0/rank-2.out"]
    console_runs.printed(run, 1, b"one\nthree\n")
    console_runs.printed(run, 2, b"two\nfour\n")
    lines = [(10.0, names[0], 4), (11.0, names[1], 4), (12.0, names[0], 10), (13.0, names[1], 9)]
    (run.path / "times.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    value = owner.get(f"{at}/logs", params={"log": names}).json()
    assert value["next"] == [10, 9]
    pieces = [(one["when"], base64.b64decode(one["data"])) for one in value["pieces"]]
    assert pieces == [(10.0, b"one\n"), (11.0, b"two\n"), (12.0, b"three\n"), (13.0, b"four\n")]
    for moment, offset in ((9, 0), (10, 4), (99, 10)):
        asked = {"log": names[0], "time": moment}
        assert owner.get(f"{at}/moment", params=asked).json() == {"offset": offset}
    assert owner.get(f"{at}/logs", params={"log": ["x"] * 65}).status_code == 400
    assert owner.get(f"{at}/logs", params={"log": "../run.json"}).status_code == 404


def test_a_whole_log_is_searched(
    run: RunFolder, owner: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"/api/runs/{run.name}/search"
    log = {"log": "attempt-0/rank-3.out"}
    console_runs.printed(run, 3, b"".join(b"line %d\n" % n for n in range(1000)) + b"LINE last")
    monkeypatch.setattr(logs, "PIECE", 100)
    every, offset = [], 0
    while offset is not None:
        value = owner.get(at, params={**log, "text": "Line", "offset": offset}).json()
        assert len(value["found"]) <= logs.FOUND
        every += value["found"]
        offset = value["next"]
    assert [one["line"] for one in every] == [*(f"line {n}" for n in range(1000)), "LINE last"]
    start = every[500]["offset"]
    read = owner.get(f"/api/runs/{run.name}/logs/{log['log']}", params={"offset": start})
    assert read.content.startswith(b"line 500\n")
    monkeypatch.setattr(logs, "SEARCHED", 300)
    assert owner.get(at, params={**log, "text": "nothing"}).json()["next"] in range(300, 400)
    assert owner.get(at, params=log).status_code == 400


def test_outputs_as_one_archive(run: RunFolder, owner: TestClient) -> None:
    (run.outputs / "empty").write_bytes(b"")
    (run.outputs / ("long" * 50)).write_bytes(b"x" * 1000)
    answer = owner.get(f"/api/runs/{run.name}/outputs.tar")
    assert answer.headers["content-disposition"].endswith(f"{run.name}-outputs.tar")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        names = sorted(archive.getnames())
        page = archive.extractfile(f"{run.name}/deep/page.html")
        assert page and page.read() == b"<script>alert(1)</script>"
    assert names == [f"{run.name}/{one}" for one in ("deep/page.html", "empty", "long" * 50)]
    for path in ("folder", "..", "nothing"):
        answer = owner.get(f"/api/runs/{run.name}/outputs.tar", params={"path": path})
        assert answer.status_code == 404, path
    part = owner.get(f"/api/runs/{run.name}/outputs.tar", params={"path": "deep"})
    with tarfile.open(fileobj=io.BytesIO(part.content)) as archive:
        assert archive.getnames() == [f"{run.name}/deep/page.html"]


def test_what_a_run_was_started_with(run: RunFolder, owner: TestClient) -> None:
    run.write("code.json", {"commit": "a" * 40, "branch": "main", "dirty": True})
    run.write_bytes("code.diff", b"+ new\n")
    value = owner.get(f"/api/runs/{run.name}/source").json()
    assert (value["branch"], value["diff"], value["diff_is_whole"]) == ("main", "+ new\n", True)
    assert value["job"]["envs"] == {"WANDB_API_KEY": "(not shown)"}
    assert value["job"]["secrets"] == ["KEY"] and value["again"] == f"launcher rerun {run.name}"


def test_sweeps(run: RunFolder, owner: TestClient) -> None:
    assert owner.get("/api/sweeps").json() == {"sweeps": []}
    folder = console_runs.sweep(("one", "other", run.name))
    (line,) = owner.get("/api/sweeps").json()["sweeps"]
    assert (line["trials"], line["succeeded"], line["running"]) == (8, 5, 1)
    assert (line["best"], line["best_run"], line["is_running"]) == (0.9, "lr-t3", False)
    one = owner.get(f"/api/sweeps/{folder.name}").json()
    assert [trial["id"] for trial in one["ranked"]] == ["t3", "t2", "t4", "t1", "t0", "t5"]
    assert one["ranked"][0]["params"] == {"lr": "0.01", "batch": "64", "optimizer": "sgd"}
    with folder.held():
        assert owner.post(f"/api/sweeps/{folder.name}/stop", json={}).status_code == 202
        assert folder.is_stopping
    for name in ("lr", "-", "..%2f..", "nothing"):
        assert owner.get(f"/api/sweeps/{name}").status_code == 404, name
    (folder.path / "sweep.json").write_text("[")
    assert "sweep.json" in owner.get("/api/sweeps").json()["sweeps"][0]["problem"]
    assert owner.get(f"/api/sweeps/{folder.name}").status_code == 409


@pytest.mark.anyio
async def test_the_stream_resumes_at_the_exact_byte(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PIECE", 7)
    monkeypatch.setattr(stream, "EVERY", 0.01)
    log = run.path / "logs" / LOG
    whole, offset = b"", 3
    for _ in range(4):  # the page goes and comes back after each piece
        news = stream.events(Runs(), run.name, [LOG], [offset])
        async for event in news:
            if b"event: log" in event:
                fields = dict(line.split(b": ", 1) for line in event.strip().split(b"\n"))
                value = json.loads(fields[b"data"])
                assert value["offset"] == offset
                whole += base64.b64decode(value["data"])
                offset = int(fields[b"id"])
                break
        await news.aclose()
    assert whole == PRINTED[3 : 3 + 28]
    news = stream.events(Runs(), run.name, [LOG], [offset])
    with log.open("ab") as file:
        file.write(b"more")
    seen = b""
    async for event in news:
        if b"event: log" in event:
            seen += event
            if str(len(PRINTED) + 4).encode() in event:
                break
    await news.aclose()


@pytest.mark.anyio
async def test_a_page_is_told_of_a_changed_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "EVERY", 0.01)
    monkeypatch.setattr(stream, "LATELY", -1000)
    news = stream.events(Runs(), "", [], [])
    assert b"retry" in await anext(news)
    assert b'"runs": [], "gone": [], "all": 1' in await anext(news)
    with (run.path / "events.jsonl").open("a") as file:
        file.write("\n")
    async for event in news:
        if b"event: runs" in event:
            break
    await news.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("lately", [1000, -1000])
async def test_what_changed_while_a_page_opened_its_stream_is_told(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, lately: float
) -> None:
    """A page asks for its values just before the stream looks: what came between was told by none."""
    monkeypatch.setattr(stream, "EVERY", 0.01)
    monkeypatch.setattr(stream, "LATELY", lately)
    for shown in ("", run.name):
        async with aclosing(stream.events(Runs(), shown, [], [])) as news:
            assert b"retry" in await anext(news)
            told = await anext(news)
        assert b'"all": 1}' in told  # one that was deleted meanwhile is told of by its absence
        assert (f'"run": "{run.name}"'.encode() in told) is (lately > 0 or shown == run.name)


@pytest.mark.anyio
async def test_a_stream_beats_while_a_look_takes_long(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page takes a stream without a beat for one that hangs."""
    monkeypatch.setattr(stream, "EVERY", 0.01)
    runs, go = Runs(), threading.Event()
    monkeypatch.setattr(runs, "stamps", lambda: go.wait(60) and {})
    async with aclosing(stream.events(runs, "", [], [])) as news, asyncio.timeout(20):
        try:
            assert b"retry" in await anext(news)
            assert await anext(news) == stream.BEAT
        finally:
            go.set()


def test_pages_that_list_runs_at_the_same_time_read_each_once(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, read, summary = Runs(), [], catalog.summary
    together = threading.Barrier(2)

    def slow(path: Path) -> catalog.Summary:
        read.append(path)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        return summary(path)

    monkeypatch.setattr(catalog, "summary", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: runs.lines(), range(3)))
    assert [[line["run"] for line in lines] for lines in found] == [[run.name]] * 3
    assert read == [run.path]


def test_a_run_that_is_deleted_while_a_stream_looks_breaks_nothing(run: RunFolder) -> None:
    runs = Runs()
    now = runs.stamps()
    told = stream._changes(runs, {}, {**now, "gone-0000": ((1, 1),)})
    assert run.name.encode() in told


@pytest.mark.anyio
async def test_a_page_is_told_that_nobody_follows_a_run_any_more(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher that is killed leaves all files as they are."""
    monkeypatch.setattr(stream, "EVERY", 0.01)
    monkeypatch.setattr(answers, "FRESH", 0.0)
    held = console_runs.begin("long")
    runs = Runs()
    assert runs.line(held.name)["followed"]
    async with aclosing(stream.events(runs, "", [], [])) as news, asyncio.timeout(20):
        async for event in news:
            if b"event: runs" in event:  # it has looked
                break
        held.close()
        event = await anext(one async for one in news if b"event: runs" in one)
    told = json.loads(event.partition(b"data: ")[2])["runs"]
    assert [(one["run"], one["followed"]) for one in told] == [(held.name, False)]


@pytest.mark.anyio
async def test_one_stream_has_several_logs_and_resumes_each(run: RunFolder) -> None:
    console_runs.printed(run, 1, b"one")
    names = [LOG, "attempt-0/rank-1.out", "attempt-0/rank-9.out"]
    news = stream.events(Runs(), run.name, names, stream.resumed("", [0, 1, 0]))
    found: list[tuple[str, bytes]] = []
    async for event in news:
        if b"event: log" in event:
            fields = dict(line.split(b": ", 1) for line in event.strip().split(b"\n"))
            value = json.loads(fields[b"data"])
            found.append((value["log"], base64.b64decode(value["data"])))
            if len(found) == 2:
                break
    await news.aclose()
    assert found == [(LOG, PRINTED), (names[1], b"ne")]
    assert fields[b"id"].decode() == f"{len(PRINTED)},3,0"
    assert stream.resumed(fields[b"id"].decode(), [0, 1, 0]) == [len(PRINTED), 3, 0]
    for odd in ("1,2", "x,1,2", "1,2,3,4", "9" * 30 + ",1,1"):
        assert stream.resumed(odd, [0, 1, 0]) == [0, 1, 0]


def test_few_streams_at_once(
    run: RunFolder, owner: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner.get("/api/console").json()["full"] == ""
    monkeypatch.setattr(app, "STREAMS", 0)
    assert owner.get("/api/events").status_code == 503
    assert "close one" in owner.get("/api/console").json()["full"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def shares(tmp_path: Path, session: Session) -> tuple[Path, TestClient]:
    """An inventory with a project, as an editor of Windows writes it, and its console."""
    file = tmp_path / "lab.yaml"
    lines = ("hosts: [gpu1, gpu2]", "projects:", "  vision: {quota: 2, users: [ann]}", "")
    file.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    file.chmod(0o640)
    console = TestClient(app.Console(session, AsyncClient(file)).app(), base_url=ORIGIN)
    assert console.post("/session", json={"code": session.code}).status_code == 204
    return file, console


def test_a_quota_is_written_once_its_change_was_seen(shares: tuple[Path, TestClient]) -> None:
    file, console = shares
    before = file.read_bytes()
    asked = {"quota": 3, "limit": 4}
    told = console.post("/api/projects/vision", json=asked).json()
    assert "+  vision: {quota: 3, limit: 4, users: [ann]}" in told["diff"].splitlines()
    assert (told["written"], file.read_bytes()) == (False, before)
    another = console.post("/api/projects/vision", json={"quota": 60, "seen": told["seen"]})
    assert (another.status_code, file.read_bytes()) == (400, before)
    done = console.post("/api/projects/vision", json={**asked, "seen": told["seen"]})
    assert done.json()["written"], done.text
    assert file.read_bytes() == before.replace(b"quota: 2", b"quota: 3, limit: 4")
    assert file.stat().st_mode & 0o777 == 0o640
    for other in (asked, {"quota": 9}):
        again = console.post("/api/projects/vision", json={**other, "seen": told["seen"]})
        assert again.status_code == 400 and "that was seen" in again.json()["error"]


@pytest.mark.parametrize(
    ("project", "given", "says"),
    [
        ("vision", {}, "quota must be a whole number"),
        ("vision", {"quota": None}, "quota must be a whole number"),
        ("vision", {"quota": 1.5}, "quota must be a whole number"),
        ("vision", {"quota": -1}, "quota must be a number from 0"),
        ("vision", {"quota": 1 << 20}, "quota must be a number from 0"),
        ("vision", {"quota": True}, "quota must be a number from 0"),
        ("vision", {"quota": 3, "limit": 2}, "a limit of 2 is less than a quota of 3"),
        ("visoin", {"quota": 3}, "project visoin: there is no such project"),
    ],
)
def test_a_quota_that_cannot_be_is_refused(
    shares: tuple[Path, TestClient], project: str, given: dict[str, Any], says: str
) -> None:
    file, console = shares
    before = file.read_bytes()
    answer = console.post(f"/api/projects/{project}", json=given)
    assert answer.status_code == 400 and says in answer.json()["error"], answer.text
    assert file.read_bytes() == before
