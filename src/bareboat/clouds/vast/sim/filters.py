"""Vast's filter objects, `{column: {op: value}}`: eight operators, numbers that arrive as strings, nulls that match
nothing but null."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from bareboat.clouds.vast.sim import replies

_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
OPERATORS = ("eq", "neq", "gt", "gte", "lt", "lte", "in", "notin")

Test = Callable[[Any], bool]


def test(op: str, wanted: Any) -> Test:
    """A check of one value; raises Refused for an operator that Vast doesn't have."""
    if op == "eq":
        return lambda found: equal(found, wanted)
    if op == "neq":
        return lambda found: not equal(found, wanted)
    if op in ("in", "notin"):
        options = wanted if isinstance(wanted, list) else [wanted]
        if op == "in":
            return lambda found: any(equal(found, option) for option in options)
        return lambda found: found is not None and not any(equal(found, option) for option in options)
    if op in _ORDERED:
        compare = _ORDERED[op]
        return lambda found: _ordered(compare, found, wanted)
    raise replies.Refused(400, "invalid_request", f"Error in query parameters: {op} is not a valid search op")


def tests(column: str, conditions: Any) -> list[Test]:
    """All operators given for one column."""
    if not isinstance(conditions, Mapping):
        raise replies.Refused(400, "invalid_request", f"Error in query parameters: {column} is not a valid search key")
    return [test(str(op), wanted) for op, wanted in conditions.items()]


def equal(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is wanted or (found is None and wanted is False)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return _as_bool(found) == _as_bool(wanted)
    if isinstance(found, int | float):
        number = as_number(wanted)
        return number is not None and number == found
    return str(found) == str(wanted)


def as_number(value: Any) -> float | None:
    """Numbers and the strings in which clients send them."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _ordered(compare: Callable[[Any, Any], bool], found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return False
    if isinstance(found, int | float):
        number = as_number(wanted)
        return number is not None and compare(found, number)
    return compare(str(found), str(wanted))


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return bool(value)
