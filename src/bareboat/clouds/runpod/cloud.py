"""RunPod behind the seam of `core.cloud`, whose docstrings are the contract: which calls, in which order, and how the
answers are put together. Bytes are `api`'s, shapes `wire`'s, meaning `translate`'s, `lives`' and `failures`'."""

import re
from collections.abc import Sequence

from bareboat.clouds.runpod import api as apis
from bareboat.clouds.runpod import backends, catalogue, create, failures, lives, logins, logs, translate, wire
from bareboat.core import errors, labels, launches, needs, offers
from bareboat.core import instances as instances_
from bareboat.plumbing import clock as clocks

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STOPPED = ("EXITED", "ERROR")
MOST_STORIES = 5
"""Pods whose end is looked into after one list."""

MOST_REJECTIONS = 3


class RunpodCloud:
    """See `core.cloud.Cloud`; has logs, a census and billing too."""

    name = failures.CLOUD

    def __init__(
        self,
        api: apis.Api,
        clock: clocks.Clock,
        *,
        clouds: Sequence[str] = ("SECURE", "COMMUNITY"),
        visibility_window_s: float = 60.0,
        quiet_s: float = 0.6,
    ) -> None:
        self.visibility_window_s = visibility_window_s
        self._api = api
        self._clock = clock
        self._backends = backends.Backends(api, clock)
        self._catalogue = catalogue.Catalogue(api, clock, self._backends, clouds)
        self._logins = logins.Logins(api, clock, self._backends)
        self._lives = lives.Lives()
        self._tails = logs.Tails(api, clock, quiet_s=quiet_s)
        self._stories: dict[str, str] = {}
        self._rejected: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"RunpodCloud({self._api!r})"

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        """One call for each of Secure and Community Cloud that can pass; one more, seldom, where cores, memory or spot
        prices are asked for: the catalogue doesn't have them."""
        return await self._catalogue.search(wanted)

    async def rent(self, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark) -> instances_.Instance:
        """One create, of one GPU type in one place. Before it, at most two calls for a registry login that is new."""
        row = self._catalogue.claim(offer)
        backend = self._backends.present
        spot = launch.pricing is needs.Pricing.SPOT
        create.ports(launch)  # what can't be sent is refused before a login is made for it
        backend.buying(launch, mark, row, None)
        registry = launch.registry_auth_id or await self._logins.id_of(launch.registry_login, mark)
        if spot:
            call, read = self._catalogue.bidding(launch, mark, row, registry)
        else:
            call, read = backend.buying(launch, mark, row, registry), backend.bought
        try:
            answer = await self._api.once(call)
        except apis.NotSent as error:
            raise errors.CloudDown(self.name, str(error)) from None
        except apis.Lost as error:
            self._catalogue.used(offer)
            raise errors.OutcomeUnknown(self.name, str(error)) from None
        failure = self._api.judge(answer)
        if failure is not None:
            raise self._refused(failure, offer, mark, call.api, registry)
        self._catalogue.used(offer)
        self._rejected.pop(mark.owner_uid, None)
        try:
            pod = read(answer.body)
        except wire.Nonsense as error:
            raise errors.OutcomeUnknown(self.name, f"the create was answered with {error}") from None
        return self._bought(pod, offer, launch, mark)

    async def instances(self) -> instances_.Listing:
        """One call, however many pods; more only should the list have come to have pages, and for what stopped."""
        taken_s = self._clock.now_s()
        found = [pod for pod in await self._backends.ask(lambda backend: backend.pods()) if pod.status != "TERMINATED"]
        self._lives.only(pod.id for pod in found)
        self._stories = {pod_id: story for pod_id, story in self._stories.items() if pod_id in {p.id for p in found}}
        new = [pod for pod in found if pod.status in _STOPPED and pod.id not in self._stories]
        for pod in [each for each in new if labels.Mark.parse(each.name) is not None][:MOST_STORIES]:
            await self._learn(pod)
        await self._logins.sweep({pod.registry for pod in found if pod.registry})
        return instances_.Listing(tuple(map(self._instance, found)), taken_s)

    async def census(self) -> instances_.Census:
        """The same list: one call."""
        listing = await self.instances()
        unsettled = tuple(each for each in listing.instances if each.state is not instances_.State.RUNNING)
        return instances_.Census(len(listing.instances), unsettled, listing.taken_s)

    async def instance(self, instance_id: str) -> instances_.Instance | None:
        """One call; two or three more for one that stopped, once."""
        if not _ID.fullmatch(instance_id):
            return None
        pod = await self._backends.ask(lambda backend: backend.pod(instance_id))
        if pod is None or pod.status == "TERMINATED":
            return None
        if pod.status in _STOPPED and pod.id not in self._stories:
            await self._learn(pod)
        return self._instance(pod)

    async def marked(self, mark: labels.Mark) -> Sequence[instances_.Instance]:
        """One call: the list, of which the name is compared here."""
        found = await self._backends.ask(lambda backend: backend.pods())
        return [self._instance(pod) for pod in found if pod.name == create.name(mark) and pod.status != "TERMINATED"]

    async def destroy(self, instance_id: str) -> None:
        """One `DELETE`, repeated when it was throttled or lost. A stop would go on billing a volume."""
        if not _ID.fullmatch(instance_id):
            return
        self._stories.setdefault(instance_id, "its end was asked for")
        await self._backends.ask(lambda backend: backend.end(instance_id))

    async def logs(self, instance_id: str, tail: int | None = None) -> str:
        """One call, none while the stream of an earlier one is still open. At most 5,000 lines."""
        if not _ID.fullmatch(instance_id):
            raise errors.InstanceGone(self.name, f"{instance_id!r} is no pod of RunPod")
        if tail is not None and tail <= 0:
            return ""
        return logs.joined(await self._tails.lines(instance_id), tail)

    async def credit_usd(self) -> float:
        """One call, to GraphQL: neither REST API tells the balance."""
        return await self._catalogue.credit_usd()

    async def close(self) -> None:
        await self._tails.close()
        await self._api.close()

    def _instance(self, pod: wire.Pod) -> instances_.Instance:
        return translate.instance(pod, self._lives.seen(pod), self._stories.get(pod.id, ""))

    async def _learn(self, pod: wire.Pod) -> None:
        """Why it stopped: v2 tells neither who stopped it nor what its host said."""
        text = await self._catalogue.last_status_change(pod.id)
        story = await self._tails.story(pod.id) if pod.status == "ERROR" or "runpod" in text.lower() or not text else ""
        self._stories[pod.id] = f"{text} {story}".strip()

    def _refused(
        self, failure: failures.Failure, offer: offers.Offer, mark: labels.Mark, api: str, registry: str | None
    ) -> errors.CloudError:
        if failures.is_shut(failure):
            self._backends.shut(api)
            return errors.CloudDown(self.name, f"its {api} isn't there: {failures.shown(failure)}")
        problem = failures.of_rent(failure)
        if isinstance(problem, errors.OfferGone):
            self._catalogue.ran_dry(offer)
        elif isinstance(problem, errors.LaunchRefused) and registry is not None and failure.says("registry"):
            self._logins.forget(registry)
        elif isinstance(problem, errors.OutcomeUnknown):
            if failure.status == 400 and failure.is_json:
                return self._rejection(failure, offer, mark)
            self._catalogue.used(offer)
        return problem

    def _rejection(self, failure: failures.Failure, offer: offers.Offer, mark: labels.Mark) -> errors.CloudError:
        """A 400 in words not known here is said both of stock and of launches: one that every candidate meets is the
        launch's fault."""
        count = self._rejected[mark.owner_uid] = self._rejected.get(mark.owner_uid, 0) + 1
        if count >= MOST_REJECTIONS:
            del self._rejected[mark.owner_uid]
            why = f"refused the launch for {count} different offers: {failure.text}"
            return errors.LaunchRefused(self.name, why)
        self._catalogue.ran_dry(offer)
        return errors.OfferGone(self.name, f"refused this offer: {failure.text}")

    def _bought(
        self, pod: wire.Pod, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark
    ) -> instances_.Instance:
        told = self._instance(pod)
        price = told.usd_per_hour
        if not price:
            disk_usd = offer.usd_per_gib_month * launch.disk_gib / offers.HOURS_PER_MONTH
            price = (launch.bid_usd_per_hour or offer.usd_per_hour) + disk_usd
        return instances_.Instance(
            cloud=self.name,
            id=pod.id,
            state=instances_.State.PROVISIONING,
            label=str(mark),
            machine_id=told.machine_id,
            gpu_name=offer.gpu_name,
            gpu_count=offer.gpu_count,
            region=told.region or offer.region,
            usd_per_hour=price,
            started_s=told.started_s or self._clock.now_s(),
            image=launch.image or None,
            template=launch.template,
            tags={name: value for name, value in launch.env.items() if name.startswith("BAREBOAT_")},
        )
