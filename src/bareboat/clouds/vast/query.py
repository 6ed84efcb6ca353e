"""Vast's search language, from text to the object that the API takes; the object itself, as JSON, is taken as well.

The same text means here what it means to Vast's own command line (whose parser the tests use as an oracle), its
oddities included. What makes that one crash, and what it prints, is an error that points at the clause or a warning
that is returned.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

DEFAULTS: Mapping[str, Mapping[str, bool]] = {
    "verified": {"eq": True},
    "external": {"eq": False},
    "rentable": {"eq": True},
    "rented": {"eq": False},
}
"""What the command line adds to each search. A clause on the same field and operator replaces it, `any` removes it."""

ALIASES: Mapping[str, str] = {
    "cuda_vers": "cuda_max_good",
    "display_active": "gpu_display_active",
    "dlperf_usd": "dlperf_per_dphtotal",
    "dph": "dph_total",
    "flops_usd": "flops_per_dphtotal",
}
# Users write GB and days, the API has MB (decimal) and seconds.
MULTIPLIERS: Mapping[str, float] = {"cpu_ram": 1000, "gpu_ram": 1000, "gpu_total_ram": 1000, "duration": 86400.0}

_FIELDS = (
    "bw_nvlink,cluster_id,compute_cap,cpu_arch,cpu_cores,cpu_cores_effective,cpu_ghz,cpu_ram,cuda_max_good,datacenter,"
    "direct_port_count,disk_bw,disk_space,dlperf,dlperf_per_dphtotal,dph_total,driver_version,duration,external,"
    "flops_per_dphtotal,geolocation,gpu_arch,gpu_display_active,gpu_frac,gpu_max_power,gpu_max_temp,gpu_mem_bw,gpu_name,"
    "gpu_ram,gpu_total_ram,has_avx,host_id,id,inet_down,inet_down_cost,inet_up,inet_up_cost,machine_id,min_bid,mobo_name,"
    "num_gpus,pci_gen,pcie_bw,reliability,rentable,rented,static_ip,storage_cost,total_flops,ubuntu_version,verification,"
    "verified,vms_enabled"
)
FIELDS = frozenset(_FIELDS.split(","))
_JSON_FIELDS = FIELDS | {
    "ask_contract_id", "bundle_id", "dph_base", "driver_vers", "expected_reliability", "hosting_type", "os_version",
    "reliability2", "score", "vericode",
}  # fmt: skip

_WORDS = {
    "=": "eq", "==": "eq", "eq": "eq",
    "!=": "neq", "neq": "neq", "noteq": "neq", "not eq": "neq",
    ">": "gt", "gt": "gt", ">=": "gte", "gte": "gte",
    "<": "lt", "lt": "lt", "<=": "lte", "lte": "lte",
    "in": "in", "notin": "notin", "not in": "notin", "nin": "notin",
}  # fmt: skip
OPERATORS = ("eq", "neq", "gt", "gte", "lt", "lte", "in", "notin")
_SIGNS = {"eq": "=", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": " in ", "notin": " notin "}
_WILDCARDS = ("?", "*", "any")
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}

# Alternatives are tried in this order, so `note` is an operator's beginning only where `noteq` follows.
_CLAUSE = re.compile(
    r"""
    (?P<field> [A-Za-z0-9_]+ )
    (?P<operator> [ ]*[=<>!]+ | [ ]+ (?: [lg]te? | nin | neq | eq | not[ ]?eq | not[ ]?in | in ) [ ] )?
    [ ]*
    (?P<value> \[ [^\]]+ \] | " [^"]+ " | [^ ]+ )?
    [ ]*
    """,
    re.VERBOSE,
)

Query = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """`query` as the API takes it; `warnings` are sentences for people: what was sent although it looks wrong."""

    query: Query
    warnings: tuple[str, ...] = ()


class QueryError(ValueError):
    """`why` is a sentence; `at` and `length` point at the clause in `text`. As a string it shows all of that."""

    def __init__(self, why: str, text: str, at: int, length: int = 1) -> None:
        self.why, self.text, self.at, self.length = why, text, at, max(1, length)
        # Only the line that is meant: JSON may come with many.
        start = text.rfind("\n", 0, at) + 1
        line = text[start:].split("\n", 1)[0]
        marks = "^" * max(1, min(self.length, len(line) - (at - start)))
        super().__init__(f"{why}\n  {line}\n  {' ' * (at - start)}{marks}")


def parse(text: str | Sequence[str], *, defaults: bool = False) -> Parsed:
    """The query of a text (or of words, as a shell hands them over), in either form.

    `defaults` starts from `DEFAULTS`, for text only: JSON is sent as it stands. Raises `QueryError`.
    """
    whole = (text if isinstance(text, str) else " ".join(text)).strip()
    if whole.startswith("{"):
        return _of_json(whole)
    query: Query = {field: dict(tests) for field, tests in DEFAULTS.items()} if defaults else {}
    warnings: list[str] = []
    end = 0
    for match in _CLAUSE.finditer(whole):
        if match.start() != end:
            break
        end = match.end()
        _apply(_Clause(whole, match), query, warnings)
    if end != len(whole):
        why = f"Unconsumed text {whole[end:].split(' ')[0]!r}: a clause is FIELD OPERATOR VALUE, such as num_gpus>=2"
        raise QueryError(why, whole, end, len(whole) - end)
    return Parsed(query, tuple(warnings))


def parse_order(text: str) -> list[list[str]]:
    """`a-,b+,c` → `[["a","desc"],["b","asc"],["c","asc"]]`; a sign may stand before the name as well."""
    order: list[list[str]] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        field = name.strip("+-")
        order.append([ALIASES.get(field, field), "desc" if "-" in (name[0], name[-1]) else "asc"])
    return order


def text_of(query: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a query's filters. Raises `ValueError` for values that the language can't carry, such as names with
    underscores: JSON carries them."""
    clauses = []
    for field, tests in query.items():
        for operator, value in tests.items():
            clauses.append(f"{field}{_SIGNS[operator]}{_text_of_value(field, value)}")
    return " ".join(clauses)


@dataclass(frozen=True, slots=True)
class _Clause:
    text: str
    match: re.Match[str]

    @property
    def field(self) -> str:
        written = self.match["field"]
        return ALIASES.get(written, written)

    @property
    def operator(self) -> str:
        written = (self.match["operator"] or "").strip()
        if written not in _WORDS:
            told = f"Unknown operator {written!r}" if written else "Unknown operator: there is none"
            allowed = "=, !=, <, <=, >, >=, in, not in"
            self.refuse(f"{told} after the field {self.match['field']!r}; allowed are {allowed}")
        return _WORDS[written]

    @property
    def value(self) -> str:
        return (self.match["value"] or "").strip(",[]")

    def refuse(self, why: str) -> NoReturn:
        start, end = self.match.span()
        raise QueryError(why, self.text, start, len(self.text[start:end].rstrip()))


def _apply(clause: _Clause, query: Query, warnings: list[str]) -> None:
    field, value = clause.field, clause.value
    if field not in FIELDS:
        warnings.append(_unknown(clause.match["field"], FIELDS))
    operator = clause.operator
    if operator in ("in", "notin"):
        read = _list_of(clause, value)
    else:
        if not value:
            clause.refuse(f"Value cannot be blank: {field} {_SIGNS[operator]} what?")
        if value in _WILDCARDS:
            if operator != "eq":
                clause.refuse(f"Wildcard only makes sense with equals. Write {field}={value}")
            query.pop(field, None)
            return
        read = _scalar_of(clause, value)
    query.setdefault(field, {})[operator] = read


def _list_of(clause: _Clause, value: str) -> list[str]:
    if clause.field in MULTIPLIERS:
        clause.refuse(f"{clause.field} takes one number with <, <=, =, >=, > or !=, not a list")
    if clause.field == "driver_version" and "." in value:
        clause.refuse("driver_version takes one version with <, <=, =, >=, > or !=, not a list")
    parts = [part.strip() for part in value.split(",")]
    read = [part.replace("_", " ").strip('"') for part in parts if part]
    if not read:
        clause.refuse(f"Value cannot be blank: {clause.field} in what?")
    return read


def _scalar_of(clause: _Clause, value: str) -> Any:
    if clause.field == "driver_version" and "." in value:
        return _version(clause, value)
    plain = value.replace("_", " ").strip('"')
    if clause.field in MULTIPLIERS:
        return _number(clause, plain) * MULTIPLIERS[clause.field]
    return _CONSTANTS.get(plain, plain)


def _version(clause: _Clause, value: str) -> int:
    parts = value.split(".")
    try:
        if len(parts) != 3:
            raise ValueError
        # Vast compares versions as one number of three digits each.
        return int("".join(part.zfill(3) for part in parts))
    except ValueError:
        clause.refuse(f"Value cannot be blank: driver_version is {value!r}; it takes 535 or 535.86.05")


def _number(clause: _Clause, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        unit = "days" if clause.field == "duration" else "GB"
        clause.refuse(f"{clause.field} is {value!r}; it takes a number of {unit}")
    return number


def _unknown(field: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(field, sorted(known), n=1, cutoff=0.7)
    return f"unknown field {field!r}{f' (did you mean {near[0]}?)' if near else ''}: sent as it is"


def _text_of_value(field: str, value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_quoted(part, ",[]") for part in value) + "]"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        if field == "driver_version":
            digits = f"{value:09d}"
            return f"{digits[:-6]}.{digits[-6:-3]}.{digits[-3:]}"
        return repr(value / MULTIPLIERS.get(field, 1))
    return _quoted(value, "")


def _quoted(value: Any, forbidden: str) -> str:
    taken = (*_WILDCARDS, *_CONSTANTS)
    if not isinstance(value, str) or not value or any(char in value for char in f'_"{forbidden}') or value in taken:
        raise ValueError(f"{value!r} can't be said in the query language; send JSON")
    if value != value.strip(",[] "):
        raise ValueError(f"{value!r} would lose its ends in the query language; send JSON")
    return f'"{value}"' if " " in value else value


def _of_json(text: str) -> Parsed:
    try:
        query = json.loads(text, parse_constant=lambda name: _not_json(text, name))
    except json.JSONDecodeError as error:
        raise QueryError(f"The query is no JSON: {error.msg}", text, min(error.pos, len(text) - 1)) from None
    warnings: list[str] = []
    for key, value in query.items():
        check = _DIRECTIVES.get(key)
        if check is not None:
            allowed = check(value)
            if allowed:
                _refuse_json(text, key, f"{key!r} is {json.dumps(value)}; allowed is {allowed}")
        else:
            _check_tests(text, key, value)
            if key not in _JSON_FIELDS:
                warnings.append(_unknown(key, _JSON_FIELDS))
    return Parsed(query, tuple(warnings))


def _check_tests(text: str, field: str, tests: Any) -> None:
    if not isinstance(tests, dict):
        example = json.dumps({field: {"eq": tests}})
        _refuse_json(text, field, f"{field!r} has {json.dumps(tests)} in place of an operator; write {example}")
    for operator, value in tests.items():
        if operator not in OPERATORS:
            allowed = ", ".join(OPERATORS)
            _refuse_json(text, operator, f"Unknown operator {operator!r} for {field!r}; allowed are {allowed}")
        if operator in ("in", "notin") and not isinstance(value, list):
            _refuse_json(text, field, f"{field!r} {operator} takes a list, not {json.dumps(value)}")
        if isinstance(value, dict):
            _refuse_json(text, field, f"{field!r} {operator} takes a value, not an object")


def _refuse_json(text: str, key: str, why: str) -> NoReturn:
    quoted = json.dumps(key)
    raise QueryError(why, text, max(0, text.find(quoted)), len(quoted))


def _not_json(text: str, name: str) -> NoReturn:
    raise QueryError(f"The query is no JSON: {name} is no value there", text, max(0, text.find(name)), len(name))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_order(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and pair[1] in ("asc", "desc")
        for pair in value
    )


def _must(test: Callable[[Any], bool], allowed: str) -> Callable[[Any], str]:
    return lambda value: "" if test(value) else allowed


_TYPES = ("on-demand", "ondemand", "bid", "reserved", "interruptible")
_anything = _must(lambda _: True, "")
# What stands beside the filters: each check returns what is allowed, or nothing when it is content.
_DIRECTIVES: Mapping[str, Callable[[Any], str]] = {
    "order": _must(_is_order, 'a list of [FIELD, "asc" or "desc"]'),
    "type": _must(lambda value: value in _TYPES, "one of " + ", ".join(_TYPES)),
    "limit": _must(lambda value: _is_number(value) and value >= 1 and value == int(value), "a whole number from 1 up"),
    "allocated_storage": _must(lambda value: _is_number(value) and value >= 0, "a number of GB"),
    "target_reliability": _must(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "disable_bundling": _must(lambda value: isinstance(value, bool), "true or false"),
    "extra_ids": _must(lambda value: isinstance(value, list), "a list of ids"),
    **dict.fromkeys(("template_id", "show_incompatible", "sort_option", "gpu_option", "q"), _anything),
}
