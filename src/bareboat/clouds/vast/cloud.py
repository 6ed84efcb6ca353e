"""Vast.ai behind the seam of `core.cloud`, whose docstrings are the contract: which calls, in which order, and how the
answers are put together. Bytes are `api`'s, shapes `wire`'s, meaning `translate`'s and `failures`'."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from bareboat.clouds.vast import api as apis
from bareboat.clouds.vast import create, failures, gpus, listing, routes, search, translate, wire
from bareboat.core import errors, labels, launches, needs, offers
from bareboat.core import instances as instances_
from bareboat.plumbing import clock as clocks

T = TypeVar("T")

FEW_OFFERS = 8
"""With fewer than this a second, wider search is made, so that the near misses can be told."""

LOG_PATIENCE_S = 20.0
LOG_PAUSE_S = 0.5


class VastCloud:
    """See `core.cloud.Cloud`; has logs, a census, billing and templates too."""

    name = failures.CLOUD

    def __init__(
        self, api: apis.Api, clock: clocks.Clock, *, search_pages: int = 2, visibility_window_s: float = 60.0
    ) -> None:
        self.visibility_window_s = visibility_window_s
        self._api = api
        self._clock = clock
        self._search_pages = search_pages
        self._lists = listing.Lists(api, clock)

    def __repr__(self) -> str:
        return f"VastCloud({self._api!r})"

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        """One call when enough is found; a full page is followed by the next (bounded), few offers by a wider look."""
        found = await self._offers(search.strict(wanted), self._search_pages)
        if len(found) < FEW_OFFERS:
            wide = search.category(wanted)
            if not found and not gpus.all_known(wanted.gpu_names):
                del wide["gpu_name"]
            found = {**await self._offers(wide, 1), **found}
        return list(found.values())

    async def matching(self, query: Mapping[str, Any]) -> Sequence[offers.Offer]:
        """Offers for a query in Vast's own words (`query.parse`): what `Needs` can't say. One call, at most 64 offers
        unless the query's limit is obeyed."""
        return list((await self._offers(dict(query), 1)).values())

    async def rent(self, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark) -> instances_.Instance:
        """One `PUT /asks/{id}/`. `CloudDown` means here that no connection came about, so nothing was sent."""
        return await self.rent_labelled(offer, launch, str(mark))

    async def rent_labelled(self, offer: offers.Offer, launch: launches.Launch, label: str) -> instances_.Instance:
        """The same, with a label of the caller's form."""
        body = create.body(launch, label)
        if not offer.id.isdigit():
            raise errors.OfferGone(self.name, f"{offer.id!r} is no offer of Vast")
        try:
            answer = await self._api.once(routes.RENT, offer.id, body=body)
        except apis.NotSent as error:
            raise errors.CloudDown(self.name, str(error)) from None
        except apis.Lost as error:
            raise errors.OutcomeUnknown(self.name, str(error)) from None
        failure = self._api.judge(routes.RENT, answer)
        if failure is not None:
            problem = failures.of_rent(failure)
            if isinstance(problem, errors.Throttled):
                problem.after_s = max(problem.after_s, self._api.wait_s(routes.RENT))
            raise problem
        try:
            bought = wire.decode(answer.body, wire.Created).new_contract
        except wire.Nonsense as error:
            raise errors.OutcomeUnknown(self.name, f"the rent call was answered with {error}") from None
        if bought is None:
            raise errors.OutcomeUnknown(self.name, "the rent call was answered without the number of an instance")
        return self._bought(str(bought), offer, launch, label)

    async def instances(self) -> instances_.Listing:
        """One call for each 25 instances, at most about one a second; read again when pages and count disagree."""
        return await self._lists.everything()

    async def census(self) -> instances_.Census:
        """Two calls when nothing boots, however many run; three or four and the pages of what boots else."""
        return await self._lists.census()

    async def instance(self, instance_id: str) -> instances_.Instance | None:
        """One call. An id that is no number can't exist here."""
        if not instance_id.isdigit():
            return None
        try:
            body = await self._api.read(routes.READ, instance_id)
        except errors.InstanceGone:
            return None
        found = self._understood(lambda: wire.records(wire.decode(body, wire.Single).instances, wire.Rental))
        if not found:
            return None
        instance = self._understood(lambda: translate.instance(found[0]))
        if instance.id != instance_id:
            raise errors.CloudDown(self.name, f"asked for instance {instance_id}, told of {instance.id}")
        return instance

    async def marked(self, mark: labels.Mark) -> Sequence[instances_.Instance]:
        """One call: the list, filtered by label."""
        found = await self._lists.where({"label": {"eq": str(mark)}})
        return [each for each in found if each.mark == mark]

    async def labelled(self, label: str) -> Sequence[instances_.Instance]:
        """One call: the list, filtered by label."""
        return [each for each in await self._lists.where({"label": {"eq": label}}) if each.label == label]

    async def destroy(self, instance_id: str) -> None:
        """One `DELETE`, repeated when it was throttled or lost."""
        if not instance_id.isdigit():
            return
        try:
            await self._api.read(routes.DESTROY, instance_id, body={})
        except errors.InstanceGone:
            return

    async def admit_key(self, instance_id: str, public_key: str) -> None:
        """Has an instance in ssh mode take one more public key, within seconds. One `POST`, repeated when it was
        throttled or lost. Raises `InstanceGone`. For instances that none of our keys opens (any more): a launch brings
        its own."""
        if not instance_id.isdigit():
            raise errors.InstanceGone(self.name, f"{instance_id!r} is no instance of Vast")
        await self._api.read(routes.ADMIT, instance_id, body={"ssh_key": public_key})

    async def logs(self, instance_id: str, tail: int | None = None) -> str:
        """One request for the upload, then polling of where it will be, without the key. Empty while there is no
        container yet."""
        if not instance_id.isdigit():
            raise errors.InstanceGone(self.name, f"{instance_id!r} is no instance of Vast")
        if tail is not None and tail <= 0:
            return ""
        asked = {} if tail is None else {"tail": str(tail)}
        body = await self._api.read(routes.LOGS, instance_id, body=asked)
        url = self._understood(lambda: wire.decode(body, wire.LogsRequested)).result_url
        if not url:
            raise errors.CloudDown(self.name, "promised logs without saying where")
        started_s = self._clock.monotonic_s()
        while (text := await self._api.fetch_text(url)) is None:
            if self._clock.monotonic_s() - started_s > LOG_PATIENCE_S:
                raise errors.CloudDown(self.name, f"the logs did not appear within {LOG_PATIENCE_S:g} s")
            await self._clock.sleep(LOG_PAUSE_S)
        return translate.log_text(text, tail)

    async def credit_usd(self) -> float:
        """One call."""
        body = await self._api.read(routes.USER)
        credit = self._understood(lambda: wire.decode(body, wire.User)).credit
        if credit is None:
            raise errors.CloudDown(self.name, "told the account without its credit")
        return credit

    async def templates(self, name: str) -> Sequence[tuple[str, str]]:
        """One call. The name goes as JSON: Vast's query language would turn its underscores into spaces."""
        return [(str(each.id), str(each.hash_id)) for each in await self._templates(name)]

    async def templates_named(self, name: str) -> Sequence[launches.Template]:
        """Two calls at once: the templates, and who we are. A key that may not tell who we are is no hindrance."""
        found, user = await asyncio.gather(self._templates(name), self._user_id())
        return [translate.template(each, user) for each in found]

    async def close(self) -> None:
        await self._api.close()

    async def _templates(self, name: str) -> list[wire.Template]:
        query: dict[str, Any] = {"select_cols": ["*"], "select_filters": {"name": {"eq": name}}}
        body = await self._api.read(routes.TEMPLATES, query=query)
        found = self._understood(lambda: wire.records(wire.decode(body, wire.TemplatesFound).templates, wire.Template))
        named = [each for each in found if each.name == name and each.hash_id]
        named.sort(key=lambda each: (each.created_at or 0.0, each.id or 0), reverse=True)
        return named

    async def _user_id(self) -> int | None:
        try:
            body = await self._api.read(routes.USER)
        except errors.CredentialsRefused:
            return None
        return self._understood(lambda: wire.decode(body, wire.User)).id

    async def _offers(self, query: dict[str, Any], pages: int) -> dict[str, offers.Offer]:
        found: dict[str, offers.Offer] = {}
        for _ in range(pages):
            body = await self._api.read(routes.SEARCH, body=query)
            asks = self._understood(lambda: wire.records(wire.decode(body, wire.Found).offers, wire.Ask))  # noqa: B023
            fresh = {each.id: each for each in map(translate.offer, asks) if each is not None and each.id not in found}
            found.update(fresh)
            dearest = max((ask.dph_total for ask in asks if ask.dph_total is not None), default=None)
            if len(asks) < search.PAGE or not fresh or dearest is None:
                break
            query = search.after(query, dearest)
        return found

    def _understood(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except wire.Nonsense as error:
            raise errors.CloudDown(self.name, f"answered what makes no sense: {error}") from None

    def _bought(
        self, instance_id: str, offer: offers.Offer, launch: launches.Launch, label: str
    ) -> instances_.Instance:
        disk_gib = max(create.MIN_DISK_GB, launch.disk_gib)
        price = offer.price(disk_gib)
        if launch.bid_usd_per_hour is not None and launch.pricing is needs.Pricing.SPOT:
            price = launch.bid_usd_per_hour + offer.usd_per_gib_month * disk_gib / offers.HOURS_PER_MONTH
        return instances_.Instance(
            cloud=self.name,
            id=instance_id,
            state=instances_.State.PROVISIONING,
            label=label,
            machine_id=offer.machine_id,
            host_id=offer.host_id,
            gpu_name=offer.gpu_name,
            gpu_count=offer.gpu_count,
            region=offer.region,
            usd_per_hour=price,
            started_s=self._clock.now_s(),
            image=launch.image or None,
            template=launch.template,
            tags={name: value for name, value in launch.env.items() if name.startswith("BAREBOAT_")},
        )
