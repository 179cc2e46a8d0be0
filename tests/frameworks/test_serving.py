"""vLLM serves a model whose halves are on two hosts without GPUs: the example, as it is."""

from __future__ import annotations

import json
import re
import signal
import urllib.request

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher
from support.lab import wait_until

pytestmark = pytest.mark.timeout(600)


def _ask(url: str) -> dict[str, object]:
    body = json.dumps({"model": "tiny", "prompt": "we go up", "max_tokens": 5}).encode()
    kind = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, kind), timeout=180) as answer:
        found: dict[str, object] = json.load(answer)
        return found


@pytest.mark.parametrize("of", ["vllm"], indirect=True)
def test_vllm_answers_from_two_hosts(of: Launcher, clean: labs.Lab) -> None:
    started = of.run("-d", str(ROOT / "examples" / "vllm_serve" / "cpu.yaml"))
    assert started.code == 0, started.err
    name = started.folder.name
    logs = started.folder / "logs" / "attempt-0"

    def serves() -> bool:
        assert not (started.folder / "receipt.json").exists(), of.call("logs", name).stdout[-3000:]
        log = logs / "node-0.err"
        return log.exists() and b"Application startup complete" in log.read_bytes()

    wait_until(serves, "vLLM serves", 120)
    forward = of.start_command("forward", name, "8000")
    assert forward.stderr is not None
    url = re.search(r"http://\S+", forward.stderr.readline().decode())
    assert url
    answer = _ask(f"{url[0]}/v1/completions")
    assert answer["usage"]["completion_tokens"] == 5, answer  # type: ignore[index]
    forward.send_signal(signal.SIGINT)
    forward.communicate(timeout=60)
    for rank in (0, 1):  # each host has its half
        assert f"(Worker_TP{rank} " in (logs / f"node-{rank}.out").read_text()
    receipt = json.loads(of.call("stop", name, "--json").stdout)
    assert receipt["status"] == "stopped"  # vLLM exits with 0 then, where it is quick enough
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
