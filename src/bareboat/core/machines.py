"""Which physical box an offer is of: what is banned, remembered and never tried twice for one owner."""

from bareboat.core import offers

Key = tuple[str, str]
"""(cloud, id)."""


def key(offer: offers.Offer) -> Key:
    """The machine behind an offer. Clouds that hide their machines have one machine for each offer."""
    if offer.machine_id is None:
        return (offer.cloud, f"offer/{offer.id}")
    return (offer.cloud, offer.machine_id)
