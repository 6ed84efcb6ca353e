"""Makes, finds and removes what a client has in the cluster: a key in the Secret, a Service, a Pod, in this order.

Either all of it stands in the end or nothing: whatever fails on the way, what the request made is taken back. The
state lies in the cluster alone; two processes may serve one namespace.
"""

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.plumbing import clock as clocks
from bareboat.provision import found, keyring, manifests, node_ports, order, refusals

log = structlog.get_logger()

T = TypeVar("T")

GRACE_S = 5
"""What a pod that is replaced or deleted gets to end by itself."""
GONE_S = 30.0
POLL_S = 0.25
TAKE_BACK_S = 20.0
UNSETTLED_S = 90.0
"""Longer than any request takes to make a client: what is older was left by a process that died."""
RECOVERY_S = 30.0
_TRIES = 8
_PORT_TRIES = 200
_Services = objects.Page[found.Service]
_CACHED = {"resourceVersion": "0"}
"""A list that is to be the newest waits some 80 ms until the API server's cache has caught up (seen on 1.36)."""


@dataclass
class _Line:
    """Requests for one client, one after the other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Provisioner:
    """All of one namespace. `most_pods` is the quota of clients (None: no limit)."""

    def __init__(
        self, client: clients.Client, namespace: str, clock: clocks.Clock, *, most_pods: int | None = None
    ) -> None:
        self._client = client
        self.namespace = namespace
        self._clock = clock
        self._most_pods = most_pods
        self._keys = keyring.Keyring(client, namespace, clock)
        self._held = node_ports.Held()
        self._lines: collections.defaultdict[str, _Line] = collections.defaultdict(_Line)
        self._door = asyncio.Lock()
        self._admitted_now: set[str] = set()
        self._stopping = asyncio.Event()

    async def provision(self, asked: order.Order, wait_s: float = 0.0) -> dict[str, Any]:
        """The document's answer; with `wait_s` also how it goes with the pod by then, at the latest.

        Replaces what the same request made before, keeping its node ports. Five calls to the API server. Raises
        `refusals.Refused`; then nothing of the client is left, or what stood before was not touched.
        """
        async with self._alone(asked.name), self._admitted(asked.name):
            answer = await self._make(asked)
            await self._keys.settled(asked.name)
        log.info("client.provisioned", client=asked.name, image=asked.image, gpu=asked.gpu is not None)
        if wait_s <= 0:
            return answer
        return {**answer, **await self._settled(asked, wait_s)}

    async def all(self) -> list[dict[str, Any]]:
        """Every client, by name; two calls."""
        pods, services = await asyncio.gather(self._pods(), self._services_of_clients())
        by_pod = {manifests.client_of(pod.metadata.name): pod for pod in pods}
        by_service = {manifests.client_of(service.metadata.name): service for service in services}
        names = sorted({*by_pod, *by_service})
        return [found.description(name, self.namespace, by_pod.get(name), by_service.get(name)) for name in names]

    async def one(self, name: str, wait_s: float = 0.0) -> dict[str, Any]:
        """A client by its name, its pod's or its Service's; 404 if there is none. Waits until the pod is ready."""
        name = manifests.client_of(name)
        deadline_s = self._clock.monotonic_s() + wait_s
        while True:
            pod, service = await self._ours(name)
            if pod is None and service is None:
                raise _unknown(name, self.namespace)
            if pod is None or pod.ready or pod.over or self._is_over(deadline_s):
                return found.description(name, self.namespace, pod, service)
            await clocks.within(self._clock, self._stopping, POLL_S)

    async def remove(self, name: str) -> dict[str, Any]:
        """Deletes the client's Pod and Service and takes its key out of the Secret; 404 if there is none."""
        name = manifests.client_of(name)
        async with self._alone(name):
            await self._ours(name)
            await self._keys.begins(name)
            if not await self._take_back(name):
                raise _unknown(name, self.namespace)
        log.info("client.removed", client=name)
        return {"deleted": name, "namespace": self.namespace}

    def stop_waiting(self) -> None:
        """Requests that wait for a pod are answered with how it stands now: the service is about to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Once in a while for ever, from the start on: takes back what a process that died left half made."""
        while True:
            try:
                await self.recover()
            except (refusals.Refused, errors.KubeError) as failure:
                log.warning("clients.unrecovered", why=str(failure))
            await self._clock.sleep(RECOVERY_S)

    async def recover(self) -> list[str]:
        """Clients that somebody began to make or remove and did not finish: one that stands as a whole stays, of
        others nothing is left. Returns the names of those. Raises `refusals.Refused` and `KubeError`."""
        gone = []
        for name in await self._keys.unsettled(self._clock.now_s() - UNSETTLED_S):
            async with self._alone(name):
                # Meanwhile it may have been finished, here or elsewhere.
                if name not in await self._keys.unsettled(self._clock.now_s() - UNSETTLED_S):
                    continue
                pod, service = await asyncio.gather(self._pod(name), self._service(name))
                if pod is None or service is None:
                    await self._take_back(name)
                    gone.append(name)
                    log.warning("client.half_made", client=name, why="a process died while it was made: taken back")
                await self._keys.settled(name)
        await self._keys.drop_empty()
        return gone

    async def check(self) -> None:
        """Raises `refusals.Refused` when the namespace can't be worked in. Two cheap calls."""
        path = resources.SERVICES.path(self.namespace)
        await self._tell(self._client.list(path, item=found.Service, limit=1, timeout_s=5.0), "list Services")
        try:
            await self._client.get(resources.NAMESPACES.path(name=self.namespace), timeout_s=5.0)
        except errors.Forbidden:
            # A right that is of use here alone; without it a missing namespace shows with the first request.
            return
        except errors.KubeError as failure:
            raise refusals.from_cluster(failure, "read the Namespace", self.namespace) from failure

    async def _make(self, asked: order.Order) -> dict[str, Any]:
        services = await self._services()
        stood_before = any(each.metadata.name == manifests.service_name(asked.name) for each in services)
        steps = 0
        try:
            await self._keys.put(asked.name, asked.key.line)
            steps = 1
            http, ssh = await self._put_service(asked, services)
            steps = 2
            await self._put_pod(asked)
        except BaseException as failure:
            if steps + (not _surely_not_made(failure)) and not (stood_before and steps < 2):
                await self._undo(asked.name, failure)
            raise
        return found.answer(asked.name, self.namespace, http, ssh)

    async def _undo(self, name: str, failure: BaseException) -> None:
        # Shielded: a service that is told to stop leaves nothing half made either.
        left = await asyncio.shield(asyncio.ensure_future(self._take_back_quietly(name)))
        if left and isinstance(failure, refusals.Refused):
            more = refusals.Problem("cluster", f"what had been made could not be taken back: {left}")
            raise refusals.Refused(failure.status, [*failure.problems, more], failure.after_s) from failure

    async def _put_service(self, asked: order.Order, services: list[found.Service]) -> tuple[int, int]:
        """Creates it, or makes the one of that name what it should be; then its ports stay as they are."""
        name = manifests.service_name(asked.name)
        present = next((each for each in services if each.metadata.name == name), None)
        used = {port for each in services for port in each.node_ports}
        with self._held.choosing() as choosing:
            for _ in range(_PORT_TRIES):
                kept = present.pair if present is not None else None
                try:
                    return await self._write_service(asked, present, kept or choosing.pair(used))
                except (errors.Conflict, errors.NotFound, errors.Invalid, errors.ServerError) as refusal:
                    if isinstance(refusal, errors.Conflict) or (present and isinstance(refusal, errors.NotFound)):
                        present = await self._service(asked.name)
                        continue
                    used |= await self._more_used(refusal, used)
                except errors.KubeError as failure:
                    raise refusals.from_cluster(failure, f"make the Service {name}", self.namespace) from failure
        raise refusals.refused(409, "NAMESPACE", "no free node ports were found; delete clients or try again", 5.0)

    async def _write_service(
        self, asked: order.Order, present: found.Service | None, ports: tuple[int | None, int | None]
    ) -> tuple[int, int]:
        body = manifests.service(asked, *ports)
        if present is None:
            made = await self._client.create(resources.SERVICES.path(self.namespace), body, type=found.Service)
        else:
            body["metadata"]["resourceVersion"] = present.metadata.resource_version
            body["spec"]["clusterIP"] = present.spec.cluster_ip
            path = resources.SERVICES.path(self.namespace, present.metadata.name)
            made = await self._client.replace(path, body, type=found.Service)
        return made.port("http") or 0, made.port("ssh") or 0

    async def _more_used(self, refusal: errors.ApiError, used: set[int]) -> set[int]:
        """Ports to pass over after a refusal; raises `refusals.Refused` when it was not about taken ports."""
        if node_ports.out_of_range(refusal.detail):
            return set(range(node_ports.SSH, node_ports.HIGHEST + 1))
        if node_ports.exhausted(refusal.detail):
            raise refusals.refused(409, "NAMESPACE", "the cluster has no free node port; delete clients first", 30.0)
        taken = node_ports.taken(refusal.detail)
        if not taken - used:
            raise refusals.from_cluster(refusal, "make the Service", self.namespace) from refusal
        try:
            everywhere = await self._client.get(resources.SERVICES.path(), type=_Services, query=_CACHED)
        except errors.KubeError:
            # A right that a service of one namespace need not have: then one port at a time.
            return set(taken)
        return set(taken).union(*(each.node_ports for each in everywhere.items or ()))

    async def _put_pod(self, asked: order.Order) -> None:
        doing = f"make the Pod {manifests.pod_name(asked.name)}"
        for _ in range(_TRIES):
            if await self._created(resources.PODS, manifests.pod(asked), doing, "container_img_url"):
                return
            await self._delete(resources.PODS, manifests.pod_name(asked.name))
            await self._until_gone(asked.name)
        raise refusals.refused(409, "pod_name", f"could not {doing}: others make it all the time; repeat", 1.0)

    async def _created(
        self, kind: resources.Resource, body: manifests.Manifest, doing: str, field: str = "cluster"
    ) -> bool:
        """False when one of that name is there."""
        try:
            await self._client.create(kind.path(self.namespace), body)
        except errors.KubeError as failure:
            if isinstance(failure, errors.Conflict) and failure.already_exists:
                return False
            raise refusals.from_cluster(failure, doing, self.namespace, field) from failure
        return True

    async def _until_gone(self, name: str) -> None:
        give_up_s = self._clock.monotonic_s() + GONE_S
        while (pod := await self._pod(name)) is not None and pod.metadata.deletion_timestamp is not None:
            if self._clock.monotonic_s() > give_up_s:
                told = (
                    f"the Pod {manifests.pod_name(name)} of before has not ended within {GONE_S:g} s; try again later"
                )
                raise refusals.refused(409, "pod_name", told, 10.0)
            await self._clock.sleep(POLL_S)

    async def _settled(self, asked: order.Order, wait_s: float) -> dict[str, Any]:
        """Waits until the pod is ready, has ended, or can't pull its image: then all is taken back."""
        deadline_s = self._clock.monotonic_s() + wait_s
        while True:
            pod = await self._pod(asked.name)
            if pod is not None and pod.unpullable:
                async with self._alone(asked.name):
                    await self._take_back(asked.name)
                raise refusals.refused(422, "container_img_url", f"can't be pulled: {pod.unpullable}")
            if pod is None or pod.ready or pod.over or self._is_over(deadline_s):
                return found.standing(pod)
            await clocks.within(self._clock, self._stopping, POLL_S)

    def _is_over(self, deadline_s: float) -> bool:
        return self._stopping.is_set() or self._clock.monotonic_s() >= deadline_s

    @asynccontextmanager
    async def _admitted(self, name: str) -> AsyncIterator[None]:
        """Holds a place of the quota while the client is made: clients who come at once can't pass it together."""
        if self._most_pods is None:
            yield
            return
        async with self._door:
            # Those admitted before the list may have their pod only after it, and be done by then.
            live = {name, *self._admitted_now}
            live |= {manifests.client_of(pod.metadata.name) for pod in await self._pods() if not pod.over}
            if len(live) > self._most_pods:
                told = (
                    f"allows {self._most_pods} clients in {self.namespace!r}, and there are as many; delete one first"
                )
                raise refusals.refused(429, "PROVISION_MAX_PODS", told, 60.0)
            self._admitted_now.add(name)
        try:
            yield
        finally:
            self._admitted_now.discard(name)

    async def _take_back_quietly(self, name: str) -> str:
        """What is left of the client, in a sentence; empty when nothing is."""
        try:
            async with asyncio.timeout(TAKE_BACK_S):
                await self._take_back(name)
        except (refusals.Refused, errors.KubeError, TimeoutError) as failure:
            log.warning("client.left_over", client=name, why=str(failure))
            return str(failure) or f"not done within {TAKE_BACK_S:g} s"
        return ""

    async def _take_back(self, name: str) -> bool:
        """Removes all three, the key with the note of it last; goes on after a failure, and raises the first one in the
        end. False: there was nothing."""
        steps = (
            self._delete(resources.PODS, manifests.pod_name(name)),
            self._delete(resources.SERVICES, manifests.service_name(name)),
        )
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        had_key = await self._keys.drop(name)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return had_key or any(outcomes)

    async def _delete(self, kind: resources.Resource, name: str) -> bool:
        grace_s = GRACE_S if kind is resources.PODS else None
        try:
            await self._client.delete(kind.path(self.namespace, name), grace_s=grace_s)
        except errors.NotFound:
            return False
        except errors.KubeError as failure:
            raise refusals.from_cluster(failure, f"delete the {kind.kind} {name}", self.namespace) from failure
        return True

    async def _ours(self, name: str) -> tuple[found.Pod | None, found.Service | None]:
        """The client's Pod and Service; 404 when one of them is somebody else's."""
        pod, service = await asyncio.gather(self._pod(name), self._service(name))
        for each in (pod, service):
            if each is not None and (each.metadata.labels or {}).get(manifests.CLIENT) != name:
                raise _unknown(name, self.namespace)
        return pod, service

    async def _pods(self) -> list[found.Pod]:
        path = resources.PODS.path(self.namespace)
        listing = self._client.list(path, item=found.Pod, label_selector=manifests.CLIENT)
        return (await self._tell(listing, "list Pods")).items or []

    async def _services(self) -> list[found.Service]:
        """As the API server's cache has them, and so perhaps a moment old: what matters is checked by the write."""
        listing = self._client.get(resources.SERVICES.path(self.namespace), type=_Services, query=_CACHED)
        return (await self._tell(listing, "list Services")).items or []

    async def _services_of_clients(self) -> list[found.Service]:
        path = resources.SERVICES.path(self.namespace)
        listing = self._client.list(path, item=found.Service, label_selector=manifests.CLIENT)
        return (await self._tell(listing, "list Services")).items or []

    async def _pod(self, name: str) -> found.Pod | None:
        path = resources.PODS.path(self.namespace, manifests.pod_name(name))
        return await self._tell(self._or_none(path, found.Pod), "read the Pod")

    async def _service(self, name: str) -> found.Service | None:
        path = resources.SERVICES.path(self.namespace, manifests.service_name(name))
        return await self._tell(self._or_none(path, found.Service), "read the Service")

    async def _or_none(self, path: str, kind: type[T]) -> T | None:
        try:
            return await self._client.get(path, type=kind)
        except errors.NotFound:
            return None

    async def _tell(self, call: Awaitable[T], doing: str) -> T:
        try:
            return await call
        except errors.KubeError as failure:
            raise refusals.from_cluster(failure, doing, self.namespace) from failure

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        line = self._lines[name]
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                self._lines.pop(name, None)


def _surely_not_made(failure: BaseException) -> bool:
    """Whether the API server said no, so that the step it refused made nothing."""
    return isinstance(failure, refusals.Refused) and failure.status < 500


def _unknown(name: str, namespace: str) -> refusals.Refused:
    return refusals.refused(404, "name", f"is {name[:80]!r}, and {namespace!r} has no such client")
