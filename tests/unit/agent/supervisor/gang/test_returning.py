"""What hosts keep to take a run back into the queue that gives its GPUs back."""

from __future__ import annotations

from typing import Any

from launcher.agent.base import protocol
from launcher.agent.supervisor.gang import returning
from launcher.agent.supervisor.gang.decisions import Leader, Send, Turn

ATTEMPT = "123456789012345678"


def start(where: str) -> dict[str, Any]:
    process = {
        "key": "rank-0",
        "argv": ["x", f"--try={ATTEMPT}"],
        "env": {"LAUNCHER_ATTEMPT": ATTEMPT},
    }
    return {"stage": "run", "attempt": int(ATTEMPT), "processes": [process], "path": [where]}


def way(*hosts: str) -> Any:
    tokens = {host: {"gpus": [], "names": [], "ports": []} for host in hosts}
    return {"counts": {}, "tokens": tokens, "address": hosts[0], "interfaces": {}, "addresses": {}}


def request(**more: Any) -> Any:
    return {
        "gang": {"hosts": ["a", "b", "c", "w"], "address": "a", "port": 1, "key": "k",
                 "places": {"b": ["b", "b2"]}},
        "ways": [way("a", "b"), way("b", "c")],
        "starts": {"0": start("0"), "1": start("1")},
        "project": {"preemptible": 1},
        "attempt": ATTEMPT,
        "seconds": 5.0,
        **more,
    }  # fmt: skip


def test_one_request_serves_every_attempt() -> None:
    made = returning.of_attempt(request(), 3)
    (process,) = made["starts"]["1"]["processes"]
    assert (made["starts"]["1"]["attempt"], process["argv"]) == (3, ["x", "--try=3"])
    assert process["env"] == {"LAUNCHER_ATTEMPT": "3"}
    earlier = request(attempt=None)
    assert returning.of_attempt(earlier, 3) is earlier, "it has the number of its only attempt"


def test_it_waits_on_the_hosts_that_it_had_for_as_long_as_it_takes() -> None:
    kept = returning.kept_for_later(request(), ["b", "a"])
    assert kept is not None
    assert (kept["ways"], kept["seconds"]) == ([way("a", "b")], None)
    assert kept["starts"] == {"0": start("0")}
    assert returning.hosts_of(kept) == ["a", "b"]
    assert returning.kept_for_later(kept) == kept, "it is kept on these once more"
    assert returning.kept_for_later(request(project={"preemptible": 0}), ["a", "b"]) is None
    assert returning.kept_for_later(request(attempt=None), ["a", "b"]) is None


def test_the_first_of_its_hosts_leads_where_the_leader_is_none_of_them() -> None:
    assert returning.led_by(request(), way("a", "b"), 7) is None
    assert returning.led_by(request(), way("b", "c"), 0) is None, (
        "an earlier version listens nowhere"
    )
    later = returning.led_by(request(), way("b", "c"), 7)
    assert later == {
        "hosts": ["b", "a", "c", "w"],
        "address": "b",
        "addresses": ["b", "b2"],
        "port": 7,
    }
    assert returning.kept_for_later(request(), ["b", "c"]) is None
    kept = returning.kept_for_later(request(), ["b", "c"], later)
    assert kept is not None
    assert (kept["gang"]["key"], returning.hosts_of(kept)) == ("k", ["b", "c"])


def test_an_elastic_run_waits_again_for_the_gpus_that_it_had() -> None:
    """Before, it waited for the least number; its hosts and its project decide about what it had."""
    both, one = ({**way(*hosts), "counts": dict.fromkeys(hosts, 4)} for hosts in ("ab", "a"))
    asked = request(
        ways=[both, one],
        project={"preemptible": 1, "gpus": 4},
        ticket={"shares": [4], "number": 7, "hosts": 3},
    )
    for chosen, shares in ((["a", "b"], [4, 4]), (["a"], [4])):
        kept = returning.kept_for_later(asked, chosen)
        assert kept is not None
        assert kept["ticket"] == {"shares": shares, "number": 7, "hosts": len(chosen)}
        assert kept["project"] == {"preemptible": 1, "gpus": sum(shares)}


def begun(turn: Turn, later: Any = None) -> tuple[Leader, dict[str, Any]]:
    """Return a leader that has begun, and what it tells the others: c may be chosen, and w only decides."""
    ways = [["a", "b"], ["b", "c"]]
    leader = Leader("a", ["b", "c", "w"], lambda _: turn, 0.0, ways, None, True)
    for host in ("b", "c", "w"):
        leader.joined(host, 0.0)
    leader.saw("a", {})
    leader.tick(0.0)
    leader.later = later
    told = [one for one in leader.begun(1, 0.0) if isinstance(one, Send)]
    return leader, {one.host: one.word for one in told}


def test_those_that_only_decide_rest_while_it_runs() -> None:
    leader, told = begun(Turn(0, {"a": [0], "b": [0]}))
    assert told["w"] == {"rest": 1}
    assert told["c"] == {"rest": 1, "over": protocol.NOT_NEEDED}, "it goes on as one of those"
    assert leader.dismiss() == [Send("w", {"over": protocol.NOT_NEEDED})], "the run is over"


def test_they_go_to_the_host_that_leads_from_then_on() -> None:
    later = {"hosts": ["b"], "address": "b", "addresses": ["b"], "port": 7}
    leader, told = begun(Turn(1, {"b": [0], "c": [0]}), later)
    assert told["w"] == {"rest": 1, "later": later}
    assert told["b"]["later"] == told["c"]["later"] == later
    assert leader.dismiss() == [], "they are that one's"
    _, told = begun(Turn(1, {"b": [0], "c": [0]}))
    assert told["w"] == {"over": protocol.NOT_NEEDED}, "nobody could lead them"
