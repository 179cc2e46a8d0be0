"""What is found of InfiniBand and RoCE: ports down, no GID, and devices that differ between hosts."""

from __future__ import annotations

from launcher.fleet.findings import Finding
from launcher.fleet.findings.group import of_group
from launcher.fleet.findings.survey import IbPort
from support.surveys import survey


def ib(device: str, state: str = "ACTIVE", rate: float = 200.0) -> IbPort:
    return IbPort(device, 1, state, rate, "InfiniBand", "fe80::1", 0)


def roce(device: str, gid_index: int = 3) -> IbPort:
    return IbPort(device, 1, "ACTIVE", 100.0, "Ethernet", "::ffff:10.0.0.5", gid_index)


def found(**ports: tuple[IbPort, ...]) -> dict[str, Finding]:
    findings = of_group([survey(host, ib_ports=given) for host, given in ports.items()])
    return {one.code: one for one in findings if one.code.startswith("IB-")}


def test_what_is_there_is_told_with_state_rate_and_gid() -> None:
    (finding,) = found(a1=(ib("mlx5_0"), ib("mlx5_1", "DOWN"))).values()
    assert (finding.code, finding.level) == ("IB-PORTS", "ok")
    assert finding.evidence == "mlx5_0:1 InfiniBand 200 Gb/s, GID 0 fe80::1"


def test_hosts_with_other_devices_get_their_own_nccl_ib_hca() -> None:
    finding = found(a1=(ib("mlx5_0"),), a2=(ib("mlx5_0"),), a3=(ib("mlx5_4"),))["IB-HCA"]
    assert finding.hosts == ("a1", "a2", "a3")
    assert "mlx5_0:1 on a[1-2], mlx5_4:1 on a3" in finding.evidence
    assert "a3: env: {NCCL_IB_HCA: '=mlx5_4:1'}" in finding.fix


def test_the_fastest_ports_of_one_kind_are_suggested() -> None:
    """Not the slow one for storage beside them, and none without a GID."""
    both = (roce("mlx5_9"), ib("mlx5_0"), ib("mlx5_1"))
    finding = found(a1=both, a2=(ib("mlx5_2"), ib("mlx5_3")))["IB-HCA"]
    assert "a1: env: {NCCL_IB_HCA: '=mlx5_0:1,mlx5_1:1'}" in finding.fix


def test_ports_that_nccl_cannot_use() -> None:
    assert "mlx5_0:1 DOWN" in found(a1=(ib("mlx5_0", "DOWN"),))["IB-DOWN"].evidence
    assert "no GID of RoCE v2" in found(a1=(roce("mlx5_0", -1),))["IB-NO-GID"].evidence


def test_links_of_different_rates() -> None:
    finding = found(a1=(ib("mlx5_0"),), a2=(ib("mlx5_0", rate=100.0),))["IB-RATE"]
    assert finding.evidence == "1x 200 Gb/s InfiniBand on a1, 1x 100 Gb/s InfiniBand on a2"


def test_hosts_without_infiniband_find_nothing() -> None:
    assert found(a1=(), a2=()) == {}
