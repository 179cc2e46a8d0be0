"""64 hosts on one screen."""

from __future__ import annotations

import click
import pytest

from launcher.cli.commands.ls import running_text
from launcher.cli.render.folding import fold_errors
from launcher.cli.render.receipt import receipt_text
from launcher.records.receipt import FirstFailure, HostReceipt
from launcher.spec.errors import AuthenticationFailed, HostError, Unreachable
from support.receipts import failed_receipt


def host(number: int, code: int, **more: object) -> HostReceipt:
    return HostReceipt(
        host=f"node{number:02d}",
        node_rank=number,
        ranks=(number,),
        gpus=(),
        gpus_used=None,
        exit_codes={f"rank-{number}": code},
        logs_here=9 + number,
        logs_there=9 + number,
        logs_complete=True,
        left=more.get("left", 0),  # type: ignore[arg-type]
        verified="",
        scanned=3,
        problem=str(more.get("problem", "")),
    )


def shown(hosts: list[HostReceipt], width: int, failed: str = "") -> list[str]:
    failure = FirstFailure(failed, "rank-37", 37, 1, "exited with 1", 0.0) if failed else None
    receipt = failed_receipt(world_size=64, hosts=tuple(hosts), failure=failure)
    return click.unstyle(receipt_text(receipt, width)).splitlines()


@pytest.mark.parametrize("width", [80, 200])
def test_the_host_that_failed_comes_first(width: int) -> None:
    """It was not among the 16 that were listed."""
    lines = shown([host(n, 1 if n == 37 else -15) for n in range(64)], width, "node37")
    rows = [line.split() for line in lines if line.startswith("  node")]
    assert [row[:4] for row in rows] == [
        ["node37", "37", "-", "1"],
        ["node[00-36,38-63]", "0-36,38-63", "-", "SIGTERM"],
    ]
    assert max(map(len, lines)) <= width


def test_a_wide_terminal_shows_all_names_of_a_row() -> None:
    """Every eighth host failed: the sets are longer than what 80 columns have for them."""
    hosts = [host(n, 1 if n % 8 == 0 else -15) for n in range(64)]
    for width, is_whole in ((80, False), (230, True)):
        lines = [line for line in shown(hosts, width) if line.startswith("  node")]
        assert len(lines) == 2
        assert any("…" in line for line in lines) is not is_whole
        assert max(map(len, lines)) <= width


def test_hosts_that_nobody_reached_are_one_line_each_kind() -> None:
    hosts = [host(n, 0) for n in range(40)]
    hosts += [host(n, 0, left=None, problem="host-unreachable") for n in range(40, 64)]
    lines = shown(hosts, 80)
    assert sum("unreachable: processes may still run" in line for line in lines) == 1
    assert any(line.startswith("checked  node[40-63] unreachable") for line in lines)
    assert len(lines) < 15


def test_few_hosts_have_a_row_each() -> None:
    rows = [line for line in shown([host(n, 0) for n in range(4)], 80) if line.startswith("  node")]
    assert len(rows) == 4


def test_equal_errors_are_one_and_an_odd_one_stays() -> None:
    errors: list[HostError] = [
        AuthenticationFailed(f"node{n:02d}", f"root@10.0.0.{n} was refused", "ssh-add")
        for n in range(63)
    ]
    found = fold_errors([*errors, Unreachable("node63", "no answer")])
    assert [(one.text, one.hint) for one in found] == [
        ("node[00-62]: root@10.0.0.0 was refused (as node00 says)", "ssh-add"),
        ("node63: no answer", ""),
    ]


def test_one_run_on_64_hosts_is_one_row() -> None:
    running = [
        {"host": f"node{n:02d}", "user": "ann", "run": "big-1", "gpus": [0, 1], "since": 100.0 - n}
        for n in range(64)
    ]
    running.append({"host": "node07", "user": "bob", "run": "x-2", "gpus": [], "since": 90.0})
    rows = [line.split() for line in running_text(running, 160.0).splitlines()[1:]]
    assert rows == [
        ["node07", "bob", "x-2", "-", "1", "min"],
        ["node[00-63]", "ann", "big-1", "0-1", "2", "min"],
    ]
