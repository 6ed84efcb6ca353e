"""Who may ask, and how often: the bearer token, and a bucket of requests for each client address."""

import collections
import hmac

from bareboat.plumbing import clock as clocks
from bareboat.provision import refusals

MINUTE_S = 60.0
_MOST_ADDRESSES = 10_000
LOOPBACK = ("localhost", "::1")


def check_token(wanted: str, header: str | None) -> None:
    """Raises `refusals.Refused` with 401; an empty `wanted` lets everybody in."""
    if not wanted:
        return
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted.encode()):
        said = "is missing" if not header else "is not the token of this service"
        raise refusals.refused(401, "Authorization", f"{said}; send 'Authorization: Bearer' and PROVISION_TOKEN")


def exposure(host: str, token: str) -> str | None:
    """What is to be warned of: anybody who reaches the port can run images. None when all is well."""
    if token or host in LOOPBACK or host.startswith("127."):
        return None
    return (
        f"HOST is {host} and PROVISION_TOKEN is not set: whoever reaches this port can run any image in the cluster."
        " Set PROVISION_TOKEN, or HOST=127.0.0.1, or keep others away by a NetworkPolicy"
    )


class Rates:
    """At most `per_minute` requests of one address, in one go or spread out. None: as many as they like."""

    def __init__(self, clock: clocks.Clock, per_minute: int | None) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, address: str) -> None:
        """Raises `refusals.Refused` with 429."""
        if self._per_minute is None:
            return
        now_s = self._clock.monotonic_s()
        left, at_s = self._left.pop(address, (float(self._per_minute), now_s))
        left = min(float(self._per_minute), left + (now_s - at_s) * self._per_minute / MINUTE_S)
        # What has been away longest has most likely its full measure again, so nothing is lost with it.
        while len(self._left) >= _MOST_ADDRESSES:
            self._left.popitem(last=False)
        self._left[address] = (left - 1 if left >= 1 else left, now_s)
        if left < 1:
            wait_s = (1 - left) * MINUTE_S / self._per_minute
            told = f"allows {self._per_minute} requests a minute to one client, and {address} has sent more"
            raise refusals.refused(429, "PROVISION_REQUESTS_PER_MINUTE", told, wait_s)
