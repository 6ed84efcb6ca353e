"""How an instance gets from rented to startable, as dated moments: placed, pulled, created, with the faults of each."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from bareboat.simulation import faults, images, rentals

Stage = rentals.Stage
GB_PER_GIB = 1.073741824


class Boot(NamedTuple):
    """The moments up to the container's creation, when its command may start (None: never), and what was moved."""

    moments: list[rentals.Moment]
    ready_s: float | None
    pulled_gb: float = 0.0


def plan(
    rental: rentals.Rental,
    found: images.Image | images.Refusal,
    times: rentals.BootTimes,
    now_s: float,
    *,
    first: bool,
    script: faults.Faults,
    subject: Mapping[str, Any],
    dice: random.Random,
) -> Boot:
    """Draws one boot. `first` is False for a start after a stop, which begins where the last life ended."""
    moments = [rentals.Moment(now_s, Stage.PLACING if first else Stage.STARTING)]
    stuck_in = _stuck_in(rental, now_s, script, subject)
    if stuck_in == Stage.PLACING:
        return Boot(moments, None)
    pull_from_s = now_s + dice.uniform(*(times.placing_s if first else times.starting_s))
    moments.append(rentals.Moment(pull_from_s, Stage.PULLING))
    if stuck_in == Stage.PULLING:
        return Boot(moments, None)
    failure = script.strikes("pull_error", now_s, subject)
    if isinstance(found, images.Refusal):
        after_s = dice.uniform(10, 40) if times.unpack_s[1] else 0.0
        moments.append(_failed_pull(pull_from_s + after_s, found.message))
        return Boot(moments, None)
    if failure is not None:
        text = failure.text("message") or f"manifest for {rental.image} not found: manifest unknown: manifest unknown"
        moments.append(_failed_pull(pull_from_s + failure.number("after_s"), text))
        return Boot(moments, None)
    cached = found.digest in rental.host.images
    slow = script.strikes("pull_slow", now_s, subject)
    takes_s = _pull_s(rental, found, times, dice, cached=cached) * (slow.number("times") if slow else 1.0)
    rental.host.images.add(found.digest)
    pulled_gb = 0.0 if cached else found.size_gib * GB_PER_GIB
    oci = script.strikes("oci_error", now_s, subject)
    if oci is not None:
        text = oci.text("message") or "exec: no such file or directory: unknown"
        failed = f"Error response from daemon: failed to create task: OCI runtime create failed: {text}"
        moments.append(rentals.Moment(pull_from_s + takes_s, Stage.CREATED, failed))
        return Boot(moments, None, pulled_gb)
    moments.append(rentals.Moment(pull_from_s + takes_s, Stage.CREATED))
    return Boot(moments, pull_from_s + takes_s + dice.uniform(*times.created_s), pulled_gb)


def _stuck_in(rental: rentals.Rental, now_s: float, script: faults.Faults, subject: Mapping[str, Any]) -> str:
    shaky = 3.0 if rental.host.reliability < 0.95 else 1.0
    stuck = script.strikes("boot_stuck", now_s, subject, weight=shaky)
    return stuck.choose("stage", (str(Stage.PLACING), str(Stage.PULLING)), "either") if stuck is not None else ""


def _failed_pull(at_s: float, message: str) -> rentals.Moment:
    return rentals.Moment(at_s, Stage.PULLING, f"Error response from daemon: {message}")


def _pull_s(
    rental: rentals.Rental, image: images.Image, times: rentals.BootTimes, dice: random.Random, *, cached: bool
) -> float:
    if image.pull_s is not None and not cached and times.unpack_s[1] > 0:
        return image.pull_s
    return rentals.pull_s(image.size_gib * GB_PER_GIB, rental.host, times, dice, cached=cached)
