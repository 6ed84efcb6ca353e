"""Where a machine stands: codes such as `US-CA` (country, part), `SE` (country) or `EU` (a group of countries).

A wider code covers the narrower: `US` covers `US-CA`, `EU` covers `SE`. `CA` is Canada, never California.
"""

import re
from collections.abc import Iterable

_CODE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,8}){0,2}")

_EUROPE = """AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME
MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA UK VA XK"""
_ASIA = """AE AF AM AZ BD BH BN BT CN GE HK ID IL IN IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK
PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE"""
_SOUTH_AMERICA = "AR BO BR CL CO EC FK GF GY PE PY SR UY VE"

GROUPS: dict[str, frozenset[str]] = {
    "EU": frozenset(_EUROPE.split()),
    "ASIA": frozenset(_ASIA.split()),
    "NA": frozenset({"US", "CA", "MX"}),
    "SA": frozenset(_SOUTH_AMERICA.split()),
    "OC": frozenset({"AU", "NZ", "FJ", "PG", "NC"}),
}
"""What people write for a continent. `EU` is Europe, not the union; `NA` and `SA` are the Americas, though they are
Namibia's and Saudi Arabia's country codes too (`SA` as a region of an offer stays Saudi Arabia)."""


def canonical(text: str) -> str:
    """Upper case, parts joined by `-`: ` us_ca ` becomes `US-CA`."""
    return "-".join(text.strip().upper().replace("_", "-").replace(" ", "-").split("-"))


def looks_right(code: str) -> bool:
    """Whether a canonical code has the form of a country, a part of one, or a known group."""
    return code in GROUPS or _CODE.fullmatch(code) is not None


def covers(wanted: str, found: str) -> bool:
    """Whether a place `found` lies in the place `wanted`; both canonical."""
    if found == wanted or found.startswith(wanted + "-"):
        return True
    group = GROUPS.get(wanted)
    return group is not None and found.partition("-")[0] in group


def place(found: str | None, ordered: Iterable[str]) -> int | None:
    """The index of the first of `ordered` (canonical codes) that covers `found`; None when none does or unknown."""
    if not found:
        return None
    code = canonical(found)
    for index, wanted in enumerate(ordered):
        if covers(wanted, code):
            return index
    return None


def countries(wanted: str) -> frozenset[str]:
    """The two-letter countries that a canonical code lies in or stands for: for filters that know countries alone."""
    return GROUPS.get(wanted, frozenset({wanted.partition("-")[0]}))
