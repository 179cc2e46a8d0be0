"""What the Pythons of a run's hosts do not have alike, and what is said of those that they build."""

from __future__ import annotations

import json

from launcher.cli.render.event_lines import line_of
from launcher.records import events as ev
from launcher.records.packages import differing, folded

SAME = ("pip==1", "torch==2.4.0", "ufw==1")
PYTHONS = {"gpu1": "3.11.2", "gpu2": "3.11.2"}


def test_what_differs() -> None:
    assert differing({"gpu1": SAME, "gpu2": ("pip==2", *SAME[1:])}, PYTHONS) == {}
    other = ("Torch==2.3.1", "PyYAML==6.0")
    found = differing({"gpu1": SAME, "gpu2": other, "gpu3": SAME}, {**PYTHONS, "gpu3": "3.9.1"})
    assert found == {
        "Python": {"3.11.2": ("gpu1", "gpu2"), "3.9.1": ("gpu3",)},
        "pyyaml": {"": ("gpu1", "gpu3"), "6.0": ("gpu2",)},
        "torch": {"2.4.0": ("gpu1", "gpu3"), "2.3.1": ("gpu2",)},
        "ufw": {"1": ("gpu1", "gpu3"), "": ("gpu2",)},
    }


def test_what_the_job_needs_comes_first() -> None:
    """Python's other packages are the host's own business; they are counted, if others differ."""
    hosts = {"gpu1": ("a_b==1", "torch==1"), "gpu2": ("a-b==1", "torch==2", "ufw==3")}
    assert list(differing(hosts, PYTHONS, {"torch"})) == ["torch", "ufw"]
    assert differing(hosts, PYTHONS, {"numpy"}) == {}
    older = {**PYTHONS, "gpu2": "3.10.0"}
    assert list(differing(hosts, older, {"numpy"})) == ["Python", "torch", "ufw"]


def _again(event: ev.Event) -> ev.Event:
    found = ev.decode(json.loads(json.dumps(ev.encode(event))))
    assert found is not None
    return found


def test_a_line_names_them() -> None:
    many = [f"gpu{n}" for n in range(1, 9)]
    event = ev.PackagesDiffered(
        1.0,
        {"torch": {"2.4.0": tuple(many[:7]), "": ("gpu8",)}, "numpy": {"1": ("a",), "2": ("b",)}},
        12,
    )
    line = line_of(_again(event))
    assert line is not None
    assert line.text == (
        "hosts differ: torch 2.4.0 on gpu[1-7], none on gpu8; numpy 1 on a, 2 on b; "
        "12 more packages in packages.json"
    )


def test_equal_hosts_are_one_entry() -> None:
    assert folded({"a": SAME, "b": SAME}.items())["installed"] == [
        {"hosts": ["a", "b"], "packages": list(SAME)}
    ]


def test_what_is_built_is_told() -> None:
    hosts = ("gpu1", "gpu2", "gpu3")
    for event, text in (
        (
            ev.EnvironmentBuilding(1.0, hosts, "gpu2", "Prepared 3 packages"),
            "building the environment on gpu[1-3]: gpu2: Prepared 3 packages",
        ),
        (ev.EnvironmentBuilding(1.0, hosts[:1], "gpu1", ""), "building the environment on gpu1"),
        (
            ev.EnvironmentBuilt(1.0, 3, 2, 41.6),
            "built the environment on 2 hosts in 42 s; 1 host had it",
        ),
        (ev.EnvironmentBuilt(1.0, 3, 3, 1.2), "built the environment on 3 hosts in 1 s"),
        (
            ev.EnvironmentBuilding(1.0, hosts, "gpu1", "gets the wheels", 10**9, 2 * 10**9, 10.0),
            "building the environment on gpu[1-3]: gpu1: gets the wheels, 1.0 GB of 2.0 GB, "
            "100.0 MB/s, 10.0 s left",
        ),
        (
            ev.WheelsFetched(1.0, 41, 2 * 10**9, 2 * 10**9, 31.0),
            "fetched 41 wheels, 2.0 GB in 31 s",
        ),
        (
            ev.WheelsFetched(1.0, 41, 2 * 10**9, 10**6, 3.0),
            "fetched 41 wheels, 2.0 GB; 1.0 MB of it in 3 s",
        ),
        (ev.WheelsFetched(1.0, 1, 1000, 0, 0.1), "1 wheel, 1.0 kB: this machine had them"),
        (
            ev.WheelsGiven(1.0, hosts, 41, 2 * 10**9, 6 * 10**9, 24.0),
            "gave 41 wheels, 2.0 GB, to 3 hosts in 24 s",
        ),
    ):
        line = line_of(_again(event))
        assert line is not None
        assert line.text == text
