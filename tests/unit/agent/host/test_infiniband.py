"""InfiniBand and RoCE ports, from a tree as the kernel shows it in /sys."""

from __future__ import annotations

from pathlib import Path

from launcher.agent.host import infiniband

NONE = "0000:0000:0000:0000:0000:0000:0000:0000"


def port(root: Path, device: str, gids: dict[int, tuple[str, str]], **files: str) -> None:
    folder = root / device / "ports" / "1"
    (folder / "gids").mkdir(parents=True)
    (folder / "gid_attrs/types").mkdir(parents=True)
    for index, (gid, kind) in gids.items():
        (folder / "gids" / str(index)).write_text(gid + "\n")
        if kind:
            (folder / "gid_attrs/types" / str(index)).write_text(kind + "\n")
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def test_ports_with_state_rate_and_the_gid_that_nccl_needs(tmp_path: Path) -> None:
    link = "fe80:0000:0000:0000:b859:9fff:fe01:0203"
    ipv4 = "0000:0000:0000:0000:0000:ffff:0a00:0005"
    roce = {
        0: (link, "IB/RoCE v1"), 1: (link, "RoCE v2"), 2: (ipv4, "IB/RoCE v1"),
        3: (ipv4, "RoCE v2"), 4: (NONE, ""),
    }  # fmt: skip
    port(
        tmp_path, "mlx5_0", {0: (link, "IB/RoCE v1")},
        state="4: ACTIVE", rate="200 Gb/sec (4X HDR)", link_layer="InfiniBand",
    )  # fmt: skip
    port(
        tmp_path, "mlx5_1", roce,
        state="4: ACTIVE", rate="100 Gb/sec (4X EDR)", link_layer="Ethernet",
    )  # fmt: skip
    port(tmp_path, "mlx5_2", {0: (NONE, "")}, state="1: DOWN", link_layer="Ethernet")
    assert infiniband.ports(str(tmp_path)) == [
        {"device": "mlx5_0", "port": 1, "state": "ACTIVE", "rate": 200.0, "layer": "InfiniBand",
         "gid": link, "gid_index": 0},
        {"device": "mlx5_1", "port": 1, "state": "ACTIVE", "rate": 100.0, "layer": "Ethernet",
         "gid": ipv4, "gid_index": 3},
        {"device": "mlx5_2", "port": 1, "state": "DOWN", "rate": 0.0, "layer": "Ethernet",
         "gid": "", "gid_index": -1},
    ]  # fmt: skip


def test_a_host_without_infiniband_has_no_ports(tmp_path: Path) -> None:
    assert infiniband.ports(str(tmp_path / "none")) == []
    (tmp_path / "odd").write_text("")
    assert infiniband.ports(str(tmp_path)) == []
