"""Buys one instance from the template: a search in the cloud's words, the best offer first, the next when it is gone.

A search in the cloud's words can't be said as needs, so this stands beside the fleet's broker and shares with it what
both need: ranking, bans, marks. Before money is at stake the try is noted in a file, which a container that is started
anew finds: as long as it may have bought something unseen, nothing is bought.
"""

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from bareboat.core import blacklist, criteria, errors, instances, labels, launches, matching, needs, offers, ranking
from bareboat.core import cloud as clouds
from bareboat.plumbing import clock as clocks
from bareboat.proxy import about as abouts
from bareboat.proxy import decide

log = structlog.get_logger()

FALL_THROUGH = 8
# Whatever the query lets through may be taken: these ask nothing.
_NEEDS = needs.Needs(gpu_count=0, verified_only=False)
_RULES = criteria.Criteria(
    preferred_regions=(), min_reliability=None, min_inet_down_mbps=None, min_duration_s=None, max_latency_ms=None
)


class Account(clouds.Cloud, clouds.RentsFromTemplates, Protocol):
    """A cloud with the powers that the proxy needs."""


class NoOffers(Exception):
    """Nothing to rent now; a sentence says what was seen."""


class Note:
    """The try that may have bought something, in a file. Losing the file costs safety, not service."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, attempt: str, at_s: float) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({"attempt": attempt, "at_s": at_s}))
            fresh.replace(self._path)
        except OSError as error:
            log.warning("note.unwritten", path=str(self._path), why=str(error))

    def clear(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("note.left", path=str(self._path), why=str(error))

    def at_s(self, now_s: float) -> float | None:
        """When the noted try was made; None without one. One from the future was made just now, for all we know."""
        try:
            told = json.loads(self._path.read_text())
            return min(now_s, float(told["at_s"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return now_s


class Renter:
    """Rents for one pod. Never two at once: the caller waits."""

    def __init__(
        self, cloud: Account, about: abouts.About, bans: blacklist.Blacklist, note: Note, clock: clocks.Clock
    ) -> None:
        self._cloud = cloud
        self._about = about
        self._bans = bans
        self._note = note
        self._clock = clock

    async def rent(self, template: launches.Template) -> instances.Instance:
        """One search, and rent calls until one is served; each only after the one before has bought nothing for
        certain. Raises `NoOffers` and what `Cloud.rent` raises; the note stays exactly after `OutcomeUnknown`."""
        candidates = await self._candidates(template)
        attempt = secrets.token_hex(6)
        launch = self._launch(template, attempt)
        self._note.write(attempt, self._clock.now_s())
        for offer in candidates[:FALL_THROUGH]:
            try:
                bought = await self._cloud.rent_labelled(offer, launch, self._about.label)
            except errors.OfferGone as gone:
                log.info("offer.gone", offer=offer.id, why=gone.why)
            except errors.OutcomeUnknown:
                raise
            except errors.CloudError:
                self._note.clear()
                raise
            else:
                price = offer.price(max(8.0, template.disk_gib))
                log.info(
                    "instance.rented",
                    id=bought.id,
                    label=self._about.label,
                    gpu=f"{offer.gpu_count}x {offer.gpu_name}",
                    machine=offer.machine_id,
                    host=offer.host_id,
                    usd_per_hour=None if price is None else round(price, 4),
                )
                return bought
        self._note.clear()
        raise NoOffers(f"{min(FALL_THROUGH, len(candidates))} offers in a row were taken by others")

    def _launch(self, template: launches.Template, attempt: str) -> launches.Launch:
        owner = re.sub(r"[^A-Za-z0-9.-]", "-", self._about.pod_name)[-64:]
        mark = labels.Mark(self._about.cluster_id, owner, attempt)
        return launches.Launch(
            image=self._about.image,
            template=template.hash,
            disk_gib=0.0,
            registry_login=self._about.login,
            env={decide.MARK_TAG: str(mark), decide.IMAGE_TAG: self._about.image},
        )

    async def _candidates(self, template: launches.Template) -> Sequence[offers.Offer]:
        query: dict[str, Any] = {"limit": 64, **self._about.query}
        query.setdefault("allocated_storage", max(8.0, template.disk_gib))
        found = await self._cloud.matching(query)
        now_s = self._clock.now_s()
        cap = self._about.cap_usd_per_hour
        allowed = [each for each in found if not self._bans.is_banned(each, now_s)]
        paid = [each for each in allowed if cap is None or (each.price(max(8.0, template.disk_gib)) or 0.0) <= cap]
        if not paid:
            raise NoOffers(_none(len(found), len(allowed), cap))
        if "order" in query:
            return paid
        ranked = ranking.rank(paid, _NEEDS, _RULES, situation=matching.Situation(now_s=now_s, bans=self._bans))
        return [each.offer for each in ranked.ranked[:FALL_THROUGH]]


def _none(found: int, allowed: int, cap: float | None) -> str:
    if not found:
        return "VAST_SEARCH_QUERY finds no offer now"
    if not allowed:
        return f"VAST_SEARCH_QUERY finds {found} offers, all on hosts or machines that are banned"
    return f"VAST_SEARCH_QUERY finds {allowed} offers that may be taken, all dearer than the cap of {cap} $/h"
