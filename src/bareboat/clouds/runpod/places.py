"""Data centres, and where they stand: `US-TX-3` is in `US-TX-3`, `EU-RO-1` in `RO-1`, `EUR-IS-2` in `IS-2`."""

_CONTINENTS = frozenset({"EU", "EUR", "AP", "OC", "NA", "SA", "AF", "ME"})


def region(data_center: str | None) -> str | None:
    """A region code that begins with the country, as `core.regions` wants it; None for no data centre."""
    if not data_center:
        return None
    first, _, rest = data_center.strip().upper().partition("-")
    return rest if first in _CONTINENTS and rest else data_center.strip().upper()


def is_data_center(name: str) -> bool:
    """Whether it has the form of RunPod's data centres: two or three parts, the last a number."""
    parts = name.strip().upper().split("-")
    return len(parts) == 3 and parts[2].isdigit() and all(part.isalpha() for part in parts[:2])
