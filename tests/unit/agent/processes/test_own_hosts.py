"""The /etc/hosts that a run's processes get."""

from __future__ import annotations

from launcher.agent.processes.own_hosts import rewritten

DEBIAN = """\
127.0.0.1\tlocalhost
127.0.1.1\tgpu1.example.com gpu1  # by the installer
# others
10.9.9.9 gpu2 storage
10.9.9.8 gpu3

::1     localhost ip6-localhost ip6-loopback
"""
RUN = [
    {"host": "gpu2", "address": "10.0.0.2", "names": ["gpu2", "gpu2.example.com"]},
    {"host": "gpu1", "address": "10.0.0.1", "names": ["gpu1"]},
]


def test_names_lead_to_the_addresses_of_the_run_alone() -> None:
    lines = rewritten(DEBIAN, RUN, "gpu1", "gpu1").splitlines()  # type: ignore[arg-type]
    assert lines == [
        "10.0.0.1\tgpu1.example.com gpu1",
        "10.0.0.2\tgpu2 gpu2.example.com",
        "127.0.0.1\tlocalhost",
        "# others",
        "10.9.9.9\tstorage",
        "10.9.9.8 gpu3",
        "",
        "::1     localhost ip6-localhost ip6-loopback",
    ]


def test_a_host_that_calls_itself_otherwise_keeps_both_names() -> None:
    text = "127.0.0.1 localhost Node-7\n::1 node-7 localhost\n"
    entries = [{"host": "gpu1", "address": "fd81::1", "names": ["gpu1"]}]
    lines = rewritten(text, entries, "gpu1", "node-7").splitlines()  # type: ignore[arg-type]
    assert lines == ["fd81::1\tNode-7 node-7 gpu1", "127.0.0.1\tlocalhost", "::1\tlocalhost"]


def test_localhost_stays_whatever_a_host_is_called() -> None:
    entries = [{"host": "localhost", "address": "10.0.0.1", "names": ["localhost"]}]
    text = "127.0.0.1 localhost\n"
    assert rewritten(text, entries, "localhost", "localhost") == text  # type: ignore[arg-type]
