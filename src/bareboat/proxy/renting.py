"""Buys one instance from the template, through the same broker as everything else that is rented here.

The broker sees an account that is searched by the user's query and rented from under the pod's label; ranking, bans,
falling through to the next offer and the cap in the ledger are its own. Before money is at stake the attempt is noted
in a file, which a container that is started anew finds: as long as it may have bought something unseen, nothing is
bought.
"""

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from bareboat.core import (
    blacklist,
    budget,
    criteria,
    errors,
    instances,
    labels,
    launches,
    needs,
    offers,
    ranking,
    scoring,
)
from bareboat.core import cloud as clouds
from bareboat.fleet import broker
from bareboat.plumbing import clock as clocks
from bareboat.proxy import about as abouts
from bareboat.proxy import decide

log = structlog.get_logger()

PAGE = 64
MIN_DISK_GIB = 8.0
"""The least that Vast gives; what a template doesn't say is priced with it."""
NAMESPACE = "proxy"
"""The ledger's word for where money goes; a proxy knows nothing of namespaces, and has one instance."""
# Whatever the query lets through may be taken: these ask nothing beyond the cap.
_RULES = criteria.Criteria(
    preferred_regions=(),
    min_reliability=None,
    min_inet_down_mbps=None,
    min_duration_s=None,
    max_latency_ms=None,
    latency_check=False,
)


class Account(clouds.Cloud, clouds.RentsFromTemplates, Protocol):
    """A cloud with the powers that the proxy needs."""


class Queried:
    """The account as the broker sees it: `search` asks the user's query whatever is wanted, `rent` puts the mark into
    the instance's environment and the pod's label where marks are elsewhere."""

    def __init__(self, cloud: Account, label: str, query: Mapping[str, Any]) -> None:
        self.name = cloud.name
        self.visibility_window_s = cloud.visibility_window_s
        self._cloud = cloud
        self._label = label
        self._query = query
        self.instances = cloud.instances
        self.instance = cloud.instance
        self.marked = cloud.marked
        self.destroy = cloud.destroy
        self.close = cloud.close

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        """As `Cloud.search`."""
        return await self._cloud.matching(
            {"limit": PAGE, **self._query, "allocated_storage": self._query.get("allocated_storage", wanted.disk_gib)}
        )

    async def rent(self, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark) -> instances.Instance:
        """As `Cloud.rent`."""
        marked = dataclasses.replace(launch, env={**launch.env, decide.MARK_TAG: str(mark)})
        return await self._cloud.rent_labelled(offer, marked, self._label)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One noted try. `name` is empty when the note can't be read any more."""

    name: str
    at_s: float


class Note:
    """The try that may have bought something, in a file. Losing the file costs time, not money: who finds the folder
    without a trace of an earlier life knows nothing of one, and has to wait before it rents."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._life = path.with_name("life")
        self._over = path.with_name("over")

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

    def left(self, now_s: float) -> Attempt | None:
        """The noted try; None without one. One from the future was made just now, for all we know."""
        try:
            told = json.loads(self._path.read_text())
            return Attempt(str(told["attempt"]), min(now_s, float(told["at_s"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return Attempt("", now_s)

    def closes(self) -> None:
        """From now on nothing is rented, by this process or the one that serves beside it, until the next `begins`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._over.touch()
        except OSError as error:
            log.warning("note.unwritten", path=str(self._over), why=str(error))

    @property
    def is_closed(self) -> bool:
        return self._over.exists()

    def begins(self) -> bool:
        """Whether this is the first life that the folder sees; the next one will not be."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._over.unlink(missing_ok=True)
            first = not self._life.exists()
            self._life.touch()
        except OSError as error:
            log.warning("note.unwritten", path=str(self._life), why=str(error))
            return True
        return first


class Renter:
    """Rents for one pod. Never two at once: the caller waits."""

    def __init__(
        self, cloud: Account, about: abouts.About, bans: blacklist.Blacklist, note: Note, clock: clocks.Clock
    ) -> None:
        self._about = about
        self._note = note
        self._clock = clock
        self._owner = re.sub(r"[^A-Za-z0-9.-]", "-", about.pod_name)[-64:]
        account = Queried(cloud, about.label, about.query)
        self._selection = broker.Selection(_RULES, scoring.Weights())
        self._broker = broker.Broker(
            {cloud.name: account},
            clock,
            budget.Ledger(budget.Limits(each_usd_per_hour=about.cap_usd_per_hour)),
            selection=lambda: self._selection,
            bans=bans,
            rank=in_told_order if "order" in about.query else ranking.rank,
            # Others rent too, and a pod rents seldom: an offer is looked up when it is to be taken.
            shelf_life_s=1.0,
        )

    async def rent(self, template: launches.Template, attempt: str) -> instances.Instance:
        """One search, and rent calls until one is served; each only after the one before has bought nothing for
        certain. Nothing of the pod may be left.

        Raises `broker.NoOffers`, `budget.OverBudget` and what `Cloud.rent` raises; the note stays after
        `OutcomeUnknown` and when cut short, and is cleared after every other failure.
        """
        wanted = needs.Needs(
            gpu_count=0,
            verified_only=False,
            disk_gib=max(MIN_DISK_GIB, template.disk_gib),
            max_usd_per_hour=self._about.cap_usd_per_hour,
        )
        ledger = self._broker.ledger
        ledger.release(self._owner, self._clock.now_s())
        choice = await self._broker.choose(wanted, namespace=NAMESPACE)
        self._broker.reserve(self._owner, NAMESPACE, choice, wanted)
        self._note.write(attempt, self._clock.now_s())
        launch = self._launch(template)
        mark = labels.Mark(self._about.cluster_id, self._owner, attempt)
        try:
            bought, choice = await self._broker.rent(choice, wanted, lambda _: launch, mark, namespace=NAMESPACE)
        except errors.OutcomeUnknown:
            raise
        except (broker.NoOffers, budget.OverBudget, errors.CloudError):
            self._note.clear()
            raise
        price = bought.usd_per_hour if bought.usd_per_hour is not None else choice.usd_per_hour
        # What breaks the cap is seen, and ended, at the next look: the cloud may yet tell another price.
        ledger.settle(self._owner, price, self._clock.now_s(), cap_usd_per_hour=wanted.max_usd_per_hour)
        log.info(
            "instance.rented",
            id=bought.id,
            label=self._about.label,
            attempt=attempt,
            gpu=f"{choice.offer.gpu_count}x {choice.offer.gpu_name}",
            machine=choice.offer.machine_id,
            host=choice.offer.host_id,
            usd_per_hour=round(price, 4),
            offers=choice.fitted,
        )
        return bought

    def went(self, instance: instances.Instance, *, good: bool) -> None:
        """How an attempt ended: later rankings remember it."""
        self._broker.note(instance.cloud, instance.machine_id or "", good=good)

    def _launch(self, template: launches.Template) -> launches.Launch:
        return launches.Launch(
            image=self._about.image,
            template=template.hash,
            disk_gib=0.0,
            registry_login=self._about.login,
            env={decide.IMAGE_TAG: self._about.image},
        )


def new_attempt() -> str:
    return secrets.token_hex(6)


def in_told_order(several: Sequence[offers.Offer], *arguments: Any, **words: Any) -> ranking.Ranking:
    """As `ranking.rank`, in the order in which the cloud told them: a query with an `order` decides itself."""
    by_score = ranking.rank(several, *arguments, **words)
    place = {offer.id: number for number, offer in enumerate(several)}
    told = sorted(by_score.ranked, key=lambda each: place[each.offer.id])
    price, performance, gpu, location, availability = ([each.terms[term] for each in told] for term in range(5))
    ranked = ranking.Ranked(
        [each.offer for each in told],
        [each.usd_per_hour for each in told],
        [each.score for each in told],
        (price, performance, gpu, location, availability),
        range(len(told)),
    )
    return dataclasses.replace(by_score, ranked=ranked)
