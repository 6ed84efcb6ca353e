"""Writes docs/configuration.md from the settings themselves: every variable, its default, its meaning.

python tools/configuration.py docs/configuration.md
"""

import dataclasses
import os
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import annotated_types
import pydantic

from bareboat import settings
from bareboat.clouds import discovery
from bareboat.core import criteria, scoring
from bareboat.offload import settings as offload_settings
from bareboat.sandbox import settings as sandbox_settings
from bareboat.workload import selection

BEGINNING = """\
# Configuration

Written by `make docs` from the settings in the code; a test fails when the two differ.

Variables are read from the environment and, below it, from the file of `NAME=value` lines that `BAREBOAT_ENV_FILE`
names (the sandbox's, and those for choosing machines, from the environment alone). Flags of a command go before both;
`bareboat node --help` lists them. A value that makes no sense ends the start with exit code 2 and a line for each
such value.

Which cluster: `--kubeconfig`, else `KUBECONFIG`, else `~/.kube/config`, else the ServiceAccount of the pod that
Bareboat runs in. `KUBEBUILDER_ASSETS` names a folder with the programs of a control plane, for the sandbox.
"""
SELECTION = """\
## Choosing machines: environment

| Variable | Default | Meaning |
|---|---|---|
| `VAST_PREFERRED_REGIONS` | `{regions}` | Regions by preference, the best first. |
| `VAST_MAX_LATENCY_MS` | `{latency_ms:g}` | Longest round trip to a machine, in milliseconds. |
| `VAST_LATENCY_CHECK_ENABLED` | `{check}` | Whether round trips to the candidates are measured. |

## Choosing machines: ConfigMaps

Read every 15 seconds. A key not given is as in the environment, or as by default. A value that makes no sense leaves
everything as it was and is named in an Event of the Node. Keys stand by themselves, as here, or in a YAML document
under a key that ends in `.yaml`.
"""
CONFIG_WORDS: Mapping[str, str] = {
    "preferred_regions": "Regions by preference, the best first: `US-CA`, `SE`, or a continent (`EU`, `NA`, …).",
    "only_preferred_regions": "Nothing outside them, rather than a lower score.",
    "blocked_regions": "Never there.",
    "blocked_hosts": "Never these hosts (the cloud's ids).",
    "blocked_machines": "Never these machines (the cloud's ids).",
    "preferred_gpus": "Names, the best first, for pods that name none; they move the score.",
    "max_usd_per_hour": "$/h with disk that no pod gets past.",
    "min_reliability": "0 to 1, for pods that don't say otherwise.",
    "floor_reliability": "0 to 1, whatever a pod says.",
    "min_gpu_memory_gib": "GiB of each GPU.",
    "min_inet_down_mbps": "Mb/s towards the machine.",
    "min_inet_up_mbps": "Mb/s from the machine.",
    "min_cpu_cores": "Cores, if a pod asks for less.",
    "min_memory_gib": "GiB of memory, if a pod asks for less.",
    "min_disk_gib": "GiB of disk, if a pod asks for less.",
    "min_cuda": "CUDA version that the driver has to know.",
    "min_duration_hours": "Hours that the offer has to last.",
    "verified_only": "`true` binds all pods, `false` lets all onto unverified hosts, `none` leaves it to them.",
    "datacenter_only": "Only machines in data centers.",
    "max_latency_ms": "As `VAST_MAX_LATENCY_MS`.",
    "latency_check": "As `VAST_LATENCY_CHECK_ENABLED`.",
}


def text() -> str:
    """The whole document. The same on every machine, whatever its environment."""
    groups: list[tuple[str, type[pydantic.BaseModel]]] = [
        ("Node", settings.Node),
        ("Renting", settings.Renting),
        ("Offload", offload_settings.Offload),
        ("Proxy", settings.Proxy),
        ("Provision", settings.Provision),
        ("Log", settings.Logging),
        *((f"Cloud `{driver.name}`", driver.settings) for driver in discovery.drivers()),
        ("Sandbox", sandbox_settings.Settings),
    ]
    parts = [BEGINNING]
    parts += ["\n".join([f"## {title}", "", *_table(kind)]) + "\n" for title, kind in groups]
    parts.append(_selection())
    return "\n".join(parts)


def _table(kind: type[pydantic.BaseModel]) -> Iterator[str]:
    yield "| Variable | Default | Meaning |"
    yield "|---|---|---|"
    for name, field in kind.model_fields.items():
        variable, others = _names(kind, name, field)
        meaning = " ".join(part for part in (field.description or "", others, _allowed(field)) if part)
        yield f"| `{variable}` | {_default(field)} | {_escaped(meaning)} |"


def _names(kind: type[pydantic.BaseModel], name: str, field: pydantic.fields.FieldInfo) -> tuple[str, str]:
    alias = field.validation_alias or field.alias
    if isinstance(alias, pydantic.AliasChoices):
        first, *more = (str(choice) for choice in alias.choices)
        return first, "Also read from " + ", ".join(f"`{each}`" for each in more) + "."
    if alias is not None:
        return str(alias), ""
    return f"{kind.model_config.get('env_prefix', '')}{name}".upper(), ""


def _default(field: pydantic.fields.FieldInfo) -> str:
    if field.is_required():
        return "required"
    with _plain_environment():
        value = field.get_default(call_default_factory=True, validated_data={})
        value = str(value).replace(str(Path.home()), "~", 1) if isinstance(value, Path) else value
    if isinstance(value, pydantic.SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "") else f"`{_plain(value)}`"


def _allowed(field: pydantic.fields.FieldInfo) -> str:
    for part in typing.get_args(field.annotation) or ():
        if isinstance(part, str):
            return "Allowed: " + ", ".join(f"`{each}`" for each in typing.get_args(field.annotation)) + "."
    limits = []
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge(ge=least):
                limits.append(f"at least {_plain(least)}")
            case annotated_types.Gt(gt=bound):
                limits.append(f"more than {_plain(bound)}")
            case annotated_types.Le(le=most):
                limits.append(f"at most {_plain(most)}")
            case _:
                continue
    return f"({', '.join(limits)})" if limits else ""


def _selection() -> str:
    rules, weights = criteria.Criteria(), scoring.Weights()
    lines = [
        SELECTION.format(
            regions=",".join(rules.preferred_regions),
            latency_ms=rules.max_latency_ms or 0.0,
            check=_plain(rules.latency_check),
        ),
        f"`{selection.CONFIG}`: what comes into question. `none` takes a limit away.",
        "",
        "| Key | Default | Meaning |",
        "|---|---|---|",
        *(f"| `{key}` | {_rule(rules, key)} | {CONFIG_WORDS[key]} |" for key in selection.FIELDS),
        "",
        "Spellings of the June provider, and short ones, that mean the same:",
        "",
        "| Key | Means |",
        "|---|---|",
        *(f"| `{alias}` | `{name}` |" for alias, name in selection.ALIASES.items()),
        "",
        f"`{selection.WEIGHTS}`: what counts among them. Only the proportions matter.",
        "",
        "| Key | Default |",
        "|---|---|",
        *(f"| `{key}` | `{_plain(dataclasses.asdict(weights)[key])}` |" for key in selection.WEIGHT_KEYS),
        "",
    ]
    return "\n".join(lines)


def _rule(rules: criteria.Criteria, key: str) -> str:
    if key == "min_duration_hours":
        return f"`{_plain((rules.min_duration_s or 0.0) / 3600)}`"
    value = getattr(rules, key)
    if isinstance(value, tuple | frozenset):
        return f"`{', '.join(value)}`" if value else ""
    return f"`{_plain(value)}`"


def _escaped(meaning: str) -> str:
    return meaning.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


class _plain_environment:
    """Without what this machine says about folders."""

    def __enter__(self) -> None:
        self._kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("XDG_")}

    def __exit__(self, *_: object) -> None:
        os.environ.update(self._kept)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text())
