"""Fakes of the tools that list GPUs, named as fakes: there is no GPU behind them.

They print what the vendors document, for the queries that launcher makes, and refuse all others.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

#: What is in a host's /run: processes on GPUs as lines "pid, uuid or index, MiB"; for NVIDIA also the
#: driver's version and the uncorrectable errors of every GPU.
APPS, HEALTH = "/run/fake-gpu-apps", "/run/fake-gpu-health"
#: Lines "index, percent, degrees, MiB that no process holds"; a GPU without one idles at 30 degrees.
LOAD = "/run/fake-gpu-load"

_NVIDIA_SMI = r"""#!/bin/sh
# A FAKE nvidia-smi, made by tests/support/gpu_tools.py: there is no GPU behind it.
gpus='{gpus}'
apps=/run/fake-gpu-apps
[ -r "$apps" ] || apps=/dev/null
load=/run/fake-gpu-load
[ -r "$load" ] || load=/dev/null
query=${{1#--query-gpu=}}
case "$*" in
-L)
    cat <<'END'
{listed}
END
    ;;
'--query-gpu=index,name,uuid,memory.total,memory.used,mig.mode.current --format=csv,noheader,nounits'|\
'--query-gpu=index,name,uuid,memory.total,memory.used --format=csv,noheader,nounits')
    echo "$gpus" | awk -F', ' -v apps="$apps" -v load="$load" -v mig="${{query##*used}}" '
        BEGIN {{ while ((getline line < apps) > 0) {{ split(line, a, ", *"); used[a[2]] += a[3] }}
                while ((getline line < load) > 0) {{ split(line, a, ", *"); held[a[1]] = a[4] }} }}
        {{ print $1 ", " $2 ", " $3 ", " $4 ", " used[$3] + held[$1] (mig ? ", " $5 : "") }}' ;;
'--query-gpu=uuid,driver_version,ecc.errors.uncorrected.volatile.total --format=csv,noheader,nounits')
    driver=580.95 ecc=0
    [ ! -r /run/fake-gpu-health ] || read -r driver ecc </run/fake-gpu-health
    echo "$gpus" | awk -F', ' -v driver="$driver" -v ecc="$ecc" '{{ print $3 ", " driver ", " ecc }}' ;;
'--query-compute-apps=pid,gpu_uuid,used_memory --format=csv,noheader,nounits')
    awk -F', *' '{{ print $1 ", " $2 ", " $3 }}' "$apps" ;;
'--query-gpu=index,utilization.gpu,temperature.gpu,memory.used --format=csv,noheader,nounits')
    echo "$gpus" | awk -F', ' -v apps="$apps" -v load="$load" '
        BEGIN {{ while ((getline line < apps) > 0) {{ split(line, a, ", *"); used[a[2]] += a[3] }}
                while ((getline line < load) > 0) {{ split(line, a, ", *")
                    busy[a[1]] = a[2]; heat[a[1]] = a[3]; held[a[1]] = a[4] }} }}
        {{ print $1 ", " busy[$1] + 0 ", " ($1 in heat ? heat[$1] : 30) ", " used[$3] + held[$1] }}' ;;
--query-gpu=index,utilization.gpu,memory.used,power.draw,temperature.gpu\ --format=csv,noheader,nounits\ -lms\ *)
    exec python3 -c '
import sys, time
gpus, pause = sys.argv[1].splitlines(), float(sys.argv[2]) / 1000
def rows(path):
    try:
        return {{row[0]: row for row in (line.replace(" ", "").split(",") for line in open(path))}}
    except OSError:
        return {{}}
while True:
    load = rows("/run/fake-gpu-load")
    for gpu in gpus:
        index = gpu.split(",")[0]
        _, busy, heat, held = load.get(index, (index, "0", "30", "0"))[:4]
        print(index, busy, held.strip(), "[N/A]" if index == "3" else 75.5, heat, sep=", ")
    sys.stdout.flush()
    time.sleep(pause)
' "$gpus" "$4" ;;
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


_HEAD = """#!/usr/bin/env python3
# A FAKE {tool}, made by tests/support/gpu_tools.py: there is no GPU behind it.
import json, sys
GPUS = {gpus!r}
def apps():
    try:
        rows = [line.split(",") for line in open("/run/fake-gpu-apps")]
    except OSError:
        rows = []
    return [(int(pid), int(gpu), int(used)) for pid, gpu, used in rows]
def used(gpu):
    return sum(mib for _, index, mib in apps() if index == gpu)
query = " ".join(sys.argv[1:])
"""

#: As ROCm 7 prints it; before, the list alone.
_AMD_SMI = """
def of_each(about):
    print(json.dumps({"gpu_data": [{"gpu": gpu, **about(gpu)} for gpu in range(len(GPUS))]}))
if query == "static --asic --json":
    of_each(lambda gpu: {"asic": {
        "market_name": "AMD Fake MI300X", "vendor_id": "0x1002", "asic_serial": GPUS[gpu]}})
elif query == "metric --mem-usage --json":
    of_each(lambda gpu: {"mem_usage": {
        "total_vram": {"value": 196592, "unit": "MB"}, "used_vram": {"value": used(gpu), "unit": "MB"}}})
elif query == "metric --usage --temperature --mem-usage --json":
    of_each(lambda gpu: {"usage": {
        "gfx_activity": {"value": 7, "unit": "%"}, "umc_activity": "N/A"}, "temperature": {
        "edge": "N/A", "hotspot": {"value": 41, "unit": "C"}}, "mem_usage": {
        "used_vram": {"value": used(gpu), "unit": "MB"}}})
elif query.startswith("metric --usage --power --temperature --mem-usage --csv --watch "):
    import time
    while True:
        print("timestamp,gpu,gfx_activity,umc_activity,vcn_activity,socket_power,gfx_voltage,"
              "throttle_status,edge,hotspot,mem,total_vram,used_vram,free_vram\\r")
        for gpu in range(len(GPUS)):
            print('%d,%d,7,N/A,"[0, 1]",301,N/A,N/A,N/A,41,39,196592,%d,1\\r'
                  % (time.time(), gpu, used(gpu)))
        print()
        time.sleep(float(sys.argv[-1]))
elif query == "metric --ecc --json":
    of_each(lambda gpu: {"ecc": {"total_correctable_count": 0, "total_uncorrectable_count": gpu}})
elif query == "process --json":
    def processes(gpu):
        rows = [{"process_info": {"name": "python3", "pid": pid, "memory_usage": {
            "gtt_mem": {"value": 0, "unit": "B"}, "vram_mem": {"value": mib << 20, "unit": "B"}},
            "mem_usage": {"value": mib << 20, "unit": "B"}}} for pid, at, mib in apps() if at == gpu]
        return {"process_list": rows or [{"process_info": "No running processes detected"}]}
    of_each(processes)
else:
    sys.exit("fake amd-smi: not supported: " + query)
"""

_ROCM_SMI = """
if query == "--showproductname --showmeminfo vram --showuniqueid --json":
    print(json.dumps({"card%d" % gpu: {
        "Unique ID": GPUS[gpu], "VRAM Total Memory (B)": "17163091968",
        "VRAM Total Used Memory (B)": str(used(gpu) << 20), "Card Series": "Fake Radeon RX 6800",
        "Card Model": "0x73bf"} for gpu in range(len(GPUS))}))
elif query == "--showuse --showtemp --showmeminfo vram --json":
    print(json.dumps({"card%d" % gpu: {
        "GPU use (%)": "7", "Temperature (Sensor edge) (C)": "41.0",
        "VRAM Total Used Memory (B)": str(used(gpu) << 20)} for gpu in range(len(GPUS))}))
elif query == "--showpidgpus":
    print("======= ROCm System Management Interface =======")
    print("=============== GPUs Indexed by PID ============")
    for pid, gpu, _ in apps():
        print("PID %d is using 1 DRM device(s):" % pid)
        print("%d " % gpu)
    print("=============== End of ROCm SMI Log ============")
else:
    sys.exit("fake rocm-smi: not supported: " + query)
"""

_XPU_SMI = """
if query == "discovery --dump 1,2,4,16":
    print("Device ID,Device Name,UUID,Memory Physical Size")
    for gpu, uuid in enumerate(GPUS):
        print('%d,"Intel(R) Fake GPU Max 1550","%s","65536.00 MiB"' % (gpu, uuid))
elif query == "discovery --dump 1,8":
    print("Device ID,Driver Version")
    for gpu in range(len(GPUS)):
        print('%d,"I915_23.10.32_PSB_231129.32"' % gpu)
elif query == "dump -d -1 -m 0,3,18 -n 1":
    print("Timestamp, DeviceId, GPU Utilization (%), GPU Core Temperature (Celsius Degree), "
          "GPU Memory Used (MiB)")
    for gpu in range(len(GPUS)):
        print("06:14:46.000,    %d, 7.00, 41.00, %d.00" % (gpu, used(gpu)))
elif query.startswith("dump -d -1 -m 0,1,3,18 -i "):
    import time
    print("Timestamp, DeviceId, GPU Utilization (%), GPU Power (W), "
          "GPU Core Temperature (Celsius Degree), GPU Memory Used (MiB)", flush=True)
    while True:
        for gpu in range(len(GPUS)):
            power = "N/A" if gpu else "118.87"
            print("06:14:46.000,    %d, 7.00, %s, 41.00, %d.00" % (gpu, power, used(gpu)), flush=True)
        time.sleep(float(sys.argv[-1]))
elif query == "ps -j":
    rows = [(1, gpu, 1507, "xpu-smi") for gpu in range(len(GPUS))]
    rows += [(pid, gpu, mib << 10, "python") for pid, gpu, mib in apps()]
    print(json.dumps({"device_util_by_proc_list": [
        {"device_id": gpu, "mem_size": size, "process_id": pid, "process_name": name,
         "shared_mem_size": 0} for pid, gpu, size, name in rows]}))
else:
    sys.exit("fake xpu-smi: not supported: " + query)
"""

_OTHERS = {"amd-smi": _AMD_SMI, "rocm-smi": _ROCM_SMI, "xpu-smi": _XPU_SMI}


def other(tool: str, gpus: Sequence[str]) -> str:
    """Return the fake of amd-smi, rocm-smi or xpu-smi for GPUs of these serial numbers or UUIDs."""
    return _HEAD.format(tool=tool, gpus=list(gpus)) + _OTHERS[tool]
