"""Fakes of the tools that list GPUs, named as fakes: there is no GPU behind them.

They print what the vendors document, for the queries that launcher makes, and refuse all others.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

#: What is in a host's /run: processes on GPUs as lines "pid, uuid or index, MiB"; for NVIDIA also the
#: driver's version and the uncorrectable errors of every GPU.
APPS, HEALTH = "/run/fake-gpu-apps", "/run/fake-gpu-health"

_NVIDIA_SMI = r"""#!/bin/sh
# A FAKE nvidia-smi, made by tests/support/gpu_tools.py: there is no GPU behind it.
gpus='{gpus}'
apps=/run/fake-gpu-apps
[ -r "$apps" ] || apps=/dev/null
query=${{1#--query-gpu=}}
case "$*" in
-L)
    cat <<'END'
{listed}
END
    ;;
'--query-gpu=index,name,uuid,memory.total,memory.used,mig.mode.current --format=csv,noheader,nounits'|\
'--query-gpu=index,name,uuid,memory.total,memory.used --format=csv,noheader,nounits')
    echo "$gpus" | awk -F', ' -v apps="$apps" -v mig="${{query##*used}}" '
        BEGIN {{ while ((getline line < apps) > 0) {{ split(line, a, ", *"); used[a[2]] += a[3] }} }}
        {{ print $1 ", " $2 ", " $3 ", " $4 ", " used[$3] + 0 (mig ? ", " $5 : "") }}' ;;
'--query-gpu=uuid,driver_version,ecc.errors.uncorrected.volatile.total --format=csv,noheader,nounits')
    driver=580.95 ecc=0
    [ ! -r /run/fake-gpu-health ] || read -r driver ecc </run/fake-gpu-health
    echo "$gpus" | awk -F', ' -v driver="$driver" -v ecc="$ecc" '{{ print $3 ", " driver ", " ecc }}' ;;
'--query-compute-apps=pid,gpu_uuid,used_memory --format=csv,noheader,nounits')
    awk -F', *' '{{ print $1 ", " $2 ", " $3 }}' "$apps" ;;
'--query-gpu=index,utilization.gpu --format=csv,noheader,nounits')
    echo "$gpus" | awk -F', ' '{{ print $1 ", 0" }}' ;;
*)
    echo "fake nvidia-smi: not supported: $*" >&2
    exit 2 ;;
esac
"""


def uuids(host: str, count: int) -> tuple[str, ...]:
    """Return UUIDs of a host's GPUs. They never change."""
    seeds = (f"{host}/{index}" for index in range(count))
    return tuple(f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, seed)}" for seed in seeds)


def mig_uuid(parent: str, instance: int) -> str:
    """Return the UUID of a MIG instance of a GPU."""
    return f"MIG-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{parent}/{instance}')}"


def nvidia_smi(gpus: Sequence[str], mig: Mapping[int, int] | None = None) -> str:
    """Return the fake of nvidia-smi for GPUs of these UUIDs, some divided into MIG instances."""
    mig = mig or {}
    rows, listed = [], []
    for index, name in enumerate(gpus):
        mode = "Enabled" if mig.get(index) else "[N/A]"
        rows.append(f"{index}, NVIDIA Fake GPU, {name}, 81559, {mode}")
        listed.append(f"GPU {index}: NVIDIA Fake GPU (UUID: {name})")
        listed += [
            f"  MIG 1g.10gb     Device  {instance}: (UUID: {mig_uuid(name, instance)})"
            for instance in range(mig.get(index, 0))
        ]
    return _NVIDIA_SMI.format(gpus="\n".join(rows), listed="\n".join(listed))
