"""The fault script: which fault strikes when, by rate, by count, by time window or at a moment, from a seed. What a
fault does is up to the code that asks `strikes`; the catalogue says which exist and what can be set on each."""

import dataclasses
import enum
import random
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Range = tuple[float, float]
Value = float | int | str | bool | None | Range


class When(enum.Enum):
    """What a fault waits for: a request or step (an opportunity), hours of running (a hazard), or nothing but time."""

    CHANCE = "chance"
    HAZARD = "hazard"
    SCENARIO = "scenario"


class Kind(NamedTuple):
    """One entry of the catalogue. `nasty` is its rate in the profile of that name: a share of opportunities for a
    chance, per hour for a hazard. `settings` are its own keys with their defaults."""

    number: int
    name: str
    when: When
    nasty: float
    settings: Mapping[str, Value]
    about: str


class BadScript(ValueError):
    """The fault script makes no sense; the message names the place, the value and what is allowed."""


CATALOGUE = (
    Kind(1, "offer_gone", When.CHANCE, 0.07, {}, "the offer is taken between search and create"),
    Kind(
        2,
        "create_lost_answer",
        When.CHANCE,
        0.005,
        {"how": "504", "lag_s": (1, 10)},
        "create is applied, its answer is lost (how: 502, 504, hang, drop, empty, 400)",
    ),
    Kind(3, "create_error", When.CHANCE, 0.005, {"status": 500}, "create answers 5xx and nothing happened"),
    Kind(4, "create_phantom", When.CHANCE, 0.005, {}, "create answers 200; the instance never exists"),
    Kind(
        5,
        "create_unsuccessful",
        When.CHANCE,
        0.005,
        {"stray": True},
        "create answers 200 success:false, with a stopped instance when stray",
    ),
    Kind(
        6,
        "list_lag",
        When.CHANCE,
        0.2,
        {"for_s": (1, 10)},
        "the list shows a new instance late; the single read does not",
    ),
    Kind(7, "list_ghost", When.CHANCE, 0.05, {"for_s": (1, 5)}, "the list shows a destroyed instance for a while"),
    Kind(
        8,
        "list_page_shift",
        When.CHANCE,
        0.01,
        {"how": "either"},
        "a page repeats or skips an instance (how: repeat, skip, either)",
    ),
    Kind(
        9,
        "boot_stuck",
        When.CHANCE,
        0.03,
        {"stage": "either"},
        "never leaves placing or pulling (stage: placing, pulling, either); three times as likely on shaky hosts",
    ),
    Kind(10, "pull_slow", When.CHANCE, 0.10, {"times": (5, 20)}, "the pull takes that many times as long"),
    Kind(
        11,
        "pull_error",
        When.CHANCE,
        0.005,
        {"message": "", "after_s": (10, 40)},
        "the pull fails with a text (also by the rules of the image names)",
    ),
    Kind(12, "oci_error", When.CHANCE, 0.01, {"message": ""}, "the container is created and can't be started"),
    Kind(
        13,
        "ports_late",
        When.CHANCE,
        0.3,
        {"for_s": (5, 20), "never": 0.015},
        "running, but without ports for a while, or for ever",
    ),
    Kind(14, "port_refuses", When.CHANCE, 0.02, {}, "running, but nothing answers on the mapped ports"),
    Kind(15, "process_exits", When.CHANCE, 0.0, {"code": 1, "after_s": (1, 60)}, "the workload ends by itself"),
    Kind(
        16,
        "host_offline",
        When.HAZARD,
        0.002,
        {"for_s": (30, 1800), "forever": 0.3},
        "the host goes away; more often the less reliable it is",
    ),
    Kind(17, "heartbeat_lost", When.HAZARD, 0.005, {"for_s": (30, 120)}, "status reads unknown for a while"),
    Kind(
        18,
        "outbid",
        When.HAZARD,
        0.05,
        {"resume": 0.5, "resume_after_s": (120, 3600)},
        "interruptible instances alone: stopped by a higher bid, may resume",
    ),
    Kind(
        19,
        "start_queued",
        When.CHANCE,
        0.4,
        {"after_s": (60, 600)},
        "a start after more than five minutes is queued, and happens later",
    ),
    Kind(20, "rate_limited", When.CHANCE, 0.0, {}, "429 though the client kept to the thresholds"),
    Kind(
        21,
        "server_errors",
        When.CHANCE,
        0.003,
        {"status": 502, "for_s": (60, 180), "html": 0.5},
        "a burst of 5xx answers",
    ),
    Kind(22, "slow_answer", When.CHANCE, 0.02, {"for_s": (5, 40)}, "the answer takes long"),
    Kind(
        23,
        "destroy_fails",
        When.CHANCE,
        0.01,
        {"how": "any", "for_s": (10, 60)},
        "DELETE answers 429 or 500, or 200 and the instance lingers (how: 429, 500, lingers, any)",
    ),
    Kind(24, "credit_exhausted", When.SCENARIO, 0.0, {}, "credit drops to zero: creates are refused, everything stops"),
    Kind(25, "key_revoked", When.SCENARIO, 0.0, {}, "the API key is no longer known"),
    Kind(26, "ip_changes", When.HAZARD, 0.0005, {}, "the public address changes, unless it is static"),
    Kind(27, "contract_ends", When.SCENARIO, 0.0, {}, "the contract's end is reached: stopped, can't be started"),
    Kind(
        28,
        "logs_late",
        When.CHANCE,
        0.8,
        {"tries": (1, 5), "status": 403, "never": 0.025},
        "the log result is missing for some tries, or for ever",
    ),
    Kind(
        29,
        "offer_nulls",
        When.CHANCE,
        0.01,
        {"ignore_filter": 0.3},
        "an offer lacks fields, or slips past a numeric filter",
    ),
    Kind(30, "instance_vanishes", When.SCENARIO, 0.0, {}, "somebody destroys an instance elsewhere"),
    Kind(31, "ports_missing", When.CHANCE, 0.0, {"keep": 0}, "fewer ports are mapped than asked for"),
    Kind(32, "label_edited", When.SCENARIO, 0.0, {"label": None}, "somebody changes or clears a label"),
    Kind(
        33,
        "ssh_late",
        When.CHANCE,
        0.3,
        {"for_s": (1, 8), "never": 0.01},
        "running, but the ssh server does not answer for a while, or ever",
    ),
    Kind(34, "ssh_proxy_broken", When.CHANCE, 0.02, {}, "the ssh proxy takes connections and closes them"),
    Kind(35, "ssh_drops", When.SCENARIO, 0.0, {}, "every ssh connection breaks; the server answers anew"),
    Kind(36, "host_key_changes", When.SCENARIO, 0.0, {}, "the ssh server answers with another host key"),
)

BY_NAME = {kind.name: kind for kind in CATALOGUE}

QUIRKS = ("list_lag", "ports_late", "logs_late", "ssh_late")
"""What real clouds do on a good day: on in every profile but `none`, at the rates of the catalogue, never for ever."""


class Catalogue:
    """The faults of one cloud, and which of them are on in the profile `quirks`. Names that the engine itself asks for
    (boot_stuck, pull_slow, pull_error, oci_error, process_exits, host_offline, heartbeat_lost, outbid, ip_changes,
    start_queued) mean the same in every catalogue that has them."""

    def __init__(self, kinds: Iterable[Kind], quirks: Iterable[str]) -> None:
        self.kinds = tuple(kinds)
        self.by_name: Mapping[str, Kind] = {kind.name: kind for kind in self.kinds}
        self.quirks = frozenset(quirks)


VAST = Catalogue(CATALOGUE, QUIRKS)

PROFILES = ("none", "quirks", "nasty")
MATCHES = ("label", "image", "machine_id", "route", "instance_id")


@dataclasses.dataclass(slots=True)
class Rule:
    """One line of the script. Exactly one of rate, per_hour, count and at_s drives it; a window and a match narrow it.

    `left` counts down for a rule with a count; `skip` opportunities pass by first.
    """

    kind: Kind
    rate: float | None = None
    per_hour: float | None = None
    left: int | None = None
    skip: int = 0
    from_s: float = 0.0
    to_s: float = float("inf")
    at_s: float | None = None
    match: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def fits(self, subject: Mapping[str, Any]) -> bool:
        return all(_fits(wanted, subject.get(key)) for key, wanted in self.match.items())


@dataclasses.dataclass(frozen=True, slots=True)
class Strike:
    """A fault that happens now, with dice of its own for its settings."""

    rule: Rule
    dice: random.Random

    def number(self, key: str) -> float:
        value = self._value(key)
        return self.dice.uniform(*value) if isinstance(value, tuple) else float(value)  # type: ignore[arg-type]

    def text(self, key: str) -> str:
        value = self._value(key)
        return "" if value is None else str(value)

    def chance(self, key: str) -> bool:
        return self.dice.random() < self.number(key)

    def choose(self, key: str, options: tuple[str, ...], any_of: str = "any") -> str:
        value = self.text(key)
        return self.dice.choice(options) if value == any_of else value

    def _value(self, key: str) -> Value:
        return self.rule.settings.get(key, self.rule.kind.settings[key])


class Faults:
    """Rules by fault. Each fault draws from dice of its own, so that one fault's rate doesn't move another's luck."""

    def __init__(self, rules: Iterable[Rule] = (), *, seed: int = 0, start_s: float = 0.0) -> None:
        self._seed = seed
        self._start_s = start_s
        self._rules: dict[str, list[Rule]] = {}
        self._dice: dict[str, random.Random] = {}
        self.struck: dict[str, int] = {}
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> None:
        """Newer rules are asked first."""
        self._rules.setdefault(rule.kind.name, []).insert(0, rule)

    def clear(self, name: str | None = None) -> None:
        """Forgets the rules of one fault, or all."""
        if name is None:
            self._rules.clear()
        else:
            self._rules.pop(name, None)

    def rules(self) -> list[Rule]:
        return [rule for rules in self._rules.values() for rule in rules]

    def has(self, name: str) -> bool:
        """Whether asking can give anything: lets hot paths skip the dice."""
        return bool(self._rules.get(name))

    def strikes(self, name: str, now_s: float, subject: Mapping[str, Any], *, weight: float = 1.0) -> Strike | None:
        """Whether the fault happens at this opportunity; uses up a count. `weight` multiplies rates."""
        for rule in self._rules.get(name, ()):
            if self._applies(rule, now_s, subject) and self._draws(rule, weight):
                return self._strike(rule)
        return None

    def hazard_s(
        self, name: str, now_s: float, subject: Mapping[str, Any], *, weight: float = 1.0
    ) -> tuple[float, Strike] | None:
        """Seconds until the fault meets something that has just begun to run; None for never."""
        for rule in self._rules.get(name, ()):
            if not self._applies(rule, now_s, subject):
                continue
            if rule.left is not None:
                if self._draws(rule, weight):
                    return self._dice_of(name).uniform(5, 60), self._strike(rule)
                continue
            per_hour = (rule.per_hour or rule.rate or 0.0) * weight
            if per_hour > 0:
                wait_s = self._dice_of(name).expovariate(per_hour / 3600)
                if now_s + wait_s - self._start_s < rule.to_s:
                    return wait_s, self._strike(rule)
        return None

    def _applies(self, rule: Rule, now_s: float, subject: Mapping[str, Any]) -> bool:
        since_s = now_s - self._start_s
        return rule.at_s is None and rule.left != 0 and rule.from_s <= since_s < rule.to_s and rule.fits(subject)

    def _draws(self, rule: Rule, weight: float) -> bool:
        if rule.left is not None and rule.skip > 0:
            rule.skip -= 1
            return False
        if rule.rate is not None and self._dice_of(rule.kind.name).random() >= rule.rate * weight:
            return False
        if rule.left is not None:
            rule.left -= 1
        return True

    def _strike(self, rule: Rule) -> Strike:
        self.struck[rule.kind.name] = self.struck.get(rule.kind.name, 0) + 1
        return Strike(rule, self._dice_of(rule.kind.name))

    def scheduled_strike(self, rule: Rule) -> Strike:
        """The strike of a rule with `at_s`, whose moment has come."""
        return self._strike(rule)

    def _dice_of(self, name: str) -> random.Random:
        if name not in self._dice:
            self._dice[name] = random.Random(f"{self._seed}:fault:{name}")
        return self._dice[name]


def _fits(wanted: Any, found: Any) -> bool:
    """Texts match by prefix, so that one rule covers a family of labels or images."""
    if isinstance(wanted, str):
        return isinstance(found, str) and found.startswith(wanted)
    return bool(wanted == found)
