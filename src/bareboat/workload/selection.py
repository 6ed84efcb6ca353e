"""How to choose machines, read from two ConfigMaps and the environment. Pure: data in, criteria, weights and words out.

A key that means nothing is warned about; a value that makes no sense is an error that names key, value and what is
allowed, and `Live` then keeps the last good configuration. Keys stand by themselves (`max_usd_per_hour: "0.5"`) or in
YAML documents under any key that ends in `.yaml` (`performance: {max_price_per_hour: 0.5}`).
"""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from bareboat.core import criteria, regions, scoring

CONFIG = "kube-system/vast-provider-config"
WEIGHTS = "kube-system/vast-selection-weights"
DEEPEST = 6
MOST_VALUES = 1000
NONE_WORDS = frozenset({"", "none", "null", "~", "off", "any", "unlimited"})


class Bad(ValueError):
    """What is allowed instead."""


def _number(least: float, most: float, unit: str) -> Callable[[str], float | None]:
    def parse(text: str) -> float | None:
        if text.lower() in NONE_WORDS:
            return None
        try:
            figure = float(text)
        except ValueError:
            figure = float("nan")
        if not least <= figure <= most:  # also catches nan
            raise Bad(f"a number from {least:g} to {most:g}{f' {unit}' if unit else ''}, or none")
        return figure

    return parse


def _hours(text: str) -> float | None:
    hours = _number(0, 24 * 365, "hours")(text)
    return None if hours is None else hours * 3600


def _yes(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise Bad("true or false")


def _yes_or_none(text: str) -> bool | None:
    return None if text.lower() in ("", "none", "null", "~") else _yes(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.strip("[]").split(",") if word.strip()))


def _ids(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def _regions(text: str) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(regions.canonical(word) for word in _words(text)))
    wrong = [code for code in codes if not regions.looks_right(code)]
    if wrong:
        groups = ", ".join(regions.GROUPS)
        raise Bad(f"codes such as US-CA (part of a country), SE (country) or {groups}; {wrong[0]!r} is none of these")
    return codes


_USD = _number(0.001, 1000, "US dollars an hour")
_SHARE = _number(0, 1, "")
_GIB = _number(0, 100_000, "GiB")
_MBPS = _number(0, 1_000_000, "Mb/s")

FIELDS: Mapping[str, Callable[[str], Any]] = {
    "preferred_regions": _regions,
    "only_preferred_regions": _yes,
    "blocked_regions": _regions,
    "blocked_hosts": _ids,
    "blocked_machines": _ids,
    "preferred_gpus": _words,
    "max_usd_per_hour": _USD,
    "min_reliability": _SHARE,
    "floor_reliability": _SHARE,
    "min_gpu_memory_gib": _GIB,
    "min_inet_down_mbps": _MBPS,
    "min_inet_up_mbps": _MBPS,
    "min_cpu_cores": _number(0, 10_000, "cores"),
    "min_memory_gib": _GIB,
    "min_disk_gib": _GIB,
    "min_cuda": _number(0, 100, ""),
    "min_duration_hours": _hours,
    "verified_only": _yes_or_none,
    "datacenter_only": _yes,
    "max_latency_ms": _number(1, 60_000, "ms"),
    "latency_check": _yes,
}
"""Each key of the first ConfigMap. All but `min_duration_hours` are named as in `criteria.Criteria`."""

ALIASES: Mapping[str, str] = {
    "locations": "preferred_regions",
    "gpu.type": "preferred_gpus",
    "gpu.preferred_types": "preferred_gpus",
    "gpu.memory_gb": "min_gpu_memory_gib",
    "performance.min_download_mbps": "min_inet_down_mbps",
    "performance.min_upload_mbps": "min_inet_up_mbps",
    "performance.reliability_score": "min_reliability",
    "performance.max_price_per_hour": "max_usd_per_hour",
    "max_price_per_hour": "max_usd_per_hour",
    "max_price": "max_usd_per_hour",
    "reliability_score": "min_reliability",
    "system.min_ram_gb": "min_memory_gib",
    "system.min_disk_gb": "min_disk_gib",
    "system.cpu_cores": "min_cpu_cores",
    "latency_check.enabled": "latency_check",
    "latency_check.max_acceptable_ms": "max_latency_ms",
    "blacklist.max_price_per_hour": "max_usd_per_hour",
    "blacklist.min_reliability": "floor_reliability",
    "blacklist.blocked_locations": "blocked_regions",
    "blacklist.blocked_hosts": "blocked_hosts",
    "blacklist.blocked_machines": "blocked_machines",
}
"""The grouped spelling that users of the June provider have, and short ones."""

UNUSED: Mapping[str, str] = {
    "gpu.count": "the number of GPUs comes from the pod's nvidia.com/gpu",
    "template": "image, ports and environment come from the pod",
    "autoscale": "how many run is decided by the pods there are",
    "health": "probes come from the pod",
    "modifiers": "only the five weights count",
    "latency_check.timeout_seconds": "a measurement waits as long as it is of use",
}

WEIGHT_KEYS = scoring.TERMS


@dataclass(frozen=True, slots=True)
class Read:
    """`rules` and `weights` hold only if `errors` is empty. Both kinds of message are sentences for people."""

    rules: criteria.Criteria
    weights: scoring.Weights
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def read(
    config: Mapping[str, str] | None, weights: Mapping[str, str] | None, base: criteria.Criteria | None = None
) -> Read:
    """Both ConfigMaps' data, None for one that is not there. What is not said is as in `base`, or as by default."""
    notes = _Notes()
    values: dict[str, Any] = {}
    points: dict[str, float | None] = {}
    for place, data in ((CONFIG, config), (WEIGHTS, weights)):
        for key, text in notes.leaves(place, data or {}):
            name = ALIASES.get(key, key)
            if place == WEIGHTS and name in WEIGHT_KEYS:
                notes.take(points, place, key, name, _number(0, 1_000_000, ""), text)
            elif name in FIELDS and (place == CONFIG or key.startswith("blacklist.")):
                notes.take(values, place, key, name, FIELDS[name], text)
            elif not notes.unused(place, key):
                notes.unknown(place, key)
    if "min_duration_hours" in values:
        values["min_duration_s"] = values.pop("min_duration_hours")
    made = scoring.Weights()
    try:
        made = dataclasses.replace(made, **_hundredths(points))
    except ValueError as wrong:
        notes.errors.append(f"ConfigMap {WEIGHTS}: {wrong}")
    rules = dataclasses.replace(base or criteria.Criteria(), **values)
    return Read(rules, made, tuple(notes.warnings), tuple(notes.errors))


def from_environment(env: Mapping[str, str]) -> criteria.Criteria:
    """`VAST_PREFERRED_REGIONS`, `VAST_MAX_LATENCY_MS` and `VAST_LATENCY_CHECK_ENABLED` over the defaults: the `base` of
    `read`. Raises `ValueError` with a sentence."""
    values: dict[str, Any] = {}
    for variable, name in (
        ("VAST_PREFERRED_REGIONS", "preferred_regions"),
        ("VAST_MAX_LATENCY_MS", "max_latency_ms"),
        ("VAST_LATENCY_CHECK_ENABLED", "latency_check"),
    ):
        text = env.get(variable, "").strip()
        if not text:
            continue
        try:
            values[name] = FIELDS[name](text.removesuffix("ms") if name == "max_latency_ms" else text)
        except Bad as allowed:
            raise ValueError(f"{variable} is {text!r}; allowed: {allowed}") from None
    return dataclasses.replace(criteria.Criteria(), **values)


def _hundredths(points: Mapping[str, float | None]) -> dict[str, float]:
    """Weights given as shares of 1 (0.30) brought to the scale of the defaults, which stand in for those not given."""
    given = {name: point or 0.0 for name, point in points.items()}
    shares = any(0 < point < 1 for point in given.values()) and sum(given.values()) < 1.001
    return {name: point * 100 for name, point in given.items()} if shares else given


class Live:
    """The configuration in force while the ConfigMaps change."""

    def __init__(self, base: criteria.Criteria | None = None) -> None:
        self.rules = base or criteria.Criteria()
        self.weights = scoring.Weights()
        self._base = self.rules

    def update(self, config: Mapping[str, str] | None, weights: Mapping[str, str] | None) -> Read:
        """Takes over what was read, unless there are errors: then all stays as it was."""
        found = read(config, weights, self._base)
        if not found.errors:
            self.rules, self.weights = found.rules, found.weights
        return found


class _Notes:
    """What is to be said about the keys and values read."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def leaves(self, place: str, data: Mapping[str, str]) -> list[tuple[str, str]]:
        """(path, text) of each value: `gpu.type`; the outermost `selection` and `scoring` are left out of paths."""
        found: list[tuple[str, str]] = []
        for key, text in data.items():
            if not key.endswith((".yaml", ".yml")):
                found.append((_snake(key), text.strip()))
                continue
            try:
                # The base loader builds text only: nothing is run, and NO stays Norway.
                document = yaml.load(text, Loader=yaml.BaseLoader)
                found.extend(_flat(document, ""))
            except yaml.YAMLError as wrong:
                mark = getattr(wrong, "problem_mark", None)
                where = f", line {mark.line + 1}" if mark is not None else ""
                self.errors.append(f"ConfigMap {place}: {key}{where} is not YAML: {getattr(wrong, 'problem', wrong)}")
            except Bad as wrong:
                self.errors.append(f"ConfigMap {place}: {key} {wrong}")
        return found

    def take(
        self,
        into: dict[str, Any],
        place: str,
        key: str,
        name: str,
        parse: Callable[[str], Any],
        text: str,
    ) -> None:
        try:
            value = parse(text)
        except Bad as allowed:
            self.errors.append(f"ConfigMap {place}: {key} is {text[:80]!r}; allowed: {allowed}")
            return
        held = into.get(name)
        if name == "max_usd_per_hour" and held is not None:
            value = held if value is None else min(held, value)
        into[name] = value

    def unused(self, place: str, key: str) -> bool:
        for prefix, why in UNUSED.items():
            if key == prefix or key.startswith(prefix + "."):
                sentence = f"ConfigMap {place}: {prefix} is not used: {why}"
                if sentence not in self.warnings:
                    self.warnings.append(sentence)
                return True
        return False

    def unknown(self, place: str, key: str) -> None:
        known = [*WEIGHT_KEYS] if place == WEIGHTS else [*FIELDS, *ALIASES]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(known[:30])}"
        self.warnings.append(f"ConfigMap {place}: {key} means nothing here; {meant}")


def _snake(key: str) -> str:
    return key.strip().replace("-", "_")


def _flat(node: Any, path: str) -> Iterator[tuple[str, str]]:
    found = list(itertools.islice(_walk(node, path, DEEPEST), MOST_VALUES + 1))
    if len(found) > MOST_VALUES:
        raise Bad(f"has more than {MOST_VALUES} values")
    yield from found


def _walk(node: Any, path: str, deeper: int) -> Iterator[tuple[str, str]]:
    if deeper < 0:
        raise Bad(f"is nested more than {DEEPEST} deep")
    if isinstance(node, dict):
        for key, below in node.items():
            name = _snake(str(key))
            inner = name if path in ("", "selection", "scoring") else f"{path}.{name}"
            yield from _walk(below, inner, deeper - 1)
    elif isinstance(node, list) and path:
        if not all(isinstance(part, str) for part in node):
            raise Bad(f"has something other than plain values in the list {path or 'at its top'}")
        yield path, ", ".join(node)
    elif path:
        yield path, str(node).strip()
    elif node:
        raise Bad("is not a mapping of names to values")
