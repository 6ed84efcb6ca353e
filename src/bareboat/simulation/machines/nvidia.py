"""`nvidia-smi` for a machine with simulated GPUs: a shell script that needs nothing but a shell's own commands.

Knows the plain table, -L, -q -x and --query-gpu with --format=csv; anything else is refused as the real program does.
"""

import hashlib
import re

from bareboat.simulation.machines import machine

_UNITS = {
    "memory.total": "MiB",
    "memory.used": "MiB",
    "memory.free": "MiB",
    "utilization.gpu": "%",
    "utilization.memory": "%",
    "power.draw": "W",
    "power.limit": "W",
}
_ALIASES = {"gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id"}
_USED_MIB = 1
_LINE = "+-----------------------------------------------------------------------------------------+"
_SPLIT = "+-----------------------------------------+------------------------+----------------------+"
_HEAD = f"""\
|{_SPLIT[1:]}
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
"""
_TAIL = f"""
{_LINE}
| Processes:                                                                              |
|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|  No running processes found                                                             |
{_LINE}
"""


def full_name(name: str) -> str:
    """The name as the driver reports it: "RTX 3060" → "NVIDIA GeForce RTX 3060"."""
    plain = name.replace("_", " ").strip()
    if plain.upper().startswith("NVIDIA"):
        return plain
    if re.match(r"(RTX [2-5]0[5-9]0|GTX )", plain):
        return f"NVIDIA GeForce {plain}"
    return f"NVIDIA {plain}"


def script(gpu: machine.GpuSpec) -> str:
    """The text of `nvidia-smi`."""
    rows = [_values(gpu, index) for index in range(gpu.count)]
    listing = "".join(f"GPU {row['index']}: {row['name']} (UUID: {row['uuid']})\n" for row in rows)
    cases = "".join(
        f"    {row['index']}:{field}) value={_quoted(value)};;\n" for row in rows for field, value in row.items()
    )
    units = "".join(f"    {field}) unit={_quoted(unit)};;\n" for field, unit in _UNITS.items())
    aliases = "".join(f"    {alias}) field={field};;\n" for alias, field in _ALIASES.items())
    return _SCRIPT.format(
        listing=_quoted(listing),
        table=_quoted(_table(gpu, rows)),
        xml=_quoted(_xml(gpu, rows)),
        indexes=" ".join(row["index"] for row in rows),
        cases=cases,
        units=units,
        aliases=aliases,
        version=_quoted(f"NVIDIA-SMI version  : {gpu.driver_version}\nDRIVER version      : {gpu.driver_version}\n"),
    )


def _values(gpu: machine.GpuSpec, index: int) -> dict[str, str]:
    seed = hashlib.sha256(f"{gpu.name}/{gpu.memory_mib}/{index}".encode()).hexdigest()
    uuid = f"GPU-{seed[:8]}-{seed[8:12]}-{seed[12:16]}-{seed[16:20]}-{seed[20:32]}"
    return {
        "index": str(index),
        "name": full_name(gpu.name),
        "uuid": uuid,
        "count": str(gpu.count),
        "driver_version": gpu.driver_version,
        "memory.total": str(gpu.memory_mib),
        "memory.used": str(_USED_MIB),
        "memory.free": str(gpu.memory_mib - _USED_MIB),
        "utilization.gpu": "0",
        "utilization.memory": "0",
        "temperature.gpu": "31",
        "power.draw": "15.20",
        "power.limit": "250.00",
        "pstate": "P8",
        "pci.bus_id": f"00000000:{index + 1:02X}:00.0",
        "compute_mode": "Default",
        "persistence_mode": "Disabled",
    }


def _table(gpu: machine.GpuSpec, rows: list[dict[str, str]]) -> str:
    versions = (
        f"NVIDIA-SMI {gpu.driver_version:<22} Driver Version: {gpu.driver_version:<14} CUDA Version: {gpu.cuda_version}"
    )
    text = f"{_LINE}\n| {versions:<88}|\n{_HEAD}"
    for row in rows:
        memory = f"{row['memory.used']}MiB / {row['memory.total']:>6}MiB"
        text += (
            f"| {row['index']:>3}  {row['name'][:27]:<27}    Off |   {row['pci.bus_id']} Off |"
            "                  N/A |\n"
            f"|  0%   31C    P8             15W /  250W | {memory:>22} |      0%      Default |\n"
            f"|                                         |                        |                  N/A |\n"
            f"{_SPLIT}\n"
        )
    return text + _TAIL


def _xml(gpu: machine.GpuSpec, rows: list[dict[str, str]]) -> str:
    text = f'<?xml version="1.0" ?>\n<nvidia_smi_log>\n\t<driver_version>{gpu.driver_version}</driver_version>\n'
    text += f"\t<cuda_version>{gpu.cuda_version}</cuda_version>\n\t<attached_gpus>{gpu.count}</attached_gpus>\n"
    for row in rows:
        text += (
            f'\t<gpu id="{row["pci.bus_id"]}">\n\t\t<product_name>{row["name"]}</product_name>\n'
            f"\t\t<uuid>{row['uuid']}</uuid>\n\t\t<fb_memory_usage>\n\t\t\t<total>{row['memory.total']} MiB</total>\n"
            f"\t\t\t<used>{row['memory.used']} MiB</used>\n\t\t\t<free>{row['memory.free']} MiB</free>\n"
            "\t\t</fb_memory_usage>\n\t\t<utilization>\n\t\t\t<gpu_util>0 %</gpu_util>\n"
            "\t\t\t<memory_util>0 %</memory_util>\n\t\t</utilization>\n\t</gpu>\n"
        )
    return text + "</nvidia_smi_log>\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_SCRIPT = """\
#!/bin/sh
# A simulated nvidia-smi.
query= format= list= xml= only=
while [ $# -gt 0 ]; do
  case "$1" in
    --query-gpu=*) query=${{1#*=}};;
    --format=*) format=${{1#*=}};;
    -L|--list-gpus) list=1;;
    -q|--query) ;;
    -x|--xml-format) xml=1;;
    -i|--id) only=$2; shift;;
    -i=*|--id=*) only=${{1#*=}};;
    --version) printf '%s' {version}; exit 0;;
    *) printf 'Invalid combination of input arguments. Please run %s for help.\\n' "'nvidia-smi -h'"; exit 1;;
  esac
  shift
done
if [ -n "$list" ]; then printf '%s' {listing}; exit 0; fi
if [ -n "$xml" ]; then printf '%s' {xml}; exit 0; fi
if [ -z "$query" ]; then date 2>/dev/null; printf '%s' {table}; exit 0; fi
case ",$format," in
  *,csv,*) ;;
  *) echo '"--format=" has to name csv. Please run nvidia-smi -h for help.'; exit 2;;
esac
case ",$format," in *,noheader,*) header=;; *) header=1;; esac
case ",$format," in *,nounits,*) units=;; *) units=1;; esac
known() {{
  case "$field" in
{aliases}  esac
  unit=
  case "$field" in
{units}  esac
}}
look_up() {{
  value=
  case "$1:$field" in
{cases}    *) printf 'Field "%s" is not a valid field to query.\\n\\n' "$field"; exit 2;;
  esac
}}
IFS=', '
line=
for asked in $query; do
  field=$asked; known; look_up 0
  line="$line${{line:+, }}$asked${{unit:+ [$unit]}}"
done
if [ -n "$header" ]; then echo "$line"; fi
IFS=' '
for index in {indexes}; do
  if [ -n "$only" ] && [ "$only" != "$index" ]; then continue; fi
  line=
  IFS=', '
  for asked in $query; do
    field=$asked; known; look_up "$index"
    if [ -z "$units" ]; then unit=; fi
    line="$line${{line:+, }}$value${{unit:+ $unit}}"
  done
  IFS=' '
  echo "$line"
done
"""
