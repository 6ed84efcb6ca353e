"""Places: from what Vast writes (`California, US`, `, US`, `Sweden, SE`) to `US-CA`, `US`, `SE`."""

_US = (
    "Alabama AL,Alaska AK,Arizona AZ,Arkansas AR,California CA,Colorado CO,Connecticut CT,Delaware DE,"
    "District of Columbia DC,Florida FL,Georgia GA,Hawaii HI,Idaho ID,Illinois IL,Indiana IN,Iowa IA,Kansas KS,"
    "Kentucky KY,Louisiana LA,Maine ME,Maryland MD,Massachusetts MA,Michigan MI,Minnesota MN,Mississippi MS,"
    "Missouri MO,Montana MT,Nebraska NE,Nevada NV,New Hampshire NH,New Jersey NJ,New Mexico NM,New York NY,"
    "North Carolina NC,North Dakota ND,Ohio OH,Oklahoma OK,Oregon OR,Pennsylvania PA,Puerto Rico PR,Rhode Island RI,"
    "South Carolina SC,South Dakota SD,Tennessee TN,Texas TX,Utah UT,Vermont VT,Virginia VA,Washington WA,"
    "West Virginia WV,Wisconsin WI,Wyoming WY"
)
_CANADA = (
    "Alberta AB,British Columbia BC,Manitoba MB,New Brunswick NB,Newfoundland and Labrador NL,Northwest Territories NT,"
    "Nova Scotia NS,Nunavut NU,Ontario ON,Prince Edward Island PE,Quebec QC,Québec QC,Saskatchewan SK,Yukon YT"
)


def _codes(table: str) -> dict[str, str]:
    pairs = (entry.rsplit(" ", 1) for entry in table.split(","))
    codes = {name.casefold(): code for name, code in pairs}
    return codes | {code.casefold(): code for code in codes.values()}


_STATES = {"US": _codes(_US), "CA": _codes(_CANADA)}


def normalised(geolocation: str | None, country: str | None = None) -> str | None:
    """`US-CA` where state and country are known (United States and Canada), else the country's two letters, else None.

    `country` is what the record says beside the place, used when the place names none.
    """
    parts = [part.strip() for part in (geolocation or "").split(",")]
    code = parts[-1].upper() if _is_code(parts[-1]) else (country or "").strip().upper()
    if not _is_code(code):
        return None
    for part in parts[:-1] if _is_code(parts[-1]) else parts:
        state = _STATES.get(code, {}).get(part.casefold())
        if state is not None:
            return f"{code}-{state}"
    return code


def _is_code(text: str) -> bool:
    return len(text) == 2 and text.isascii() and text.isalpha()
