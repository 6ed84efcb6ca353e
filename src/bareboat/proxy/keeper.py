"""Looks, decides (`decide`), acts: one instance for one pod, whatever happens to it, and nginx pointed at it.

One loop, one step at a time. An instance is gone when a read says so; after a rent call that may have bought, nothing
is bought until a look that began after the cloud's visibility window has found nothing.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from bareboat.core import budget, errors, instances, labels, launches
from bareboat.fleet import broker
from bareboat.plumbing import backoff, supervise
from bareboat.plumbing import clock as clocks
from bareboat.proxy import about as abouts
from bareboat.proxy import bans as bans_
from bareboat.proxy import decide, health, nginx, renting
from bareboat.proxy import site as sites

log = structlog.get_logger()

LOOK_TIMEOUT_S = 120.0
SAY_AGAIN_S = 60.0
DESTROY_PATIENCE_S = 120.0
"""How long `destroy` goes on while the cloud gives no usable answer."""


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A rent call may have bought: until its attempt is seen, or a look begun after `until_s` has not found it. No
    attempt stands for an earlier life of which nothing is known."""

    until_s: float
    attempt: str = ""


@dataclass
class _Memory:
    """What one process knows of its instances beyond the last look."""

    bought: instances.Instance | None = None
    bought_s: float = 0.0
    doubt: _Doubt | None = None
    ending: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    unseen_until_s: dict[str, float] = field(default_factory=dict)
    silent_since_s: dict[str, float] = field(default_factory=dict)
    waiting_since_s: dict[str, float] = field(default_factory=dict)
    was_up: set[str] = field(default_factory=set)
    condemned: set[str] = field(default_factory=set)
    kept_id: str = ""


class Keeper:
    """`run()` never returns; ends by cancellation, which leaves instance and nginx as they are, or `Fatal`."""

    def __init__(
        self,
        cloud: renting.Account,
        about: abouts.About,
        pace: abouts.Pace,
        renter: renting.Renter,
        note: renting.Note,
        bans: bans_.Bans,
        front: nginx.Nginx,
        told: health.Health,
        clock: clocks.Clock,
    ) -> None:
        self._cloud = cloud
        self._about = about
        self._pace = pace
        self._renter = renter
        self._note = note
        self._bans = bans
        self._front = front
        self._health = told
        self._clock = clock
        self._memory = _Memory()
        self._template: launches.Template | None = None
        self._template_s = 0.0
        self._pause = backoff.Backoff(5.0, 300.0)
        self._not_before_s = 0.0
        self._said: dict[str, tuple[str, float]] = {}
        self._hopeless = ""
        self._foreign: set[str] = set()
        self.changed = asyncio.Event()
        """Set when nginx was pointed elsewhere."""

    async def run(self) -> None:
        """Once a poll for ever."""
        first = self._note.begins()
        self._memory.doubt = self._doubt_of_before()
        if first and self._memory.doubt is None:
            self._memory.doubt = _Doubt(self._clock.now_s() + self._cloud.visibility_window_s)
        too_often = await self._bans.started_too_often()
        while True:
            wait_s = self._pace.busy_poll_s
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    settled = await self._step(too_often)
                too_often = ""
                wait_s = self._pace.poll_s if settled else self._pace.busy_poll_s
            except errors.CredentialsRefused as refused:
                if not self._front.is_running:
                    raise supervise.Fatal(f"VAST_API_KEY: {refused.why}", exit_code=2) from None
                self._say("cloud.refused", refused.why)
            except errors.Throttled as slow:
                wait_s = max(wait_s, slow.after_s)
            except errors.CloudError as trouble:
                self._say("cloud.trouble", trouble.why)
            except TimeoutError:
                self._say("cloud.trouble", f"a look took longer than {LOOK_TIMEOUT_S:g} s")
            self._health.seen_s = self._clock.monotonic_s()
            await self._clock.sleep(wait_s)

    async def destroy(self) -> list[str]:
        """Ends all of the pod's instances, those too that a rent call under way may still bring; returns their ids once
        reads say that they are gone. A proxy that serves beside this one rents no other."""
        self._note.closes()
        ended: list[str] = []
        give_up_s = self._clock.monotonic_s() + DESTROY_PATIENCE_S
        while True:
            wait_s = self._pace.busy_poll_s
            try:
                if await self._ended_all(ended):
                    return ended
                give_up_s = self._clock.monotonic_s() + DESTROY_PATIENCE_S
            except errors.Throttled as slow:
                wait_s = max(wait_s, slow.after_s)
            except errors.CloudDown as trouble:
                if self._clock.monotonic_s() > give_up_s:
                    raise
                self._say("cloud.trouble", trouble.why)
            await self._clock.sleep(wait_s)

    async def _ended_all(self, ended: list[str]) -> bool:
        """One look for what `destroy` has to end; whether nothing is left and nothing can come any more."""
        began_s = self._clock.now_s()
        found = await self._cloud.labelled(self._about.label)
        for instance in decide.decide(found, self._wanted("", 0), decide.Known(began_s)).ours:
            if instance.id not in ended:
                self._memory.ending[instance.id] = "bareboat proxy destroy"
                ended.append(instance.id)
        if self._memory.doubt is None or self._note.left(began_s) is None:
            self._memory.doubt = self._doubt_of_before()
        self._settle_doubt(found, began_s)
        await self._end()
        return not self._memory.ending and self._memory.doubt is None

    async def _step(self, too_often: str) -> bool:
        """One look and what follows; whether all is well."""
        template, found = await self._look()
        await self._bans.refresh()
        await self._end()
        decision = await self._decided(template, found)
        if too_often and decision.keep is not None:
            await self._condemn(decision.keep, too_often)
            decision = await self._decided(template, found)
        self._foreign = {each.id for each in decision.foreign}
        for foreign in decision.foreign:
            self._say("instance.foreign", f"instance {foreign.id} carries the label but the mark of another cluster")
        for end in decision.ends:
            await self._give_up(end)
        await self._end()
        if self._hopeless and not self._memory.ending:
            told = f"VAST_TEMPLATE_IMAGE {self._about.image}: {self._hopeless}; its registry is asked with DOCKER_LOGIN"
            raise supervise.Fatal(f"{told}. The instance was destroyed.")
        up = await self._serve(decision.keep, self._port(template))
        if decision.create and not self._memory.ending:
            await self._create(template)
        return up and not decision.ends

    # -- reading

    async def _look(self) -> tuple[launches.Template, list[instances.Instance]]:
        """The template (as known, while it need not be read again) and all instances with the label. Both at once."""
        age_s = self._clock.monotonic_s() - self._template_s
        old = self._template is None or 0 < self._pace.template_s <= age_s
        if not old and self._memory.kept_id:
            assert self._template is not None
            return self._template, await self._labelled()
        started_s = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read_template(), name="proxy.template")
                listing = group.create_task(self._labelled(), name="proxy.instances")
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        log.debug("cloud.looked", took_s=round(time.perf_counter() - started_s, 3))
        self._template, self._template_s = reading.result(), self._clock.monotonic_s()
        return self._template, listing.result()

    async def _read_template(self) -> launches.Template:
        name = self._about.template_name
        try:
            template = chosen(await self._cloud.templates_named(name), name)
        except (errors.CloudError, supervise.Fatal) as trouble:
            # Whoever serves goes on serving: the template is needed when another is to be made.
            if self._template is None or not self._memory.kept_id:
                raise
            self._say("template.unread", str(trouble))
            return self._template
        if self._template is None or template.hash != self._template.hash:
            log.info("template.read", name=name, id=template.id, hash=template.hash)
        return template

    async def _labelled(self) -> list[instances.Instance]:
        began_s = self._clock.now_s()
        found = {each.id: each for each in await self._cloud.labelled(self._about.label)}
        for seen in found:
            self._memory.unseen_until_s.pop(seen, None)
        await self._find_bought(found, began_s)
        await self._find_kept(found)
        self._settle_doubt(found.values(), began_s)
        return list(found.values())

    async def _find_kept(self, found: dict[str, instances.Instance]) -> None:
        """A list that lacks what serves may have fallen short: only a read of its own says that it is gone."""
        kept = self._memory.kept_id
        if kept and kept not in found and kept not in self._memory.ending:
            read = await self._cloud.instance(kept)
            if read is not None:
                found[kept] = read

    async def _find_bought(self, found: dict[str, instances.Instance], began_s: float) -> None:
        """Lists lag behind rents: until it is listed, what was bought is read by its id."""
        memory, bought = self._memory, self._memory.bought
        if bought is None:
            return
        if bought.id in found:
            memory.bought = None
            self._note.clear()
            return
        read = await self._cloud.instance(bought.id)
        if read is not None:
            found[read.id] = read
        elif began_s - memory.bought_s <= self._cloud.visibility_window_s:
            found[bought.id] = bought
        else:
            log.warning("instance.never_seen", id=bought.id)
            await self._bans.ban(bought, "an instance that was bought never appeared")
            memory.bought = None
            self._note.clear()

    def _doubt_of_before(self) -> _Doubt | None:
        """What the process before this one may have bought unseen, as its note tells. A rent call is cut short with the
        step that it belongs to, so it was made at most so long after the note."""
        now_s, window_s = self._clock.now_s(), self._cloud.visibility_window_s
        left = self._note.left(now_s)
        if left is not None:
            return _Doubt(min(now_s, left.at_s + LOOK_TIMEOUT_S) + window_s, left.name)
        return None

    def _settle_doubt(self, found: Iterable[instances.Instance], began_s: float) -> None:
        """Only the attempt itself proves that it was served: lists show for a while what is gone."""
        doubt = self._memory.doubt
        if doubt is None:
            return
        marks = (labels.Mark.parse(each.tags.get(decide.MARK_TAG)) for each in found)
        seen = any(mark is not None and mark.attempt == doubt.attempt for mark in marks)
        if seen or began_s > doubt.until_s:
            self._memory.doubt = None
            self._note.clear()

    # -- deciding

    async def _decided(self, template: launches.Template, found: Sequence[instances.Instance]) -> decide.Decision:
        memory, now_s = self._memory, self._clock.now_s()
        port = self._port(template)
        # What is proven gone stays so, whatever lists show for a while.
        present = [each for each in found if each.id not in memory.ending and each.id not in memory.gone]
        for each in present:
            if each.state is instances.State.UNREACHABLE:
                memory.silent_since_s.setdefault(each.id, now_s)
            else:
                memory.silent_since_s.pop(each.id, None)
            if decide.upstream(each, port) is None:
                since_s = self._waiting_from_s(each, now_s)
                memory.waiting_since_s[each.id] = await self._bans.waiting_since_s(each.id, since_s)
            else:
                memory.waiting_since_s.pop(each.id, None)
        known = decide.Known(now_s, memory.waiting_since_s, memory.silent_since_s, self._bans.hosts(), memory.condemned)
        return decide.decide(present, self._wanted(template.hash, port), known)

    def _waiting_from_s(self, instance: instances.Instance, now_s: float) -> float:
        """One that still boots has done so since it was rented, maybe under an earlier container."""
        if instance.state in instances.BOOTING and instance.id not in self._memory.was_up and instance.started_s:
            return min(now_s, instance.started_s)
        return now_s

    def _wanted(self, template_hash: str, port: int) -> decide.Wanted:
        return decide.Wanted(
            image=self._about.image,
            template_hash=template_hash,
            port=port,
            cluster_id=self._about.cluster_id,
            cap_usd_per_hour=self._about.cap_usd_per_hour,
            ban_after_s=self._bans.ban_after_s,
            unreachable_s=self._pace.unreachable_s,
        )

    def _port(self, template: launches.Template) -> int:
        if self._about.upstream_port:
            return self._about.upstream_port
        return template_port(template)

    # -- acting

    async def _serve(self, keep: instances.Instance | None, port: int) -> bool:
        upstream = decide.upstream(keep, port)
        if keep is not None and keep.id != self._memory.kept_id:
            log.info("instance.kept", id=keep.id, state=keep.state.value, host=keep.host_id, machine=keep.machine_id)
        self._memory.kept_id = keep.id if keep is not None else ""
        if upstream is None:
            told = f": {keep.state.value} {keep.message}".rstrip() if keep is not None else ""
            self._health.why = f"waiting for the instance{told}"
            self._health.ready = False
            self._say("instance.awaited", self._health.why)
            # One that is merely silent may still answer; one that is gone must not be waited for.
            if self._front.is_running and (keep is None or keep.state is not instances.State.UNREACHABLE):
                await self._point(None)
            return False
        assert keep is not None
        if keep.id not in self._memory.was_up:
            self._memory.was_up.add(keep.id)
            await self._bans.waits_no_more(keep.id)
            self._pause.reset()
            self._renter.went(keep, good=True)
            log.info("instance.up", id=keep.id, address=upstream[0], port=upstream[1])
        await self._point(upstream)
        return True

    async def _point(self, upstream: decide.Upstream | None) -> None:
        if upstream == self._front.upstream and self._front.is_running:
            return
        try:
            await self._front.point(upstream)
        except (nginx.Refused, sites.BadTemplate) as wrong:
            if not self._front.is_running:
                raise supervise.Fatal(str(wrong), exit_code=2) from None
            log.error("nginx.refused", why=str(wrong))
        self.changed.set()

    async def _give_up(self, end: decide.End) -> None:
        """Notes what is to be ended; a bad host is banned, a hopeless image ends the program once nothing is left."""
        instance, verdict = end.instance, end.verdict
        log.warning("instance.given_up", id=instance.id, why=verdict.why)
        self._memory.ending[instance.id] = verdict.why
        if self._memory.bought is not None and self._memory.bought.id == instance.id:
            self._memory.bought = None
        if verdict.bad_host:
            await self._bans.ban(instance, verdict.why)
        if instance.id not in self._memory.was_up:
            # Whatever is wrong with it may be wrong with the next one too: each new try is paid for.
            self._not_before_s = self._clock.monotonic_s() + self._pause.next_s()
            self._renter.went(instance, good=False)
        if verdict.hopeless:
            self._hopeless = verdict.why

    async def _condemn(self, instance: instances.Instance, why: str) -> None:
        self._memory.condemned.add(instance.id)
        await self._bans.ban(instance, why)

    async def _end(self) -> None:
        """Asks for the end of what is to end, and forgets what a read says is gone."""
        for instance_id, why in list(self._memory.ending.items()):
            await self._cloud.destroy(instance_id)
            if await self._cloud.instance(instance_id) is None and self._may_be_gone(instance_id):
                del self._memory.ending[instance_id]
                self._memory.gone.add(instance_id)
                await self._bans.waits_no_more(instance_id)
                log.info("instance.ended", id=instance_id, why=why)

    def _may_be_gone(self, instance_id: str) -> bool:
        """Not while the cloud may not show yet what was bought."""
        return self._clock.now_s() > self._memory.unseen_until_s.get(instance_id, 0.0)

    async def _may_create(self) -> bool:
        if self._memory.doubt is not None:
            of = (
                "an earlier rent call"
                if self._memory.doubt.attempt
                else "an earlier container, of which nothing is left,"
            )
            self._say("rent.doubted", f"{of} may have bought: waiting until the cloud would show it")
            return False
        if self._note.is_closed:
            self._say("rent.closed", "bareboat proxy destroy was called: the next container rents again")
            return False
        if self._clock.monotonic_s() < self._not_before_s:
            return False
        # A second opinion, on all of the account: a filtered list that falls short must not buy another one.
        listing = await self._cloud.instances()
        labelled = {each.id for each in listing.instances if each.label == self._about.label}
        lacking = labelled - self._memory.gone - self._foreign
        if lacking:
            self._say("rent.doubted", f"the list by label lacks {', '.join(lacking)}, which the account's list shows")
        return not lacking

    async def _create(self, template: launches.Template) -> None:
        if not await self._may_create():
            return
        # A step that is cut short in the middle of a rent call leaves the doubt behind.
        window_s, attempt = self._cloud.visibility_window_s, renting.new_attempt()
        self._memory.doubt = _Doubt(self._clock.now_s() + LOOK_TIMEOUT_S + window_s, attempt)
        try:
            bought = await self._renter.rent(template, attempt)
        except errors.OutcomeUnknown as unknown:
            log.warning("rent.unknown", attempt=attempt, why=unknown.why)
            self._memory.doubt = _Doubt(self._clock.now_s() + window_s, attempt)
            if unknown.instance_id is not None:
                self._memory.unseen_until_s[unknown.instance_id] = self._memory.doubt.until_s
                self._memory.ending[unknown.instance_id] = "a rent call failed and yet made it"
            return
        except broker.NoOffers as none:
            self._say("rent.no_offers", f"VAST_SEARCH_QUERY: {none.sentence}")
        except budget.OverBudget as over:
            self._say("rent.refused", over.sentence)
        except errors.LaunchRefused as refused:
            raise supervise.Fatal(f"Vast refuses the launch: {refused.why}", exit_code=2) from None
        except (errors.NoCapacity, errors.CreditExhausted) as refused:
            self._say("rent.refused", refused.why)
        except errors.CloudError:
            self._memory.doubt = None
            raise
        else:
            self._memory.bought, self._memory.bought_s = bought, self._clock.now_s()
            self._memory.unseen_until_s[bought.id] = self._memory.bought_s + window_s
        self._memory.doubt = None

    def _say(self, event: str, why: str) -> None:
        """Once, and again after a while: a wait of hours is no reason for thousands of lines."""
        said, at_s = self._said.get(event, ("", 0.0))
        now_s = self._clock.monotonic_s()
        if said != why or now_s - at_s >= SAY_AGAIN_S:
            self._said[event] = (why, now_s)
            log.warning(event, why=why) if event != "instance.awaited" else log.info(event, why=why)


def chosen(found: Sequence[launches.Template], name: str) -> launches.Template:
    """The account's own template of that name, the newest of several. Raises `Fatal` when there is none."""
    own = [each for each in found if each.own]
    if not own:
        others = f"; {len(found)} of that name belong to others" if found else ""
        raise supervise.Fatal(
            f"VAST_TEMPLATE_NAME {name!r}: the account has no template of exactly this name{others}. "
            "Make it in Vast's console, or copy it into your account",
            exit_code=2,
        )
    if len(own) > 1:
        ids = ", ".join(each.id for each in own[1:])
        log.warning("template.ambiguous", name=name, taken=own[0].id, why="the newest", others=ids)
    return own[0]


def template_port(template: launches.Template) -> int:
    """The first TCP port that the template opens, ssh's aside. Raises `Fatal` when there is none."""
    for port in template.ports:
        if port.protocol == "TCP" and port.number != 22:
            return port.number
    raise supervise.Fatal(
        f"VAST_TEMPLATE_NAME {template.name!r}: the template opens no TCP port. Add one to its docker options, "
        "such as -p 8000:8000, or name one with BAREBOAT_PROXY_UPSTREAM_PORT",
        exit_code=2,
    )
