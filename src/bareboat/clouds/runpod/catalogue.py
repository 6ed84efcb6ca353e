"""What can be rented and for how much: v2's catalogue, and GraphQL for what that lacks (spot, cores, memory, balance).

The catalogue has rows, not offers: a type, a place, and stock in one word. A row stands for a few offers with numbers;
each number is good for one rent, and a row whose create was refused for want of stock is left out for a while.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bareboat.clouds.runpod import api as apis
from bareboat.clouds.runpod import backends, create, failures, translate, wire
from bareboat.core import errors, labels, launches, needs, offers
from bareboat.plumbing import clock as clocks

DRY_S = 30.0
FIGURES_KEPT_S = 300.0
SPOT_KEPT_S = 30.0

_LOWEST = "{ uninterruptablePrice minimumBidPrice minVcpu minMemory stockStatus }"
_GPU_TYPES = (
    "query gpuTypes($count: Int!) { gpuTypes { id displayName memoryInGb secureCloud communityCloud securePrice"
    " communityPrice maxGpuCountSecureCloud maxGpuCountCommunityCloud"
    f" secure: lowestPrice(input: {{gpuCount: $count, secureCloud: true}}) {_LOWEST}"
    f" community: lowestPrice(input: {{gpuCount: $count, secureCloud: false}}) {_LOWEST} }} }}"
)
_RENT_SPOT = (
    "mutation rent($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input)"
    " { id name desiredStatus costPerHr gpuCount imageName machineId containerDiskInGb } }"
)
_POD = "query pod($id: String!) { pod(input: {podId: $id}) { id desiredStatus lastStatusChange } }"
_BALANCE = "query { myself { clientBalance } }"

Figures = Mapping[tuple[str, str], wire.Lowest]


class Catalogue:
    """Of one account. Remembers which offers were used and which rows ran dry."""

    def __init__(self, api: apis.Api, clock: clocks.Clock, several: backends.Backends, clouds: Sequence[str]) -> None:
        self._api = api
        self._clock = clock
        self._backends = several
        self._clouds = clouds
        self._used: dict[str, set[int]] = {}
        self._dry_until_s: dict[str, float] = {}
        self._figures: dict[int, tuple[float, Figures]] = {}

    # -- searching

    async def search(self, wanted: needs.Needs) -> list[offers.Offer]:
        """See `core.cloud.Cloud.search`."""
        count = max(1, wanted.gpu_count)
        spot = wanted.pricing is needs.Pricing.SPOT
        kinds: dict[str, list[wire.GpuType]] = {}
        for cloud in self._clouds:
            if _can_pass(cloud, wanted):
                kinds[cloud] = await self._kinds(cloud, count, wanted.min_cuda)
        figures: Figures = {}
        if spot or wanted.cpu_cores or wanted.memory_gib:
            figures = await self._lowest(count, SPOT_KEPT_S if spot else FIGURES_KEPT_S, needed=spot)
        found: list[offers.Offer] = []
        for cloud, several in kinds.items():
            for kind in several:
                more = figures.get((kind.id, cloud), wire.Lowest())
                found += translate.row_offers(kind, cloud, count, self._first(), more, wanted.min_cuda)
        return [each for each in found if not self._is_dry(each.raw.name)]

    async def _kinds(self, cloud: str, count: int, min_cuda: float | None) -> list[wire.GpuType]:
        if self._backends.is_shut("v2"):
            return await self._kinds_by_graphql(count)
        query = {"include": "AVAILABILITY", "product": "POD", "count": str(count), "cloud": cloud}
        if min_cuda is not None:
            query["minCudaVersion"] = f"{min_cuda:.1f}"
        answer = await self._api.answer(apis.Call("v2", "GET", "/catalog/gpus", query))
        failure = self._api.judge(answer)
        if failure is not None and failures.is_shut(failure):
            self._backends.shut("v2")
            return await self._kinds_by_graphql(count)
        if failure is not None:
            raise failures.of_read(failure)
        try:
            found = map(wire.gpu_type, wire.rows(answer.body, "gpus", "data"))
        except wire.Nonsense as error:
            raise errors.CloudDown(failures.CLOUD, f"answered a catalogue that makes no sense: {error}") from None
        return [kind for kind in found if kind is not None]

    async def _kinds_by_graphql(self, count: int) -> list[wire.GpuType]:
        """Without v2 there are no places, and v1 has no catalogue at all."""
        rows = await self._graphql(_GPU_TYPES, {"count": count}, "gpuTypes")
        found = []
        for row in rows if isinstance(rows, list) else []:
            record = wire.mapping(row)
            if wire.text(record.get("id")) in (None, "unknown"):
                continue
            secure, community = wire.lowest(record, "secure"), wire.lowest(record, "community")
            found.append(
                wire.GpuType(
                    id=str(record["id"]),
                    name=wire.text(record.get("displayName")) or str(record["id"]),
                    memory_gb=wire.number(record.get("memoryInGb")),
                    secure_usd=wire.positive(record.get("securePrice")),
                    community_usd=wire.positive(record.get("communityPrice")),
                    secure_most=wire.integer(record.get("maxGpuCountSecureCloud")) or 0,
                    community_most=wire.integer(record.get("maxGpuCountCommunityCloud")) or 0,
                    stock=secure.stock or community.stock,
                )
            )
        return found

    async def _lowest(self, count: int, kept_s: float, *, needed: bool) -> Figures:
        """Figures by (type, cloud) for pods of so many GPUs; what isn't needed may be missing."""
        read_s, known = self._figures.get(count, (float("-inf"), {}))
        if self._clock.monotonic_s() - read_s < kept_s:
            return known
        try:
            rows = await self._graphql(_GPU_TYPES, {"count": count}, "gpuTypes")
        except errors.CloudDown:
            if needed:
                raise
            return known
        figures = {
            (gpu_id, cloud): wire.lowest(wire.mapping(row), cloud.lower())
            for row in (rows if isinstance(rows, list) else [])
            if (gpu_id := wire.text(wire.mapping(row).get("id")))
            for cloud in ("SECURE", "COMMUNITY")
        }
        self._figures[count] = (self._clock.monotonic_s(), figures)
        return figures

    # -- offers as they are used up

    def claim(self, offer: offers.Offer) -> create.Row:
        """What to rent for the offer. Raises `OfferGone` without a call for one that was used, or whose row is dry."""
        row = offer.raw
        if not isinstance(row, create.Row):
            raise errors.OfferGone(failures.CLOUD, f"{offer.id!r} is no offer of RunPod's catalogue")
        if _number(offer) in self._used.get(row.name, ()):
            raise errors.OfferGone(failures.CLOUD, f"the offer {offer.id} was rented before")
        if self._is_dry(row.name):
            raise errors.OfferGone(failures.CLOUD, f"no {row.gpu_id} was left a moment ago")
        return row

    def used(self, offer: offers.Offer) -> None:
        """It was, or may have been, rented."""
        self._used.setdefault(offer.raw.name, set()).add(_number(offer))

    def ran_dry(self, offer: offers.Offer) -> None:
        """A create was refused: others of the row would be, too."""
        self.used(offer)
        self._dry_until_s[offer.raw.name] = self._clock.monotonic_s() + DRY_S

    def _is_dry(self, row_name: str) -> bool:
        return self._dry_until_s.get(row_name, float("-inf")) > self._clock.monotonic_s()

    def _first(self) -> dict[str, int]:
        return {name: max(numbers) + 1 for name, numbers in self._used.items()}

    # -- what only GraphQL has

    def bidding(
        self, launch: launches.Launch, mark: labels.Mark, row: create.Row, registry: str | None
    ) -> tuple[apis.Call, Callable[[bytes], wire.Pod]]:
        """The call that rents spot, and how its answer is read. Without GraphQL, v1 can do it at its own price."""
        bid = launch.bid_usd_per_hour
        if bid is None or bid <= 0:
            raise errors.LaunchRefused(failures.CLOUD, f"the bid is {bid} $/h; it has to be greater than 0")
        if self._backends.is_shut("graphql"):
            backend = backends.V1(self._api, spot=True)
            return backend.buying(launch, mark, row, registry), backend.bought
        body = create.graphql(launch, mark, row, registry, round(bid / row.count, 4))
        call = apis.Call("graphql", "POST", body={"query": _RENT_SPOT, "variables": {"input": body}})

        def read(answer: bytes) -> wire.Pod:
            data = wire.mapping(wire.mapping(wire.document(answer)).get("data"))
            return wire.v1_pod(wire.mapping(data.get("podRentInterruptable")))

        return call, read

    async def last_status_change(self, pod_id: str) -> str:
        """The text that v2 lacks; empty when it can't be had."""
        try:
            found = wire.mapping(await self._graphql(_POD, {"id": pod_id}, "pod"))
        except errors.CloudError:
            return ""
        return wire.text(found.get("lastStatusChange")) or ""

    async def credit_usd(self) -> float:
        """What the account can still spend."""
        balance = wire.number(wire.mapping(await self._graphql(_BALANCE, {}, "myself")).get("clientBalance"))
        if balance is None:
            raise errors.CloudDown(failures.CLOUD, "told the account without its balance")
        return balance

    async def _graphql(self, query: str, variables: Mapping[str, Any], name: str) -> Any:
        body = {"query": query, "variables": dict(variables)}
        answer = await self._api.answer(apis.Call("graphql", "POST", body=body))
        failure = self._api.judge(answer)
        if failure is not None:
            if failures.is_shut(failure):
                self._backends.shut("graphql")
                raise errors.CloudDown(failures.CLOUD, f"its GraphQL isn't there: {failures.shown(failure)}")
            raise failures.of_read(failure)
        try:
            return wire.mapping(wire.mapping(wire.document(answer.body)).get("data")).get(name)
        except wire.Nonsense as error:
            raise errors.CloudDown(failures.CLOUD, f"its GraphQL answered what makes no sense: {error}") from None


def _can_pass(cloud: str, wanted: needs.Needs) -> bool:
    """RunPod rates no hosts: where a rate is demanded, peers' machines can't pass, unless they alone are asked for."""
    if wanted.datacenter is not None:
        return wanted.datacenter is (cloud == "SECURE")
    return cloud == "SECURE" or not (wanted.min_reliability or wanted.verified_only)


def _number(offer: offers.Offer) -> int:
    return int(offer.id.rpartition("/")[2])
