"""What each cloud says about every instance, kept by one list per tick: never one read per instance.

Invariant: an instance counts as gone only when a complete, plausible listing lacks it, and either its end was asked for
or an exact read said so too. A failed, partial or implausibly short answer changes nothing: unknown is not gone.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable

import structlog

from bareboat.core import cloud as clouds
from bareboat.core import errors, instances, labels
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

PAGE = 25
CENSUS_CALLS = 3
CONFIRMATIONS = 5
LONGEST_IDLE_S = 60.0


class Watcher:
    """The instances of one account. Those in `on_change` are called with the uid of each owner whose instances changed,
    those in `on_gone` with the id of each instance that is gone, those in `on_listing` after each complete listing.

    `busy` says whether something is about to change (booting, ending): then it looks every `busy_s`. Else each call
    costs a pause of `idle_s`, and ten seconds keep to six calls a minute however many instances there are. A look is a
    full listing, or of many instances a census while little changes, with a full listing now and then.
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        clock: clocks.Clock,
        *,
        idle_s: float = 10.0,
        busy_s: float = 2.0,
    ) -> None:
        self.cloud = cloud
        self.trouble: str | None = None
        self.refused = False
        self.complete = asyncio.Event()
        self.listings = 0
        self.on_change: list[Callable[[str], None]] = []
        self.on_gone: list[Callable[[str], None]] = []
        self.on_listing: list[Callable[[], None]] = []
        self._clock = clock
        self._idle_s = idle_s
        self._busy_s = busy_s
        self._known: dict[str, instances.Instance] = {}
        self._owners: dict[str, set[str]] = {}
        self._rented_s: dict[str, float] = {}
        self._ending_s: dict[str, float] = {}
        self._gone_s: dict[str, float] = {}
        self._unproven: set[str] = set()
        self._listed_s = -math.inf
        self._listing_wanted = False
        self._expected: set[str] = set()
        self._foreign = 0
        self._owed_s = 0.0
        self._poked = asyncio.Event()

    @property
    def known(self) -> Iterable[instances.Instance]:
        """Every instance that carries a mark in our form, whichever cluster it belongs to."""
        return self._known.values()

    @property
    def busy(self) -> bool:
        return bool(self._ending_s) or any(each.state in instances.BOOTING for each in self._known.values())

    def of(self, owner_uid: str) -> list[instances.Instance]:
        """The instances marked for this owner, as last seen."""
        return [self._known[each] for each in self._owners.get(owner_uid, ())]

    def get(self, instance_id: str) -> instances.Instance | None:
        return self._known.get(instance_id)

    def rented(self, instance: instances.Instance) -> None:
        """Just bought: it may be missing from lists for the cloud's visibility window. The buyer is not told of it."""
        self._rented_s[instance.id] = self._clock.monotonic_s()
        if instance.id not in self._known and instance.mark is not None:
            self._known[instance.id] = instance
            self._owners.setdefault(instance.mark.owner_uid, set()).add(instance.id)
        self.poke()

    def expect(self, instance_id: str) -> None:
        """Its owner says that it is rented. If the lists lack it, an exact read tells which of the two is wrong."""
        if instance_id not in self._known:
            self._expected.add(instance_id)

    def listed_since(self, age_s: float) -> bool:
        """Whether a listing that was believed began within the last `age_s` seconds. If not, one is made soon."""
        if self._clock.monotonic_s() - self._listed_s <= age_s:
            return True
        self._listing_wanted = True
        self.poke()
        return False

    def seen(self, instance: instances.Instance) -> None:
        """Told by an exact read elsewhere."""
        self._gone_s.pop(instance.id, None)
        self._put(instance)

    def may_be_hidden(self, instance_id: str) -> bool:
        """Bought lately and in no list yet: a read that lacks it proves nothing."""
        return self._is_young(instance_id, self._clock.monotonic_s())

    def follow(self, instance: instances.Instance, mark: labels.Mark) -> None:
        """An exact read of an instance that its owner calls its own but that has no mark: it is watched as the owner's,
        and not proven to be ours until its label is. One whose label names an owner stays with that."""
        if self.is_proven(instance.id) or instance.mark is not None:
            return
        self._unproven.add(instance.id)
        self._keep(dataclasses.replace(instance, label=str(mark)))

    def is_proven(self, instance_id: str) -> bool:
        """Whether its own label has said whose it is."""
        return instance_id in self._known and instance_id not in self._unproven

    def ending(self, instance_id: str) -> None:
        """Its end was asked for: a listing without it proves the end."""
        self._ending_s.setdefault(instance_id, self._clock.monotonic_s())
        self.poke()

    def is_ending(self, instance_id: str) -> bool:
        return instance_id in self._ending_s

    def gone(self, instance_id: str) -> None:
        """A read said that it does not exist (any more)."""
        self._ending_s.pop(instance_id, None)
        self._rented_s.pop(instance_id, None)
        self._gone_s[instance_id] = self._clock.monotonic_s()
        self._unproven.discard(instance_id)
        instance = self._known.pop(instance_id, None)
        for told in self.on_gone:
            told(instance_id)
        if instance is not None and instance.mark is not None:
            self._disown(instance_id, instance.mark.owner_uid)

    def poke(self) -> None:
        """Look again soon."""
        self._poked.set()

    async def run(self) -> None:
        """Looks for ever. A cloud in trouble is asked again with growing pauses, and no sooner for being poked."""
        pause = backoff.Backoff(self._busy_s, 60.0)
        while True:
            try:
                calls = await self._look()
                self._recovered()
                pause.reset()
                await self._rest(self._pause_s(calls))
            except errors.Throttled as slow:
                await self._clock.sleep(max(slow.after_s, self._busy_s))
            except errors.CloudError as trouble:
                self.refused = isinstance(trouble, errors.CredentialsRefused)
                self._in_trouble(trouble.why)
                await self._clock.sleep(pause.next_s())

    def _pause_s(self, calls: int) -> float:
        """A look of many calls is paid for over several pauses, so that no pause leaves changes unseen for long."""
        if self.busy:
            self._owed_s = 0.0
            return self._busy_s
        self._owed_s += calls * self._idle_s
        most_s = LONGEST_IDLE_S if isinstance(self.cloud, clouds.HasCensus) else math.inf
        pause_s = min(self._owed_s, max(most_s, self._idle_s))
        self._owed_s -= pause_s
        return pause_s

    async def _rest(self, wait_s: float) -> None:
        """Sleeps; a poke cuts an idle pause down to a busy one."""
        await self._clock.sleep(min(wait_s, self._busy_s))
        await clocks.within(self._clock, self._poked, wait_s - self._busy_s)
        self._poked.clear()

    def _recovered(self) -> None:
        self.refused = False
        if self.trouble is not None:
            log.info("cloud.recovered", cloud=self.cloud.name)
            self.trouble = None

    def _in_trouble(self, why: str) -> None:
        if self.trouble != why:
            log.warning("cloud.trouble", cloud=self.cloud.name, why=why)
        self.trouble = why

    @property
    def _pages(self) -> int:
        """What a full listing costs in calls."""
        return max(1, math.ceil((len(self._known) + self._foreign) / PAGE))

    async def _look(self) -> int:
        """How many calls it took."""
        calls = 0
        if isinstance(self.cloud, clouds.HasCensus) and self._pages >= CENSUS_CALLS and self._census_will_do():
            census = await self.cloud.census()
            calls = CENSUS_CALLS
            if await self._apply_census(census):
                return calls
        await self._list()
        return calls + self._pages

    def _census_will_do(self) -> bool:
        """While little changes; what changed then is read one by one, and ends are proven by reads too."""
        unsettled = sum(each.state not in instances.SETTLED for each in self._known.values())
        full_is_due = self._clock.monotonic_s() >= self._listed_s + max(300.0, self._pages * 30.0)
        return (
            not full_is_due and not self._listing_wanted and unsettled <= PAGE and len(self._ending_s) <= CONFIRMATIONS
        )

    async def _apply_census(self, census: instances.Census) -> bool:
        """False when the census says that a full listing is due."""
        unsettled = {each.id for each in census.unsettled}
        moved = [
            each.id for each in self._known.values() if each.state not in instances.SETTLED and each.id not in unsettled
        ]
        if census.total != len(self._known) + self._foreign or len(moved) > CONFIRMATIONS:
            return False
        for instance_id in moved:
            instance = await self.cloud.instance(instance_id)
            if instance is None:
                return False
            self._rented_s.pop(instance_id, None)
            self._put(instance)
        for each in census.unsettled:
            self._rented_s.pop(each.id, None)
            self._put(each)
        return True

    async def _list(self) -> None:
        started_s = self._clock.monotonic_s()
        listing = await self.cloud.instances()
        present = {each.id for each in listing.instances}
        missing = [each for each in self._known.values() if each.id not in present]
        for instance_id in await self._confirmed(missing, started_s):
            self.gone(instance_id)
        await self._check_expected(present)
        self._foreign = 0
        for each in listing.instances:
            if self._is_ghost(each.id, started_s):
                continue
            self._rented_s.pop(each.id, None)
            if each.mark is not None or each.id in self._known:
                self._put(each)
            else:
                self._foreign += 1
        self._listed_s = started_s
        self._listing_wanted = False
        window_s = self.cloud.visibility_window_s
        self._gone_s = {key: at_s for key, at_s in self._gone_s.items() if at_s + window_s >= started_s}
        self.listings += 1
        self.complete.set()
        for told in self.on_listing:
            told()

    def _is_young(self, instance_id: str, at_s: float) -> bool:
        return self._rented_s.get(instance_id, -math.inf) > at_s - self.cloud.visibility_window_s

    def _is_ghost(self, instance_id: str, started_s: float) -> bool:
        """Proven gone, and this listing is too early to say otherwise: lists lag behind."""
        gone_s = self._gone_s.get(instance_id)
        return gone_s is not None and started_s <= gone_s + self.cloud.visibility_window_s

    async def _confirmed(self, missing: list[instances.Instance], started_s: float) -> list[str]:
        """Which of the missing are gone for certain. Raises `CloudDown` when the listing is shown to be false."""
        # What was never listed yet may be missing for being new, whatever was asked for since.
        old = [each.id for each in missing if not self._is_young(each.id, started_s)]
        asked = [each for each in old if self._ending_s.get(each, math.inf) < started_s]
        lost = [each for each in old if each not in self._ending_s]
        # Nobody asked for the end of these. Reading a few of them shows whether the listing can be believed at all.
        gone = []
        for instance_id in lost[:CONFIRMATIONS]:
            instance = await self.cloud.instance(instance_id)
            if instance is not None:
                raise self._not_believed(f"{len(missing)} of {len(self._known)}, among them {instance_id}")
            gone.append(instance_id)
        if asked and await self.cloud.instance(asked[0]) is not None:
            asked = []  # a list that lags, or that lacks more than it should: the next one may tell
        return asked + gone

    async def _check_expected(self, present: set[str]) -> None:
        """A list that lacks what is rented for certain may lack what nobody knows of yet, too."""
        self._expected -= present
        for instance_id in sorted(self._expected)[:CONFIRMATIONS]:
            if await self.cloud.instance(instance_id) is not None:
                raise self._not_believed(instance_id)
            self._expected.discard(instance_id)

    def _not_believed(self, lacks: str) -> errors.CloudDown:
        return errors.CloudDown(
            self.cloud.name,
            f"its list of instances lacks {lacks}, which a read of its own still shows: the list is not believed",
        )

    def _put(self, instance: instances.Instance) -> None:
        before = self._known.get(instance.id)
        if before is not None and (instance.mark is None or self.is_proven(instance.id)):
            # Somebody edited the label: the id still tells whose it is.
            instance = dataclasses.replace(instance, label=before.label)
        elif instance.mark is not None:
            self._unproven.discard(instance.id)
        self._keep(instance)

    def _keep(self, instance: instances.Instance) -> None:
        mark, before = instance.mark, self._known.get(instance.id)
        if mark is None or before == instance:
            return
        self._known[instance.id] = instance
        if before is not None and before.mark is not None and before.mark.owner_uid != mark.owner_uid:
            self._disown(instance.id, before.mark.owner_uid)
        self._owners.setdefault(mark.owner_uid, set()).add(instance.id)
        self._changed(mark.owner_uid)

    def _disown(self, instance_id: str, owner_uid: str) -> None:
        owned = self._owners.get(owner_uid, set())
        owned.discard(instance_id)
        if not owned:
            self._owners.pop(owner_uid, None)
        self._changed(owner_uid)

    def _changed(self, owner_uid: str) -> None:
        for told in self.on_change:
            told(owner_uid)
