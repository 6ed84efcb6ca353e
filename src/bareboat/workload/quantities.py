"""Kubernetes quantities (`100m`, `1.5Gi`, `1e3`) as exact numbers, and the few ways to round them.

Exact means a Fraction: nothing is lost before a caller rounds, and rounding is always up, as Kubernetes does.
"""

import math
import re
from fractions import Fraction

Quantity = str | int | float

_FORM = re.compile(r"([+-]?)([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE]([+-]?[0-9]{1,3})|([a-zA-Z]{0,2}))")
_SUFFIXES: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    **{letter: Fraction(10 ** (3 * power)) for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Fraction(2 ** (10 * power)) for power, letter in enumerate("KMGTPE", start=1)},
}
_LARGEST_EXPONENT = 30
_GIB = 2**30


class Malformed(ValueError):
    """Not a quantity; the message names the value (and the field, if the caller gave one) and what is allowed."""


def parse(value: Quantity, field: str = "quantity") -> Fraction:
    """The exact value; `field` is only for the message of Malformed. JSON numbers are taken as they are written."""
    text = value if isinstance(value, str) else repr(value)
    form = _FORM.fullmatch(text)
    if form is None or isinstance(value, bool):
        raise _malformed(text, field)
    sign, digits, exponent, suffix = form.groups()
    scale = _SUFFIXES.get(suffix or "")
    if scale is None:
        raise _malformed(text, field)
    if exponent is not None:
        if abs(int(exponent)) > _LARGEST_EXPONENT:
            raise _malformed(text, field)
        scale = Fraction(10) ** int(exponent)
    number = Fraction(digits.rstrip(".")) * scale
    return -number if sign == "-" else number


def whole(value: Quantity, field: str = "quantity") -> int:
    """Rounded up to the next integer: bytes, or a count of devices."""
    return math.ceil(parse(value, field))


def milli(value: Quantity, field: str = "quantity") -> int:
    """Thousandths, rounded up: how Kubernetes counts CPU."""
    return math.ceil(parse(value, field) * 1000)


def cores(value: Quantity, field: str = "quantity") -> float:
    """CPU cores, to the thousandth."""
    return milli(value, field) / 1000


def gib(value: Quantity, field: str = "quantity") -> float:
    """Bytes as GiB."""
    return float(Fraction(whole(value, field), _GIB))


def _malformed(text: str, field: str) -> Malformed:
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return Malformed(
        f"{field} is {shown!r}; allowed is a number with one of the suffixes n u m k M G T P E Ki Mi Gi Ti Pi Ei "
        f"or an exponent, such as 500m, 16Gi or 1e3"
    )
