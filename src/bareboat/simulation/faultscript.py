"""Fault scripts: from a YAML document to rules. Every complaint names the place, the value and what is allowed."""

from collections.abc import Mapping
from typing import Any

from bareboat.simulation import faults

COMMON = ("rate", "per_hour", "count", "after", "from_s", "to_s", "at_s", "match")
"""Keys that every rule may have; each fault adds its own settings."""


def profile(name: str, catalogue: faults.Catalogue = faults.VAST) -> list[faults.Rule]:
    """The rules of a profile; raises BadScript for an unknown one."""
    if name not in faults.PROFILES:
        raise faults.BadScript(f"profile is {name!r}; it has to be one of {', '.join(faults.PROFILES)}")
    rules = []
    for kind in catalogue.kinds:
        if name == "none" or kind.nasty == 0 or (name == "quirks" and kind.name not in catalogue.quirks):
            continue
        hazard = kind.when is faults.When.HAZARD
        rule = faults.Rule(kind, rate=None if hazard else kind.nasty, per_hour=kind.nasty if hazard else None)
        if name == "quirks" and "never" in kind.settings:
            rule.settings = {"never": 0.0}
        rules.append(rule)
    return rules


def parse(
    script: Mapping[str, Any] | None, *, default_profile: str = "quirks", catalogue: faults.Catalogue = faults.VAST
) -> list[faults.Rule]:
    """Rules of a script document `{profile: …, faults: {name: rule or [rules]}}`; raises BadScript."""
    document = script or {}
    if not isinstance(document, Mapping):
        raise faults.BadScript(
            f"the script is a {type(script).__name__}; it has to be a mapping with `profile` and `faults`"
        )
    unknown = set(document) - {"profile", "faults", "switches"}
    if unknown:
        raise faults.BadScript(
            f"the script has {', '.join(sorted(map(str, unknown)))}; allowed are profile, faults, switches"
        )
    rules = profile(str(document.get("profile", default_profile)), catalogue)
    lines = document.get("faults") or {}
    if not isinstance(lines, Mapping):
        raise faults.BadScript("faults has to be a mapping from a fault's name to its rule or list of rules")
    for name, given in lines.items():
        for line in given if isinstance(given, list) else [given]:
            rules.append(parse_rule(str(name), line, catalogue))
    return rules


def parse_rule(name: str, line: Any, catalogue: faults.Catalogue = faults.VAST) -> faults.Rule:
    """One rule; a bare number is its rate. Raises BadScript."""
    kind = catalogue.by_name.get(name)
    if kind is None:
        raise faults.BadScript(f"faults.{name} is not a fault; there are {', '.join(catalogue.by_name)}")
    if isinstance(line, int | float) and not isinstance(line, bool):
        line = {"per_hour" if kind.when is faults.When.HAZARD else "rate": line}
    if not isinstance(line, Mapping):
        raise faults.BadScript(f"faults.{name} is {line!r}; it has to be a number (its rate) or a mapping")
    allowed = {*COMMON, *kind.settings}
    for key in line:
        if key not in allowed:
            raise faults.BadScript(f"faults.{name}.{key} is not known; allowed are {', '.join(sorted(allowed))}")
    rule = faults.Rule(
        kind,
        rate=_number(name, line, "rate", 0, 1),
        per_hour=_number(name, line, "per_hour", 0, 1e6),
        left=_count(name, line, "count"),
        skip=_count(name, line, "after") or 0,
        from_s=_number(name, line, "from_s", 0, 1e12) or 0.0,
        to_s=_number(name, line, "to_s", 0, 1e12) or float("inf"),
        at_s=_number(name, line, "at_s", 0, 1e12),
        match=_match(name, line.get("match") or {}),
        settings={key: _setting(name, key, value) for key, value in line.items() if key in kind.settings},
    )
    _check_drive(name, kind, rule, line)
    return rule


def _check_drive(name: str, kind: faults.Kind, rule: faults.Rule, line: Mapping[str, Any]) -> None:
    """A rule needs one thing that makes it strike, and one that its fault can follow."""
    if rule.rate is rule.per_hour is rule.left is rule.at_s is None:
        if "from_s" not in line and "to_s" not in line:
            raise faults.BadScript(
                f"faults.{name} says neither rate, per_hour, count, at_s nor a window (from_s, to_s)"
            )
        rule.rate = 1.0
    if rule.per_hour is not None and kind.when is not faults.When.HAZARD:
        raise faults.BadScript(
            f"faults.{name}.per_hour: this fault waits for requests or steps; give it a rate or a count"
        )
    if kind.when is faults.When.SCENARIO and rule.at_s is None:
        raise faults.BadScript(f"faults.{name} happens at a moment; give it at_s (seconds after the start)")
    if rule.at_s is not None and kind.when is faults.When.CHANCE:
        raise faults.BadScript(f"faults.{name}.at_s: this fault waits for requests or steps; give it from_s and to_s")


def _number(name: str, line: Mapping[str, Any], key: str, least: float, most: float) -> float | None:
    value = line.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise faults.BadScript(f"faults.{name}.{key} is {value!r}; it has to be a number from {least:g} to {most:g}")
    return float(value)


def _count(name: str, line: Mapping[str, Any], key: str) -> int | None:
    value = line.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise faults.BadScript(f"faults.{name}.{key} is {value!r}; it has to be a whole number, 0 or more")
    return value


def _match(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or set(given) - set(faults.MATCHES):
        raise faults.BadScript(
            f"faults.{name}.match is {given!r}; it has to be a mapping with {', '.join(faults.MATCHES)}"
        )
    return dict(given)


def _setting(name: str, key: str, value: Any) -> faults.Value:
    if isinstance(value, list):
        if len(value) != 2 or not all(isinstance(part, int | float) for part in value) or value[0] > value[1]:
            raise faults.BadScript(f"faults.{name}.{key} is {value!r}; a range has to be [least, most]")
        return (float(value[0]), float(value[1]))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise faults.BadScript(f"faults.{name}.{key} is {value!r}; it has to be a number, a text or a range [least, most]")
