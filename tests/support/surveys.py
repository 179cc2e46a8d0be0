"""What `check` measures on a healthy host."""

from __future__ import annotations

from dataclasses import replace

from launcher.fleet.findings.survey import (
    Devices,
    Interface,
    Room,
    Software,
    Survey,
)
from launcher.spec.model import Facts

GB = 10**9


def survey(name: str, **changes: object) -> Survey:
    number = int(name[-1])
    ip = f"10.0.0.{number}"
    facts = Facts(
        name, name, "/r", "/p", "3.11.7", 8, (("eth0", ip),), ip, disk_free=100 * GB, rsync="3.2.7"
    )
    facts = replace(facts, **changes.pop("facts", {}))  # type: ignore[arg-type]
    whole = Survey(
        facts=facts,
        latency=0.001,
        os="Debian",
        kernel="6",
        memory=Room(GB, GB),
        disk=Room(200 * GB, 100 * GB, 10**6),
        shm=Room(8 * GB, 8 * GB),
        memlock=-1,
        nofile=(1024, 4096),
        own_addresses=(ip,),
        name_is_slow=False,
        interfaces=(Interface("eth0", ip, 1500, 1000),),
        infiniband=(),
        firewall=None,
        software=Software(torch="2.13.0", cuda="12.8"),
        devices=Devices(driver="580.95.05"),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]
