"""One look at the offers, from which many workloads choose: none ranks anew, none gets in another's way.

Workloads with equal needs share one ranking. An offer is handed out once. Offers of a machine from which something was
already taken come last, since renting a part of a box often makes its other offers vanish.
"""

from collections.abc import Collection, Sequence

from bareboat.core import criteria, history, machines, matching, needs, offers, ranking, scoring


class _Queue:
    """Where one ranking has been handed out to. `later` holds places whose machine was taken from before."""

    def __init__(self, made: ranking.Ranking) -> None:
        self.made = made
        self.next = 0
        self.later: list[int] = []


class Market:
    """Not for several threads. How long a look stays true is the caller's business: make a new one then."""

    def __init__(
        self,
        several: Sequence[offers.Offer],
        *,
        rules: criteria.Criteria | None = None,
        weights: scoring.Weights | None = None,
        situation: matching.Situation | None = None,
        past: history.History | None = None,
    ) -> None:
        self.offers = several
        self._rules = rules
        self._weights = weights
        self._situation = situation or matching.Situation()
        self._past = past
        self._queues: dict[needs.Needs, _Queue] = {}
        self._taken: set[tuple[str, str]] = set()
        self._used: set[machines.Key] = set()

    def ranked_for(self, wanted: needs.Needs) -> ranking.Ranking:
        """Of the whole look, offers handed out since included. Made once for equal needs."""
        return self._queue(wanted).made

    def take(
        self,
        wanted: needs.Needs,
        *,
        without: Collection[machines.Key] = (),
        max_usd_per_hour: float | None = None,
        now_s: float | None = None,
    ) -> ranking.Scored | None:
        """The best offer not handed out yet, off the machines in `without`, at most so dear (on top of what the needs
        say: room in a budget); None when there is none. Bans made since the look hold. The offer is the caller's until
        `give_back`; one that proved gone is simply not given back."""
        queue = self._queue(wanted)
        self._skip(queue)
        places = range(queue.next, len(queue.made.ranked))
        place = self._first(queue, places, without, max_usd_per_hour, now_s, fresh=True)
        if place is None:
            queue.later = [p for p in queue.later if self._id(queue.made.ranked.offer(p)) not in self._taken]
            every = sorted({*queue.later, *places})
            place = self._first(queue, every, without, max_usd_per_hour, now_s, fresh=False)
        if place is None:
            return None
        chosen = queue.made.ranked[place]
        self._taken.add(self._id(chosen.offer))
        self._used.add(chosen.machine)
        return chosen

    def give_back(self, chosen: ranking.Scored) -> None:
        """It was not rented after all (no room in the budget, say), and others may have it."""
        self._taken.discard(self._id(chosen.offer))
        self._used.discard(chosen.machine)
        for queue in self._queues.values():
            queue.next, queue.later = 0, []

    def _queue(self, wanted: needs.Needs) -> _Queue:
        queue = self._queues.get(wanted)
        if queue is None:
            made = ranking.rank(self.offers, wanted, self._rules, self._weights, self._situation, past=self._past)
            queue = self._queues[wanted] = _Queue(made)
        return queue

    def _skip(self, queue: _Queue) -> None:
        """Moves past what is of no use to anybody any more, once for all who ask after."""
        ranked = queue.made.ranked
        while queue.next < len(ranked):
            offer = ranked.offer(queue.next)
            if self._id(offer) not in self._taken:
                if machines.key(offer) not in self._used:
                    return
                queue.later.append(queue.next)
            queue.next += 1

    def _first(
        self,
        queue: _Queue,
        places: Collection[int],
        without: Collection[machines.Key],
        max_usd_per_hour: float | None,
        now_s: float | None,
        *,
        fresh: bool,
    ) -> int | None:
        ranked, bans = queue.made.ranked, self._situation.bans
        for place in places:
            offer = ranked.offer(place)
            machine = machines.key(offer)
            if self._id(offer) in self._taken or machine in without or (fresh and machine in self._used):
                continue
            if max_usd_per_hour is not None and ranked.usd_per_hour(place) > max_usd_per_hour:
                continue
            if bans is not None and bans.is_banned(offer, self._situation.now_s if now_s is None else now_s):
                continue
            return place
        return None

    @staticmethod
    def _id(offer: offers.Offer) -> tuple[str, str]:
        return (offer.cloud, offer.id)
