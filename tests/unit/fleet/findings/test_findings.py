"""Judging, without hosts: what a lab cannot show, and the words of findings."""

from __future__ import annotations

import ast
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import launcher.fleet.findings
from launcher.agent.host import reachability
from launcher.agent.host.echo_server import EchoServer
from launcher.fleet.findings import CODES, LEVELS, Finding, fold, found, of_error, suggested
from launcher.fleet.findings.group import clocks, gpus_text, of_group
from launcher.fleet.findings.host import of_host
from launcher.fleet.findings.pair import SILENT, of_pairs
from launcher.fleet.findings.survey import (
    GpuUser,
    Interface,
    PairTest,
    Software,
    Survey,
)
from launcher.spec import errors
from launcher.spec.model import Gpu, Host
from support.surveys import survey

_CODE = r"SMOKE|[A-Z]+(-[A-Z]+)+"


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_every_code_that_is_used_is_registered_and_every_registered_one_is_used() -> None:
    package = Path(launcher.fleet.findings.__file__).parent
    used = set()
    smoke = package.parent.parent / "runner" / "smoke.py"
    for path in [*package.glob("*.py"), *(package.parent / "check").glob("*.py"), smoke]:
        for part in ast.parse(path.read_text()).body:
            if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "CODES":
                continue
            texts = [n.value for n in ast.walk(part) if isinstance(n, ast.Constant)]
            used |= {t for t in texts if isinstance(t, str) and re.fullmatch(_CODE, t)}
    assert used == set(CODES)
    assert {level for level, _ in CODES.values()} <= set(LEVELS)


def test_a_healthy_host_has_no_finding() -> None:
    assert of_host(survey("a1"), Host("a1")) == []
    assert of_group([survey("a1"), survey("a2")]) == []


def test_every_error_of_a_host_is_a_finding() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.HostError):
            finding = of_error(kind("gpu1", "what", "do"))
            assert (finding.level, finding.hosts, finding.fix) == ("error", ("gpu1",), "do"), name


def test_a_torch_without_cuda_is_enough_where_no_gpu_is_used() -> None:
    there = survey("a1", facts={"gpus": (Gpu(0),)}, software=Software(torch="2.13.0+cpu"))
    assert codes(of_host(there, Host("a1"))) == ["TORCH-NO-CUDA"]
    assert of_host(there, Host("a1", gpus=0)) == []


def test_infiniband_wants_locked_memory() -> None:
    small = survey("a1", infiniband=("mlx5_0",), memlock=8 << 20)
    (finding,) = of_host(small, Host("a1"))
    assert finding.code == "LIMIT-MEMLOCK"
    assert "8192 KiB" in finding.evidence
    assert of_host(replace(small, infiniband=()), Host("a1")) == []


def test_who_uses_a_gpu_without_launcher() -> None:
    """Not a run of ours, nor whoever is on a leased GPU and cannot be looked at."""
    users = (
        GpuUser(0, 1, "me", "train", "my-run"),
        GpuUser(1, 2, "bob", "train", None),
        GpuUser(2, 3, "eve", "jupyter", None),
        GpuUser(3, 4, "eve", "jupyter", None),
    )
    gpus = tuple(Gpu(index, "H100", f"u{index}", 81559) for index in range(4))
    busy = survey("a1", facts={"gpus": gpus, "leased": {1: {"user": "bob"}}})
    busy = replace(busy, devices=replace(busy.devices, users=users))
    (finding,) = of_host(busy, Host("a1"))
    assert finding.code == "GPU-FOREIGN"
    assert finding.evidence.startswith("GPUs 2-3 are used by eve outside launcher (pid 3 jupyter)")


@pytest.mark.parametrize(
    ("offsets", "wrong"),
    [
        ({"a": 0.2, "b": -0.3}, []),
        ({"a": 90.0, "b": 0.1}, ["a"]),
        ({"a": 90.0, "b": 90.1, "c": 90.0}, ["this machine"]),
        ({"a": 90.0, "b": 90.1, "c": 0.0, "d": 90.0}, ["c"]),
        ({"a": 5.0}, ["a"]),
        ({}, []),
    ],
)
def test_the_odd_clock_is_named(offsets: dict[str, float], wrong: list[str]) -> None:
    """Also when it is ours."""
    found_clocks = clocks({host: (offset, 0.01) for host, offset in offsets.items()})
    assert [finding.hosts[0] for finding in found_clocks] == wrong


def test_a_slow_connection_makes_no_clock_wrong() -> None:
    assert clocks({"a": (2.0, 4.0)}) == []


def test_what_differs_is_folded_with_the_largest_set_first() -> None:
    old = Software(torch="2.11.0", cuda="12.8", nccl="2.20")
    gpus = (Gpu(0, "NVIDIA H100 80GB HBM3", "u", 81559),) * 2
    surveys = [survey(f"gpu{n}") for n in (1, 2, 3)] + [survey("gpu4", software=old)]
    surveys[0] = replace(surveys[0], facts=replace(surveys[0].facts, gpus=gpus))
    findings = {finding.code: finding.evidence for finding in of_group(surveys)}
    assert findings == {"SET-TORCH": "torch 2.13.0 on gpu[1-3], torch 2.11.0 on gpu4"}
    assert gpus_text(surveys[0]) == "2x H100 80GB HBM3"
    surveys[1] = replace(surveys[1], facts=replace(surveys[1].facts, gpus=gpus[:1]))
    findings = {finding.code: finding.evidence for finding in of_group(surveys)}
    assert (
        findings["SET-GPUS"] == "GPUs: 2x H100 80GB HBM3 on gpu1, GPUs: 1x H100 80GB HBM3 on gpu2"
    )


def test_a_faster_network_is_suggested() -> None:
    """Where it reaches everybody, and the inventory does not name it already."""

    def both(name: str) -> Survey:
        number = name[-1]
        interfaces = (
            Interface("eth0", f"10.0.0.{number}", 1500, 1000),
            Interface("ib0", f"10.1.0.{number}", 2044, 100_000),
        )
        return survey(name, interfaces=interfaces)

    surveys = {name: both(name) for name in ("a1", "a2")}
    tests = [
        PairTest(
            a,
            b,
            (f"10.0.0.{b[-1]}", f"10.1.0.{b[-1]}"),
            f"10.0.0.{b[-1]}",
            (f"10.0.0.{b[-1]}", f"10.1.0.{b[-1]}"),
            "eth0",
            names=(f"10.0.0.{b[-1]}",),
        )
        for a, b in (("a1", "a2"), ("a2", "a1"))
    ]
    hosts = {name: Host(name) for name in surveys}
    findings = of_pairs(tests, surveys, hosts, (1, 2))
    assert [(f.code, f.hosts, f.value) for f in findings] == [
        ("NET-INTERFACE", ("a1",), "ib0"),
        ("NET-INTERFACE", ("a2",), "ib0"),
    ]
    named = {name: Host(name, interface="ib0") for name in surveys}
    assert of_pairs(tests, surveys, named, (1, 2)) == []
    slower = [replace(test, complete=test.complete[:1]) for test in tests]
    assert of_pairs(slower, surveys, hosts, (1, 2)) == []


def test_udp_that_is_blocked_is_no_wrong_packet_size() -> None:
    surveys = {name: survey(name) for name in ("a1", "a2")}
    test = PairTest(
        "a1",
        "a2",
        ("10.0.0.2",),
        "10.0.0.2",
        ("10.0.0.2",),
        "eth0",
        mtu_expected=1500,
        round_trip=0.001,
        bandwidth=1e9,
        names=("10.0.0.2",),
    )
    hosts = {name: Host(name) for name in surveys}
    assert of_pairs([test], surveys, hosts, (1, 2)) == []
    stuck = replace(test, large=False, bandwidth=None)
    assert codes(of_pairs([stuck], surveys, hosts, (1, 2))) == ["NET-MTU"]
    tunnel = replace(test, mtu=1450)
    (finding,) = of_pairs([tunnel], surveys, hosts, (1, 2))
    assert (finding.code, finding.level) == ("NET-MTU", "warning")


def test_the_same_between_all_hosts_is_one_finding() -> None:
    surveys = {f"a{n}": survey(f"a{n}") for n in (1, 2, 3)}
    hosts = {name: Host(name) for name in surveys}
    closed = {20000: "no answer"}
    tests = [
        PairTest(a, b, ("x",), "x", (), "eth0", closed, 9, names=surveys[b].own_addresses)
        for a in surveys
        for b in surveys
        if a != b
    ]
    (finding,) = of_pairs(tests, surveys, hosts, (20000, 32000))
    assert sorted(finding.hosts) == sorted(finding.there) == ["a1", "a2", "a3"]
    (finding,) = of_pairs([t for t in tests if t.there == "a3"], surveys, hosts, (20000, 32000))
    assert (finding.hosts, finding.there) == (("a1", "a2"), ("a3",))


def test_the_worst_comes_first() -> None:
    findings = [
        found("DISK-LOW", "a", "x"),
        found("DISK-FULL", "b", "y"),
        found("DISK-LOW", "c", "x"),
    ]
    assert [(f.code, f.hosts) for f in fold(findings)] == [
        ("DISK-FULL", ("b",)),
        ("DISK-LOW", ("a", "c")),
    ]


def test_hosts_with_the_same_wrong_interface_are_all_put_right() -> None:
    same = [found("NET-INTERFACE-UNKNOWN", host, "ib9", "", value="ib0") for host in ("a", "b")]
    other = found("NET-INTERFACE", "c", "faster", value="eth1")
    unknown = found("NET-INTERFACE-UNKNOWN", "d", "nothing like it")
    assert suggested(fold([*same, other, unknown])) == {"a": "ib0", "b": "ib0", "c": "eth1"}


def test_what_could_not_be_measured_in_time_is_no_error() -> None:
    """A host that takes a connection and does not answer has too much to do; one that is silent may
    have a firewall."""
    surveys = {name: survey(name) for name in ("a1", "b2")}
    hosts = {name: Host(name) for name in surveys}
    for closed, address, code in (
        ({20000: SILENT}, "10.0.0.2", "NET-UNTESTED"),
        ({20000: SILENT, 26000: SILENT}, None, "NET-UNTESTED"),
        ({20000: SILENT, 26000: "no answer"}, "10.0.0.2", "NET-PORT-CLOSED"),
        ({20000: "no answer"}, None, "NET-NO-ROUTE"),
    ):
        test = PairTest("a1", "b2", ("10.0.0.2",), address=address, closed=closed, high=40000)
        found = of_pairs([test], surveys, hosts, (20000, 32000))
        assert code in codes(found), closed
        levels = {finding.level for finding in found if finding.code == code}
        assert levels == {"warning" if code == "NET-UNTESTED" else "error"}
    for late, level in ((True, "warning"), (False, "error")):
        mute = survey("a1", software=Software(error="no answer", late=late))
        assert [f.level for f in of_host(mute, Host("a1")) if f.code == "PYTHON-SILENT"] == [level]


def test_hosts_of_different_versions_of_ip() -> None:
    """One finding for the set; the pairs that cannot reach each other have none of their own."""
    four, six = survey("a1"), survey("b2", facts={"addresses": (("eth0", "fd81::2"),)})
    both = survey("c3", facts={"addresses": (("eth0", "10.0.0.3"), ("eth0", "fd81::3"))})
    (error,) = [f for f in of_group([four, six, both]) if f.code == "NET-IP-VERSION"]
    assert (error.level, error.hosts) == ("error", ("a1", "b2", "c3"))
    assert "IPv4 alone on a1, IPv6 alone on b2" in error.evidence
    (warning,) = [f for f in of_group([six, both]) if f.code == "NET-IP-VERSION"]
    assert (warning.level, warning.hosts) == ("warning", ("c3",))
    assert "NET-IP-VERSION" not in codes(of_group([four, both])) + codes(of_group([six]))
    test = PairTest("a1", "b2", ("fd81::2",), closed={20000: "Network is unreachable"}, high=40000)
    surveys = {"a1": four, "b2": six}
    assert of_pairs([test], surveys, {n: Host(n) for n in surveys}, (20000, 32000)) == []


def test_routes_of_ipv6_are_measured() -> None:
    others = set(threading.enumerate())
    mirror = EchoServer([0], "t")
    try:
        places = mirror.places()
        ports = [*places["ports"], places["high"]]
        way: reachability.Route = {
            "addresses": [("::1", 1500)], "ports": ports, "udp": places["udp"], "token": "t"
        }  # fmt: skip
        (told,) = reachability.explore([way])
        assert (told["address"], told["mtu"], told["large"]) == ("::1", 1500, True)
    finally:
        mirror.close()
        for answering in set(threading.enumerate()) - others:
            answering.join(20)  # it has a socket of its own


def answer(listener: socket.socket) -> None:
    caller = listener.accept()[0]
    caller.recv(100)
    caller.sendall(b"t")
    caller.close()


def test_a_port_that_connects_and_is_silent_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel has answered, so it is told apart from one behind a firewall, and waited for."""
    monkeypatch.setattr(reachability, "PATIENCE", 0.05)
    monkeypatch.setattr(reachability, "TALK", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as busy:  # nobody accepts
        port = busy.getsockname()[1]
        way = {"addresses": [["127.0.0.1", None]], "ports": [port], "udp": 1, "token": "t"}
        (never,) = reachability.reach([way])
        assert never["127.0.0.1"]["closed"] == {port: SILENT}
        busy.accept()[0].close()  # the one of before
        monkeypatch.setattr(reachability, "TALK", 60.0)
        answering = threading.Timer(0.2, answer, [busy])
        answering.start()
        (late,) = reachability.reach([way])
        assert late["127.0.0.1"]["closed"] == {}
        answering.join()  # it has a socket of its own


def test_noexec_is_named() -> None:
    (found,) = of_host(survey("a1", facts={"noexec": True}), Host("a1"))
    assert found.code == "DISK-NOEXEC"
    assert "mounted noexec" in found.evidence
    assert not of_host(survey("a1"), Host("a1"))
